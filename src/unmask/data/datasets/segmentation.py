"""Segmented images for training: every image and mask read and checked, in train, val and test."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from unmask.data.annotations.find import open_maps
from unmask.data.annotations.legend import VOID, Legend
from unmask.data.annotations.maps import Maps
from unmask.data.annotations.mask_files import LARGEST
from unmask.data.annotations.objects import Scene, photographs
from unmask.data.annotations.survey import MANY, Survey, read_scene
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.images import Samples
from unmask.data.datasets.left_out import refuse_or_say
from unmask.data.datasets.splits import split_images
from unmask.data.labels import learnt_and_tested, some
from unmask.data.sheet import Sheet, inspect
from unmask.data.source import Source, why
from unmask.errors import DataError

KEEP = 2**31  # bytes of decoded images, and of maps, that are kept in memory
RARE = 1e-3  # share of the pixels of a class below which that is worth saying


@dataclass(frozen=True)
class SegmentSheet(Sheet):
    """The data sheet of the images and of the classes of their pixels."""

    class_numbers: dict[str, int] = field(default_factory=dict)  # class -> its number in masks
    void_numbers: list[int] = field(default_factory=list)
    pixel_shares: dict[str, dict[str, float]] = field(default_factory=dict)  # split -> class -> share; void apart
    void_shares: dict[str, float] = field(default_factory=dict)  # split -> of all pixels
    images_with: dict[str, int] = field(default_factory=dict)  # class -> training images that show it
    left_out: list[tuple[str, str]] = field(default_factory=list)  # name, reason: images and masks
    format: str = ""  # of the annotations


class Segments:
    """The images of a split with their maps. For the loader, a map is the last channel of its image, so that both
    are cropped, resized and mirrored together."""

    labels = None

    def __init__(self, samples: Samples, maps: Callable[[int], np.ndarray], indices: Sequence[int]):
        self.samples, self.maps, self.indices = samples, maps, list(indices)
        self.modality = samples.source.modality
        self.names, self.channels = samples.names, samples.channels + self.modality.planes + 1

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, i: int) -> Shaped[Tensor, "c h w"]:
        """Image and map, both as large as the image is kept; one that went bad is replaced by the next good one."""
        pixels, place = self.samples.substitute(i)
        map_ = torch.from_numpy(self._known(pixels, self.maps(self.indices[place])))[None, None]
        if map_.shape[2:] != pixels.shape[1:]:
            map_ = torch.nn.functional.interpolate(map_, pixels.shape[1:], mode="nearest-exact")
        return torch.cat([pixels, map_[0].to(pixels.dtype)])

    def pair(self, i: int) -> tuple[Shaped[Tensor, "c h w"], UInt8[np.ndarray, "h w"]]:
        """Image `i` as it is kept, and its map at the image's own size; replaced likewise."""
        pixels, place = self.samples.substitute(i)
        return pixels, self._known(pixels, self.maps(self.indices[place]))

    def picture(self, pixels: Shaped[Tensor, "c h w"]) -> Shaped[Tensor, "k h w"]:
        """An image as it is drawn."""
        return self.modality.shown(pixels, pixels)

    def _known(self, pixels: Shaped[Tensor, "c h w"], map_: UInt8[np.ndarray, "p q"]) -> UInt8[np.ndarray, "p q"]:
        """The same map, void where the image has no value."""
        if not self.modality.gaps or map_.shape != tuple(pixels.shape[1:]):
            return map_
        return np.where(self.modality.values(pixels).isnan().all(dim=0).numpy(), np.uint8(VOID), map_)


class Segmented:
    """The splits of segmented data; missing splits are drawn by the seed."""

    def __init__(
        self,
        places: Sequence[str],
        *,
        max_side: int,  # pixels, as for `decode`: of images while training
        images: Path | None = None,  # their folder, where they do not lie by the truth
        classes: Path | None = None,  # a file that names the classes, where none lies there
        void: Sequence[str] = (),  # names or numbers of what is no class; see Legend.void
        most: int | None = None,  # training images
        seed: int = 0,
        max_bad: float | None = None,  # share of bad images and masks above which the data is refused
        say: Callable[[str], Any] = lambda text: None,
        progress: Callable[[int, int], None] | None = None,
    ):
        """Raises UserError and DataError if there is nothing to learn from; names what is left out."""
        self.parts = self._open(places, images, classes)
        for remark in [remark for part in self.parts for remark in part.remarks]:
            say(remark)
        self.scenes = self._divided([(p, scene) for p in self.parts for scene in _named_apart(p, len(self.parts) > 1)])
        self.where, self.max_side = ", ".join(part.where for part in self.parts), max_side
        self.source = self._source([scene for _, scene in self.scenes])
        everything = list(range(len(self.scenes)))
        for part in self.parts:
            part.nodata = frozenset(n for n in part.common.void(void) if not 0 <= n <= LARGEST)
        sheet, self.cache = inspect(
            self.source, max_side=max_side, limit=len(everything), keep_bytes=KEEP, progress=progress
        )
        lost = [pair for part in self.parts for pair in part.lost]
        bad = {index: reason for index, _, reason in sheet.bad}
        looked = Survey([i for i in everything if i not in bad], self.scenes, self.cache, max_side, KEEP)
        bad |= looked.bad
        for note, names in [pair for part in self.parts for pair in part.notes.items()]:
            say(f"{len(names):,} masks: {note}")
        self.legend = self.parts[0].common
        self.numbers, names, self.void = _classes(self.legend, void, looked, say)
        bad |= looked.strange(set(self.numbers) | self.void)
        left_out = [*lost, *((self.scenes[i][1].name, bad[i]) for i in sorted(bad))]
        refuse_or_say(left_out, len(everything) + len(lost), max_bad, self.where, say)
        good = [i for i in everything if i not in bad]
        seen = looked.seen(good)
        unseen = [name for number, name in zip(self.numbers, names) if number not in seen]
        if unseen:
            say(f"{len(unseen)} of the classes are nowhere in the data and are left out: {some(unseen, 8)}")
        self.classes = [name for number, name in zip(self.numbers, names) if number in seen]
        self.numbers = [number for number in self.numbers if number in seen]
        _check_classes(self.classes, looked, good, self.void, self.where)
        self.table = _table(self.numbers, looked)
        self.kept = {i: self.table[looked.raw.pop(i) + 1] for i in good if i in looked.raw}
        self.splits = split_images([scene.split for _, scene in self.scenes], good, most=most, seed=seed, say=say)
        if not self.splits["train"] or not self.splits["test"]:
            raise DataError(f"{len(good)} good images are too few to learn from and to test on")
        files = {split: [self.scenes[i][1].path for i in places] for split, places in self.splits.items()}
        for remark in learnt_and_tested(files["train"], files["val"] + files["test"]):
            say(remark)
        self.said = ", ".join(f"{len(indices):,} {split}" for split, indices in self.splits.items())
        counts = {split: looked.counts(indices, self.numbers) for split, indices in self.splits.items()}
        self.pixels = {split: class_pixels[:-1] for split, class_pixels in counts.items()}  # of each class
        self.sheet = self._sheet(sheet, counts, looked, left_out)
        for line in self._remarks():
            say(line)

    def _open(self, places: Sequence[str], images: Path | None, classes: Path | None) -> Sequence[Maps]:
        return open_maps(places, images, classes)

    def _source(self, scenes: list[Scene]) -> Source:
        return photographs(self.where, scenes)

    def _divided(self, scenes: list[tuple[Maps, Scene]]) -> list[tuple[Maps, Scene]]:
        """Parts of large scenes, each for itself."""
        return scenes

    def segments(self, split: str, channels: int, rows: Sequence[int] | None = None) -> Segments:
        """The images of a split, or those at given indices, with their maps."""
        indices = self.splits[split] if rows is None else [self.splits[split][row] for row in rows]
        samples = Samples(self.source, indices, channels=channels, max_side=self.max_side, cache=self.cache)
        return Segments(samples, self.map, indices)

    def map(self, index: int) -> UInt8[np.ndarray, "*size"]:
        """The class of every pixel of a scene, as an index into `classes`, or VOID."""
        if index not in self.kept:
            part, scene = self.scenes[index]
            try:
                return self.table[read_scene(part, scene)[0] + 1]
            except (BadImage, OSError) as error:
                raise DataError(f"the mask of {scene.name} was good and cannot be read now: {why(error)}") from error
        return self.kept[index]

    def _remarks(self) -> Iterator[str]:
        train, test = self.pixels["train"], self.pixels["test"]
        foreign = [name for name, a, b in zip(self.classes, train, test) if not a and b]
        if foreign:
            yield f"the test split has classes that the train split lacks, which cannot be learnt: {some(foreign, 8)}"
        missing = [name for name, a, b in zip(self.classes, train, test) if a and not b]
        if missing:
            yield f"the test split has no pixel of {some(missing, 8)}: learnt, but not tested"
        rare = [f"{name} ({share:.3%})" for name, share in self.sheet.pixel_shares["train"].items() if 0 < share < RARE]
        if rare:
            yield f"rare classes, with their share of the pixels: {some(rare, 8)}; --balanced on weighs them more"

    def _sheet(
        self, sheet: Sheet, counts: dict[str, np.ndarray], looked: Survey, left_out: list[tuple[str, str]]
    ) -> SegmentSheet:
        def share(pixels: np.ndarray) -> dict[str, float]:
            return {name: float(n / max(1, pixels[:-1].sum())) for name, n in zip(self.classes, pixels)}

        truth = hashlib.blake2b(sheet.fingerprint.encode(), digest_size=16)
        for index in sorted(looked.digests):
            truth.update(looked.digests[index])
        truth.update(repr((self.numbers, sorted(self.void))).encode())
        shows = Counter(number for i in self.splits["train"] for number in looked.numbers[i])
        more = {
            "fingerprint": truth.hexdigest(),
            "class_numbers": dict(zip(self.classes, self.numbers)),
            "void_numbers": sorted(self.void),
            "pixel_shares": {
                split: share(class_pixels) for split, class_pixels in counts.items() if len(self.splits[split])
            },
            "void_shares": {s: float(n[-1] / max(1, n.sum())) for s, n in counts.items() if len(self.splits[s])},
            "images_with": {name: shows[number] for name, number in zip(self.classes, self.numbers)},
            "left_out": left_out,
            "format": self.parts[0].form,
        }
        return SegmentSheet(**(vars(sheet) | more))


def _classes(
    legend: Legend, void_classes: Sequence[str], looked: Survey, say: Callable[[str], Any]
) -> tuple[list[int], list[str], set[int]]:
    """Numbers and names of the classes, and the numbers that are void. Without names, the numbers found are classes.

    Raises DataError for masks whose edges are blended, which have numbers that are no classes.
    """
    void = legend.void(void_classes)
    if not legend.names:
        _undo_blending(looked, say)
    seen = looked.seen(looked.numbers)
    if VOID in seen & void and not void_classes and seen != {0, VOID}:
        share = _share(looked, looked.numbers, VOID)
        say(f"255 is void, neither learnt nor judged: {share:.1%} of the pixels; --void none takes it for a class")
    if legend.names:
        numbers = [number for number in sorted(legend.names) if number not in void]
        return numbers, [legend.names[number] for number in numbers], void
    if not seen:  # every mask is bad, which is said next
        return [], [], void
    if seen in ({0, VOID}, {0, 1}) and not seen & (void - {VOID}) and (not void_classes or VOID not in seen):
        say(f"no file names the classes; masks are {' and '.join(map(str, sorted(seen)))}: background and object")
        return sorted(seen), ["background", "object"], void - seen
    numbers = sorted(seen - void)
    say(f"no file names the classes: the numbers in the masks are taken for them ({some(list(map(str, numbers)), 8)})")
    once = [str(n) for n in numbers if sum(n in mask_numbers for mask_numbers in looked.numbers.values()) == 1]
    if once and len(looked.numbers) > 4:
        say(f"numbers that occur in one mask alone: {some(once, 8)}; are they meant? A classes.json would tell")
    return numbers, [str(number) for number in numbers], void


def _check_classes(classes: Sequence[str], looked: Survey, good: Sequence[int], void: set[int], where: str) -> None:
    """Raises DataError for fewer classes than can be told apart, and for more than a map holds."""
    if len(classes) < 2:
        only = f"{classes[0]} alone" if classes else "none, only void"
        share = _share(looked, good, VOID) if VOID in void else 0
        more = f"; 255 is void, in {share:.0%} of the pixels: --void none takes it for a class" if share else ""
        raise DataError(f"two classes or more can be told apart; the masks of {where} have {only}{more}")
    if len(classes) > VOID:
        raise DataError(f"at most {VOID} classes can be learnt here; {where} has {len(classes)}")


def _share(looked: Survey, indices: Iterable[int], number: int) -> float:
    """Of all pixels, those that have a number."""
    of_number, others = looked.counts(indices, [number]).tolist()
    return of_number / max(1, of_number + others)


def _undo_blending(looked: Survey, say: Callable[[str], Any]) -> None:
    """Masks of two values that were smoothed as they were resized or saved have others at edges: the nearer counts."""
    seen = looked.seen(looked.numbers)
    edges, ends = sorted(seen - looked.solid), sorted(seen & looked.solid)
    between = [number for number in edges if ends and ends[0] < number < ends[-1]]
    if len(between) < MANY:
        return
    if len(ends) != 2:
        raise DataError(
            f"{len(between)} numbers are in the masks at edges alone ({some(list(map(str, between)), 4)}), between"
            f" {some(list(map(str, ends)), 6)}: edges were blended when the masks were resized or saved. Save them as"
            " PNG without smoothing"
        )
    low, high = ends
    looked.merge({number: low if number - low < high - number else high for number in between})
    say(f"masks are {low} and {high} with blended edges, {len(between)} numbers between: each counts as the nearer one")


def _table(numbers: Sequence[int], looked: Survey) -> UInt8[np.ndarray, "n"]:
    """Place number + 1 holds the class of a number; place 0 is for pixels of surely none."""
    table = np.full(max(looked.largest, *numbers) + 2, VOID, dtype=np.uint8)
    table[np.array(numbers) + 1] = np.arange(len(numbers))
    for number, other in looked.merged.items():
        table[number + 1] = table[other + 1]
    return table


def _named_apart(part: Maps, several: bool) -> list[Scene]:
    """Where there are several places, names begin with theirs."""
    scenes = part.scenes
    return [replace(scene, name=f"{Path(part.where).name}/{scene.name}") for scene in scenes] if several else scenes
