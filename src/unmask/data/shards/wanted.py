"""Which of the files of a sample is decoded: of the members of a tar that share a name, of the columns of a table."""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from unmask.data.codecs.scenes.signs import Head
from unmask.data.kinds import Sorting
from unmask.data.labels import is_image_name
from unmask.data.modality import IMAGE, Modality, Raw, kinds, make_modality

LABELS = ("cls", "label", "class", "category", "target")  # members, and keys of the json
TEXTS = ("txt", "text", "caption")
TOLD = (*LABELS, *TEXTS, "json")  # endings of what is told of a sample
IMAGES = ("image", "img", "rgb", "input", "photo")  # what the sample is called beside masks, depth and the like
DECLARED = {"Image": IMAGE, "Video": "video", "Audio": "audio", "Nifti": "volume"}  # kinds by the Hub's features
START = 1 << 16  # bytes that tell scenes from other images


@dataclass(frozen=True)
class Wanted:
    """Samples of one kind."""

    modality: Modality
    asked: bool = False  # a person asked for this kind: files that are usually of another one count too

    @property
    def images(self) -> bool:
        return self.modality.text.partition("(")[0] == IMAGE

    def may_be(self, name: str) -> bool:
        """Whether a file may be a sample, by its name alone."""
        if self.images:
            return is_image_name(name)
        name = name.lower()
        if not is_file(name) or name.endswith(self.modality.endings):
            return is_file(name)
        others = {ending for part in kinds().values() for ending in part.endings}
        return self.asked or not (is_image_name(name) or name.endswith(tuple(others)))

    def among(self, key: str, members: Mapping[str, bytes | None]) -> tuple[list[str], str]:
        """Endings of those members of a sample that are of this kind, the plainest first: `jpg` before `mask.png`,
        `rgb.png` before `depth.png`. And why it has none. members: content by ending; None: not of use."""
        endings = {f"{key}.{ending}": ending for ending in members}
        names = [name for name in endings if self._is(name, members[endings[name]])]
        remarks: list[str] = []
        if not self.images:
            groups, remarks = self.modality.grouped(names, None)
            names = [name for group in groups for name in group]
        if not names:
            return [], "; ".join([f"no {self.modality.word} among its members: {', '.join(members)}", *remarks])
        return sorted((endings[name] for name in names), key=_plainness), ""

    def _is(self, name: str, content: bytes | None) -> bool:
        if self.images or content is None or not self.may_be(name):
            return self.may_be(name)
        claims = self.modality.claims_if_wanted if self.asked else self.modality.claims
        return claims(name, head_of(content)) or name.lower().endswith(self.modality.endings)


def _plainness(ending: str) -> tuple[int, bool]:
    return ending.count("."), ending.split(".")[0] not in IMAGES


def is_file(name: str) -> bool:
    """Whether a member may be a sample, and not something that is told of one."""
    return name.rpartition(".")[2].lower() not in TOLD


def head_of(content: bytes) -> Head:
    return Head.of(io.BytesIO(content[:START]))


def wanted_of(kind: str | None, files: Iterable[tuple[str, bytes]], where: str) -> Wanted:
    """Samples of the kind that is asked for; where none is, of that which most of some files are of. kind: the text of
    a modality; files: names and contents. Raises UserError for a kind whose samples are several files, and for a
    tie."""
    if kind is None:
        sorting = Sorting(None)
        for name, content in files:
            sorting.put(name, lambda content=content: head_of(content))
        return Wanted(sorting.choose(where)[0])
    modality = make_modality(kind)
    modality.grouped((), None)  # raises where files alone are none
    return Wanted(modality, asked=True)


def settled(wanted: Wanted, contents: Iterable[Raw]) -> Wanted:
    """With what was left open chosen by a few samples."""
    readers: list[Callable[[], Raw]] = [lambda content=content: content for content in contents]
    return Wanted(wanted.modality.settled(readers), wanted.asked)
