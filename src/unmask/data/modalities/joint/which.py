"""Which kinds of data can be parts of samples, and which of them a file is."""

from pathlib import Path

from unmask.data.modalities.joint.classes import ClassMap
from unmask.data.modality import IMAGE, Modality, kinds, make_modality
from unmask.data.regular_files import head_of
from unmask.errors import UserError, closest
from unmask.plain import check_options
from unmask.registry import parse

CLASSES, NAME = "classes", "multimodal"
REFUSED = (NAME, "points")  # kinds that have no grid of units of their own


def kind_of_part(name: str, text: object) -> Modality:
    """The kind of a part. Raises UserError for one that cannot be a part of others."""
    if not isinstance(text, str):
        raise UserError(f"{NAME}: {name} is the kind of a part, such as image or audio(rate=8000); got {text!r}")
    kind, options = parse(text)
    if kind == CLASSES:
        check_options(ClassMap, CLASSES, options)
        own = ClassMap(**options)
        own.text = text
        return own
    allowed = [part for part in (*kinds(), CLASSES) if part not in REFUSED]
    if kind not in allowed:
        raise UserError(
            f"{NAME}: {name}={kind} is no kind of a part{closest(kind, allowed)} There are: {', '.join(allowed)}"
        )
    own = make_modality(text)
    if getattr(own, "planes", 0):
        raise UserError(f"{NAME}: {name}={text} has planes that are told of the whole, which parts cannot have")
    return own


def kind_of_file(root: str, path: str) -> str | None:
    """The kind of data that a file is, images last."""
    head = head_of(str(Path(root, path)))
    names = sorted(kinds(), key=lambda name: name == IMAGE)
    return next((name for name in names if name not in REFUSED and kinds()[name].claims(path, head)), None)
