"""Images with a class for every pixel: what the forms in `formats/` return for a place, and how a map is read."""

import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int32

from unmask.data.annotations.geometry import shown_size
from unmask.data.annotations.legend import FILES, Legend, joined, read_yaml
from unmask.data.annotations.objects import Scene
from unmask.data.labels import is_hidden, is_image_name, natural
from unmask.data.names import split_of


class Maps(ABC):
    """Forms set the fields when they open a place; reading is safe from several threads and processes."""

    checks: ClassVar[bool] = False  # `truth` compares the size of a map with that of its sample by itself

    def __init__(self, form: str, place: Path, legend: Legend):
        self.form, self.where, self.legend = form, str(place), legend
        self.scenes: list[Scene] = []
        self.lost: list[tuple[str, str]] = []  # name, reason: images without truth, and the reverse
        self.remarks: list[str] = []
        self.notes: defaultdict[str, set[str]] = defaultdict(set)  # what was done to masks -> names of their images
        self.held: tuple[str, np.ndarray] = "", np.zeros((0, 0), np.int32)  # the last truth that parts were cut from
        self.nodata: frozenset[int] = frozenset()  # further numbers that mean no class, such as -9999
        self.common = legend  # what the numbers of `truth` are brought to where several places are read together

    def size_of(self, scene: Scene) -> tuple[int, ...]:
        """Of its image along each axis, as it is shown. Raises BadImage or OSError."""
        return shown_size(scene.path)

    @abstractmethod
    def truth(self, scene: Scene, size: tuple[int, ...]) -> Int32[np.ndarray, "*size"]:
        """The number of every pixel, NO_CLASS for surely none. size: height, width of the image, for truth that is
        drawn. Raises BadImage or OSError."""


def give_one_legend(opened: Sequence[Maps]) -> None:
    """Brings several places together by the names of their classes; a place that names none takes those of the rest."""
    named = [maps.legend for maps in opened if maps.legend.names]
    common = joined(named or [Legend()], opened[0].remarks)
    for maps in opened:
        maps.legend, maps.common = maps.legend if maps.legend.names else common, common


def split_of_folders(folders: Sequence[str]) -> str | None:
    """The split that one of these folder names stands for: train, training, train2017 ..."""
    return next((split for folder in folders if (split := split_of(folder, whole=True))), None)


def images_below(root: Path, wanted: Callable[[str], bool] = is_image_name) -> list[str]:
    """Relative paths of all files with an image's ending, parts separated by /, in natural order."""
    return sorted(_walk(root, wanted), key=natural)


def _walk(root: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Linked folders are followed, as in all data; each real folder is visited once, so that cycles end."""
    seen: set[str] = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inner[:] = []
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not is_hidden(name))
        for name in files:
            if wanted(name) and not is_hidden(name):
                yield (Path(folder) / name).relative_to(root).as_posix()


@dataclass(frozen=True)
class Described:
    """One split as a .yaml beside the data describes it; paths are absolute or None."""

    split: str | None
    images: Path | None
    masks: Path | None = None
    annotations: Path | None = None


def described(place: Path) -> list[Described]:
    """The splits for which a .yaml, or one in a folder, names images, masks or annotations; else nothing."""
    files = [place] if place.suffix.lower() in (".yaml", ".yml") else [place / n for n in FILES if n.endswith("aml")]
    for file in files:
        content = read_yaml(file) if file.is_file() else None
        if not isinstance(content, dict):
            continue
        root = file.parent / str(content.get("path") or ".")
        splits = [_described(root, split, content.get(split)) for split in ("train", "val", "test")]
        if any(splits):
            return [split for split in splits if split is not None]
    return []


def _described(root: Path, split: str, value: object) -> Described | None:
    """None for what is no description of data: other programs have a config.yaml too."""
    if not isinstance(value, dict) or not {"images", "masks", "annotations"} & value.keys():
        return None
    paths = {name: root / str(value[name]) if value.get(name) else None for name in ("images", "masks", "annotations")}
    return Described(split, **paths)
