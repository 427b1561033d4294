"""Whether a text names weights: a file, a folder, or a model of timm. Light, so that a wrong one is refused at once."""

from pathlib import Path

from unmask.errors import UserError, closest_place
from unmask.models.names import nearest_model, timm_names, usable_names
from unmask.registry import parse

TIMM = "timm:"  # before a name, where a folder of the same name may lie here
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


def require_known(text: str | Path) -> None:
    """Raises UserError for what is neither there nor the name of a model that can be used, with the nearest of both."""
    named, text = str(text).startswith(TIMM), str(text).removeprefix(TIMM)
    path, name = Path(text), parse(text)[0].split(".")[0] if "/" not in text else ""
    if (path.exists() and not named) or name in usable_names():
        return
    if name in timm_names():
        raise UserError(f"{text}: timm's {name} cannot be used: its layers have no place where patches can be left out")
    if path.suffix in SUFFIXES or (path.parent != Path() and path.parent.is_dir()):
        raise UserError(f"{text}: there is no such file or folder{closest_place(path)}")
    near = closest_place(path)
    if near == "." and (model := nearest_model(text)):
        near = f", did you mean {model!r}?"
    if "/" in text:
        raise UserError(f"{text}: there is no such file or folder{near}")
    raise UserError(f"{text}: no folder, no file and no model of timm that can be used has this name{near}")
