"""Segmented images for training: every image and mask read and checked, in train, val and test."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from unmask.data.annotations.find import open_maps
from unmask.data.annotations.legend import VOID
from unmask.data.annotations.maps import Maps
from unmask.data.annotations.mask_files import LARGEST
from unmask.data.annotations.objects import Scene, photographs
from unmask.data.annotations.survey import Survey, read_scene
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.images import Samples
from unmask.data.datasets.left_out import refuse_or_say
from unmask.data.datasets.map_classes import Words, find_classes, require_classes, table_of
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

    words: Words = Words()  # what samples and their maps are called

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
            say(f"{len(names):,} {self.words.noted}: {note}")
        self.legend = self.parts[0].common
        self.numbers, names, self.void = find_classes(self.legend, void, looked, self.words, say)
        bad |= looked.strange(set(self.numbers) | self.void, self.words.its, self.words.unit)
        left_out = [*lost, *((self.scenes[i][1].name, bad[i]) for i in sorted(bad))]
        refuse_or_say(left_out, len(everything) + len(lost), max_bad, f"{self.words.both} of {self.where}", say)
        good = [i for i in everything if i not in bad]
        seen = looked.seen(good)
        unseen = [name for number, name in zip(self.numbers, names) if number not in seen]
        if unseen:
            say(f"{len(unseen)} of the classes are nowhere in the data and are left out: {some(unseen, 8)}")
        self.classes = [name for number, name in zip(self.numbers, names) if number in seen]
        self.numbers = [number for number in self.numbers if number in seen]
        require_classes(self.classes, looked, good, self.void, self.words, self.where)
        self.table = table_of(self.numbers, looked)
        self.kept = {i: self.table[looked.raw.pop(i) + 1] for i in good if i in looked.raw}
        self.splits = split_images([scene.split for _, scene in self.scenes], good, most=most, seed=seed, say=say)
        if not self.splits["train"] or not self.splits["test"]:
            raise DataError(f"{len(good)} good {self.words.sample}s are too few to learn from and to test on")
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
            yield f"the test split has no {self.words.unit} of {some(missing, 8)}: learnt, but not tested"
        rare = [f"{name} ({share:.3%})" for name, share in self.sheet.pixel_shares["train"].items() if 0 < share < RARE]
        if rare:
            share = f"their share of the {self.words.unit}s"
            yield f"rare classes, with {share}: {some(rare, 8)}; --balanced on weighs them more"

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


def _named_apart(part: Maps, several: bool) -> list[Scene]:
    """Where there are several places, names begin with theirs."""
    scenes = part.scenes
    return [replace(scene, name=f"{Path(part.where).name}/{scene.name}") for scene in scenes] if several else scenes
