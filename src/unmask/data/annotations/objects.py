"""Annotated objects in images, as the readers in `annotations/` return them, together with their faults.

Nothing here has looked at an image yet: `detection/boxed.py` does, and decides what of it can be used.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from torch import Tensor

from unmask.data.labels import is_hidden, is_image_name, natural, printable
from unmask.data.names import Key, Matches, key_of, match_names
from unmask.data.source import Files, Item

Box = tuple[float, float, float, float]  # left, top, right, bottom
Id = int | float | str  # of an image or a category, as its file has it
DEPTH = 6  # folders below the root in which images are looked for


@dataclass(frozen=True, slots=True)
class Instance:
    """One object. Coordinates count from the image's top left corner, right and bottom edges are not included."""

    name: str  # of its class
    box: Box
    polygons: tuple[tuple[float, ...], ...] = ()  # each x, y, x, y, ...
    rle: Mapping[str, Any] | None = None  # COCO's run lengths: {"size": [height, width], "counts": ...}
    crowd: bool = False  # many objects in one region: not learnt, and not counted against a detector

    @property
    def has_mask(self) -> bool:
        return bool(self.polygons) or self.rle is not None


@dataclass(slots=True)
class Scene:
    """An image and what was annotated in it."""

    path: str  # of the image's file
    name: str  # of the image, unique
    split: str | None = None  # "train", "val" or "test"
    instances: list[Instance] = field(default_factory=list)
    told_in: str = ""  # the file that told it, for messages
    stated: tuple[int, int] | None = None  # height, width as the annotation says; None: it does not say
    relative: bool = False  # coordinates are shares of width and height
    mask: str | None = None  # file with the class or segment of every pixel, in forms that have one
    segments: Mapping[int, int] | None = None  # number in a panoptic mask -> number of the class
    class_masks: Mapping[int, str] = field(default_factory=dict)  # number of a class -> file that shows where it is
    id_: Id | None = None  # that its annotation file gives it
    place: tuple[int, ...] = ()  # top, left, height and width of the part that is seen, of scenes
    whole: tuple[int, int] = (0, 0)  # height and width of all of it, where a part is seen
    turn: int = 1  # EXIF's orientation by which its annotations were turned to the image as shown


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: something left out, or repaired if `kind` says so."""

    kind: str  # e.g. "zero area"
    file: str
    detail: str
    of: str = "box"  # what is lost by it: "box", "image", "file", or "nothing" where it was mended


@dataclass
class Annotated:
    """What one reader found in a place."""

    form: str  # "coco", "voc" or "yolo"
    scenes: list[Scene]
    classes: list[str]
    ids: list[int]  # by which the data itself names the classes
    category_ids: dict[str, dict[str, Id]] = field(default_factory=dict)  # file -> class -> id as it is written there
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def drop_copies(self) -> None:
        """A file that a split names twice counts once, as it was annotated first."""
        kept: dict[tuple[str, str | None], Scene] = {}
        for scene in self.scenes:
            if kept.setdefault((scene.path, scene.split), scene) is not scene:
                self.fault("duplicate image", scene.name, f"comes again in {scene.told_in}", of="image")
        self.scenes = list(kept.values())

    def fault(self, kind: str, file: str, detail: str = "", of: str = "box") -> None:
        self.faults.append(Fault(kind, printable(file), printable(detail), of))


def photographs(where: str, scenes: Sequence[Scene]) -> Files:
    """The images of scenes as a source, for code that needs images only."""
    return Files(where, [Item(scene.name, None, scene.split) for scene in scenes], [scene.path for scene in scenes])


class Images:
    """All image files below some folders, found by the rule of `names`."""

    def __init__(self, roots: Iterable[str | Path]):
        self.roots = list(dict.fromkeys(os.path.abspath(root) for root in roots))

    @cached_property
    def keys(self) -> dict[str, Key]:
        """Every file with its key, from the innermost of the folders."""
        keys: dict[str, Key] = {}
        for root in self.roots:
            for path in walk(root, is_image_name):
                key = key_of(path[len(root) :])
                if path not in keys or len(key) < len(keys[path]):
                    keys[path] = key
        return keys

    def match(self, names: Iterable[str], prefer: Sequence[str] = ()) -> Matches:
        """The files that names mean; folders are only searched where one is not found by its whole path."""
        names = list(dict.fromkeys(names))
        paths = {name: path for name in names if (path := self._at(name))}
        if len(paths) == len(names):
            return Matches(paths)
        return match_names(names, self.keys, [f"{root}/" for root in self.roots], prefer, paths)

    def _at(self, name: str) -> str | None:
        paths = (os.path.normpath(os.path.join(root, name.replace("\\", "/"))) for root in self.roots)
        return next(filter(os.path.isfile, paths), None)


def walk(root: str, wanted: Callable[[str], bool], depth: int = DEPTH, seen: set[str] | None = None) -> Iterator[str]:
    """Files below a folder, in an order that depends on names only, those behind links last; hidden names are passed
    over, and so is a real folder that was `seen`: links may lead in circles."""
    seen = set() if seen is None else seen
    try:
        real = os.path.realpath(root)
        with os.scandir(root) as listing:
            entries = sorted((e for e in listing if not is_hidden(e.name)), key=lambda e: natural(e.name))
    except OSError:
        return
    if real in seen:
        return
    seen.add(real)
    linked = []
    for entry in entries:
        if wanted(entry.name):
            yield entry.path
        elif depth and entry.is_symlink():
            linked.append(entry)
        elif depth and entry.is_dir():
            yield from walk(entry.path, wanted, depth - 1, seen)
    for entry in linked:
        yield from walk(entry.path, wanted, depth - 1, seen)


def unique(names: Iterable[str]) -> list[str]:
    """Names that occur twice, in order."""
    return [name for name, count in Counter(names).items() if count > 1]


def number(text: Any) -> float:
    """A finite number, or ValueError with the text."""
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{text!r} is no finite number")
    return value


class Target(NamedTuple):
    """What is in an image, in its pixels."""

    boxes: Float[Tensor, "n 4"]  # left, top, right, bottom
    labels: Int64[Tensor, "n"]  # places in `classes`, from 0
    crowd: Bool[Tensor, "n"]
    masks: UInt8[Tensor, "n h w"] | None  # 0 and 1


class Shown(NamedTuple):
    """An image with what is in it."""

    image: Shaped[Tensor, "c h w"]
    target: Target
