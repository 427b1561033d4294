"""Images whose every pixel has a class: what the parts in `scenes/` find, each for one way to keep that on disk."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from unmask import registry
from unmask.data.annotations.legend import FILES, Legend, read_legend, read_yaml
from unmask.data.labels import is_hidden, is_image_name, natural, printable
from unmask.data.source import Files, Item
from unmask.errors import DataError, UserError, closest_place

PARTS = "maps"
_SPLIT = re.compile(r"(train|training|val|valid|validation|test|testing)(19|20)?[0-9]{0,2}")
_CALLED = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


@dataclass(frozen=True)
class Scene:
    """An image and where its truth is; what that is, only the part knows."""

    name: str
    image: str  # path
    truth: Any
    split: str | None = None  # train, val or test


@dataclass
class Found:
    """What lies at a place."""

    scenes: list[Scene]
    lost: list[tuple[str, str]] = field(default_factory=list)  # name, reason: images without truth, and the reverse
    remarks: list[str] = field(default_factory=list)


class Scenes(ABC):
    """Parts fill in the fields when they are made from a place; reading is safe from several threads and processes."""

    where: str
    legend: Legend
    found: Found

    @classmethod
    @abstractmethod
    def accepts(cls, place: Path) -> bool:
        """True if this part can open what is at `place`; says nothing about whether it is sound."""

    @abstractmethod
    def truth(self, scene: Scene, size: tuple[int, int]) -> Int32[np.ndarray, "h w"]:
        """The number of every pixel, -1 for surely none. size: height, width of the image, for truth that is drawn.
        Raises BadImage or OSError."""


def photographs(where: str, scenes: Sequence[Scene]) -> Files:
    """The images of scenes, for whatever looks at images alone."""
    return Files(where, [Item(scene.name, None, scene.split) for scene in scenes], [scene.image for scene in scenes])


def open_scenes(places: Sequence[str], images: Path | None = None, classes: Path | None = None) -> list[Scenes]:
    """One part for each place, all with the same classes.

    images: the folder of the images, where they do not lie by the truth; classes: a file that names the classes,
    where none lies there. Raises UserError for a place that does not exist or that no part knows.
    """
    legend = None if classes is None else read_legend(classes)
    parts = [registry.find(PARTS, name) for name in registry.names(PARTS)]
    opened = []
    for place in map(Path, places):
        if not place.exists():
            raise UserError(f"{place} does not exist{closest_place(place)}")
        accepting = [part for part in parts if part.accepts(place)]
        if {"Coco", "Pairs"} <= {part.__name__ for part in accepting}:
            raise UserError(
                f"{place} has outlines in a .json and masks as images; give the one that is meant with --on"
            )
        part = next(iter(accepting), None)
        if part is None and images is not None and place.is_dir() and images_below(place):
            part = registry.find(PARTS, "pairs")  # a folder of masks, whatever it is called
        if part is None:
            boxes = coco_files(place, False)
            if boxes:
                raise DataError(
                    f"{place} has boxes, no outlines: to segment, annotations need polygons or RLE under"
                    f" `segmentation` in {boxes[0].name}. With boxes: --to detect"
                )
            raise DataError(
                f"{place} holds no segmented images that are known here: give a folder with images/ and masks/, or"
                " train/ and trainannot/, or a.jpg and a_mask.png side by side; a folder of masks, with --images for"
                " that of their images; a COCO .json with polygons or RLE; a panoptic .json with its PNG files beside"
                " it; or a .yaml that names such folders"
            )
        opened.append(part(place, images, legend))
    _json.cache_clear()  # a large table takes gigabytes, and the parts have what they need of it
    told = [scenes for scenes in opened if scenes.legend.names]
    for scenes in told[1:]:
        if scenes.legend.names != told[0].legend.names:
            raise DataError(f"{told[0].where} and {scenes.where} do not name the same classes; give --classes FILE")
    for scenes in opened:
        scenes.legend = scenes.legend if scenes.legend.names or not told else told[0].legend
    return opened


def split_of(parts: Sequence[str]) -> str | None:
    """The split that one of these folder names stands for: train, training, train2017 ..."""
    for part in parts:
        if match := _SPLIT.fullmatch(part.lower()):
            return _CALLED.get(match[1], match[1])
    return None


def split_in(name: str) -> str | None:
    """The split that a file's name mentions, as in instances_val2017.json."""
    return split_of(re.split(r"[^A-Za-z0-9]+", name))


def images_below(root: Path) -> list[str]:
    """Relative paths of all files with an image's ending, parts separated by /, in natural order."""
    return sorted(_walk(root), key=natural)


def _walk(root: Path) -> Iterator[str]:
    """Linked folders are followed, as in all data; a real folder that was seen is passed over, so that circles end."""
    seen: set[str] = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inner[:] = []
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not is_hidden(name))
        for name in files:
            if is_image_name(name) and not is_hidden(name):
                yield (Path(folder) / name).relative_to(root).as_posix()


@dataclass(frozen=True)
class Described:
    """One split as a .yaml beside the data describes it; paths are absolute or None."""

    split: str
    images: Path | None
    masks: Path | None = None
    annotations: Path | None = None


def described(place: Path) -> tuple[list[Described], Path | None]:
    """The splits that a .yaml, or one in a folder, names, and that file; nothing where there is none."""
    files = [place] if place.suffix.lower() in (".yaml", ".yml") else [place / n for n in FILES if n.endswith("aml")]
    for file in files:
        content = read_yaml(file) if file.is_file() else None
        if not isinstance(content, dict):
            continue
        root = file.parent / str(content.get("path") or ".")
        plain = "names" in content  # as YOLO writes it: a folder of images, and labels in the folder that mirrors it
        found = [_described(root, split, content.get(split), plain) for split in ("train", "val", "test")]
        if any(found):
            return [split for split in found if split is not None], file
    return [], None


def _described(root: Path, split: str, value: Any, plain: bool) -> Described | None:
    """None for what is no description of data: other programs have a config.yaml too."""
    if isinstance(value, str) and plain:
        inside = value.removeprefix("../")  # Roboflow's files begin one folder too high
        return Described(split, root / (value if (root / value).exists() else inside))
    if not isinstance(value, dict) or not {"images", "masks", "annotations"} & value.keys():
        return None
    paths = {name: root / str(value[name]) if value.get(name) else None for name in ("images", "masks", "annotations")}
    return Described(split, **paths)


class Beside:
    """Finds images that a file names, in the places where people keep them."""

    def __init__(self, near: Path, given: Path | None):
        """near: the folder of the file; given: where the user says that images are."""
        self.roots = [given] if given is not None else [near, near / "images", near.parent, near.parent / "images"]
        self.given = given

    def find(self, name: str) -> str | None:
        """The path of an image by its name, or by the last part of it, where only one image is called that."""
        name = name.replace("\\", "/")
        for root in self.roots:
            if (root / name).is_file():
                return str(root / name)
        return self._by_name().get(Path(name).name)

    def _by_name(self) -> dict[str, str]:
        return next((found for root in self.roots if (found := _named(str(root)))), {})


@lru_cache(maxsize=8)
def _named(root: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    if Path(root).name.lower() in ("images", "jpegimages", "img", "imgs") or len(os.path.abspath(root)) > 1:
        for path in images_below(Path(root)):
            found.setdefault(Path(path).name, []).append(str(Path(root) / path))
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


@lru_cache(maxsize=8)
def _json(path: str, changed: float) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def coco_like(path: Path) -> dict[str, Any] | None:
    """The content of a .json in COCO's form; None for another. Raises DataError for one that is no JSON."""
    content = _json(str(path), path.stat().st_mtime)
    keys = ("images", "annotations", "categories")
    return content if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys) else None


def has_outlines(path: Path) -> bool:
    """True for a .json in COCO's form in which some annotation has more than a box."""
    content = coco_like(path)
    return content is not None and any(isinstance(a, dict) and a.get("segmentation") for a in content["annotations"])


def is_panoptic(content: dict[str, Any]) -> bool:
    """True where annotations list segments of a PNG instead of outlines."""
    return any(isinstance(a, dict) and "segments_info" in a for a in content["annotations"][:9])


def coco_files(place: Path, panoptic: bool) -> list[Path]:
    """The .json files of one kind: the place itself, those in a folder, in its annotations/ or in its split folders."""
    if place.is_file():
        files = [place] if place.suffix.lower() == ".json" else []
    else:
        inner = [place, place / "annotations", *sorted(p for p in place.iterdir() if p.is_dir() and split_of([p.name]))]
        files = [
            file
            for folder in inner
            if folder.is_dir()
            for file in sorted(folder.iterdir())
            if file.suffix.lower() == ".json"
        ]
        files = [file for file in files if not file.name.startswith("classes.")]
    return [file for file in files if (c := coco_like(file)) is not None and is_panoptic(c) == panoptic]


def name_of(path: Path, root: Path) -> str:
    """A name for people, from the place on."""
    return printable(os.path.relpath(path, root) if root in path.parents else path.name)
