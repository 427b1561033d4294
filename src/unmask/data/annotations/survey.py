"""Reads all masks of segmented data once: their contents, and which of them cannot be used."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unmask.data.annotations.geometry import look_at, turned_mask
from unmask.data.annotations.legend import NO_CLASS, renumbered
from unmask.data.annotations.maps import Maps
from unmask.data.annotations.objects import Scene
from unmask.data.codecs.image import BadImage
from unmask.data.source import why
from unmask.runtime.cores import in_order

MANY = 8  # unknown numbers in a mask from which on edges may be blended


class Survey:
    """The contents of all masks, and which of them are bad."""

    def __init__(
        self,
        indices: list[int],
        scenes: list[tuple[Maps, Scene]],
        cache: Mapping[int, Any],  # decoded samples
        max_side: int,
        keep_bytes: int,
    ):
        self.bad: dict[int, str] = {}
        self.numbers: dict[int, dict[int, int]] = {}  # index -> number -> pixels
        self.raw: dict[int, np.ndarray] = {}
        self.digests: dict[int, bytes] = {}
        self.solid: set[int] = set()  # numbers that fill some place, and are not seen at edges alone
        self.merged: dict[int, int] = {}  # number -> the one that it counts as
        self.largest, room = 0, keep_bytes

        def look(index: int) -> tuple[int, np.ndarray | None, Any]:
            shape = tuple(cache[index].shape[1:]) if max_side and index in cache else None
            size = shape if shape and min(shape) < max_side else None  # at max_side, it may have been shrunk
            try:
                raw, size = read_scene(*scenes[index], size)
            except (BadImage, OSError) as error:
                return index, None, why(error)
            if raw.shape != size:
                return index, None, f"is {' x '.join(map(str, size))}, its mask {' x '.join(map(str, raw.shape))}"
            counts = np.bincount(raw.ravel() + 1)  # -1 is possible, and becomes place 0
            small = raw.astype(np.int16) if len(counts) < 2**15 else raw
            solid = _solid(raw) if not scenes[index][0].common.names and np.count_nonzero(counts) > 2 else None
            return index, small, (counts, solid, hashlib.blake2b(raw.tobytes(), digest_size=16).digest())

        for index, raw, told in in_order(look, indices):
            if raw is None:
                self.bad[index] = told
                continue
            counts, solid, self.digests[index] = told
            self.numbers[index] = {int(n) - 1: int(counts[n]) for n in np.flatnonzero(counts)}
            self.solid |= self.numbers[index].keys() if solid is None else solid
            self.largest = max(self.largest, len(counts) - 2)
            room -= raw.nbytes
            if room >= 0:
                self.raw[index] = raw

    def merge(self, numbers: Mapping[int, int]) -> None:
        """Counts numbers as others."""
        self.merged |= numbers
        for index, counts in self.numbers.items():
            merged: Counter[int] = Counter()
            for number, pixels in counts.items():
                merged[numbers.get(number, number)] += pixels
            self.numbers[index] = dict(merged)

    def seen(self, indices: Iterable[int]) -> set[int]:
        """All numbers in these masks."""
        return {number for i in indices for number in self.numbers[i] if number != NO_CLASS}

    def strange(self, class_numbers: set[int], its: str, unit: str) -> dict[int, str]:
        """Masks with numbers that no class has. its: "its mask has"; unit: what has a number, "pixel"."""
        strange = {}
        for index, counts in self.numbers.items():
            unknown = {n: pixels for n, pixels in counts.items() if n not in class_numbers and n != NO_CLASS}
            if unknown:
                which = ", ".join(map(str, list(unknown)[:3])) + (" and more" if len(unknown) > 3 else "")
                why = " (blended edges? Save masks without smoothing)" if len(unknown) > MANY else ""
                strange[index] = f"{its} the unknown class number {which} in {sum(unknown.values()):,} {unit}s{why}"
        return strange

    def counts(self, indices: Iterable[int], numbers: Sequence[int]) -> np.ndarray:
        """Number of pixels of each class, and finally of none."""
        totals = np.zeros(len(numbers) + 1, dtype=np.int64)
        places = {number: place for place, number in enumerate(numbers)}
        for i in indices:
            for number, pixels in self.numbers[i].items():
                totals[places.get(number, len(numbers))] += pixels
        return totals


def read_scene(part: Maps, scene: Scene, size: tuple[int, ...] | None = None) -> tuple[np.ndarray, tuple[int, ...]]:
    """The numbers of a mask, and the size of its image; of the part of it that is seen."""
    if scene.place:
        top, left, height, width = scene.place
        values = _whole_truth(part, scene)[top : top + height, left : left + width]
        return renumbered(values, part.legend, part.common), (height, width)
    if part.checks:
        values = renumbered(part.truth(scene, ()), part.legend, part.common)
        return values, values.shape
    size = size or part.size_of(scene)
    values = part.truth(scene, size)
    turned = len(size) == 2 and values.shape == size[::-1] != size
    if turned and (orientation := look_at(scene.path)[1]) > 4:
        values = turned_mask(values, orientation)
        part.notes["turned along with the image, which EXIF turns"].add(scene.name)
    return renumbered(values, part.legend, part.common), size


def _whole_truth(part: Maps, scene: Scene) -> np.ndarray:
    """Of all parts of a scene, which are asked for one after the other."""
    path, values = part.held
    if path != scene.path:
        values = part.truth(scene, scene.whole)
        if values.shape != scene.whole:
            sizes = f"{scene.whole[0]} x {scene.whole[1]}, its mask {values.shape[0]} x {values.shape[1]}"
            raise BadImage(f"is {sizes}")
        part.held = scene.path, values
    return values


def _solid(values: np.ndarray) -> set[int]:
    """Numbers of pixels that are like their four neighbours; all, of what lies in no plane."""
    if values.ndim < 2:
        return set(np.unique(values).tolist())
    inner = values[1:-1, 1:-1]
    beside = (values[:-2, 1:-1], values[2:, 1:-1], values[1:-1, :-2], values[1:-1, 2:])
    return set(np.unique(inner[np.logical_and.reduce([inner == other for other in beside])]).tolist())
