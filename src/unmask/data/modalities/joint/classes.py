"""Maps of classes as a part of a sample: images whose pixels are numbers of classes, such as segmentation masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.annotations.legend import VOID, Legend
from unmask.data.annotations.mask_files import read_truth
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import sniff
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window
from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop, WholeImage
from unmask.plain import PositiveInt

MOST = 255  # classes of a map


@dataclass(frozen=True)
class NearestWindow:
    """The window of images, for numbers that have no values in between: each pixel is the nearest one's."""

    window: Any  # of images

    @property
    def size(self) -> tuple[int, ...]:
        return self.window.size

    def __call__(self, sample: Float[Tensor, "1 h w"], generator: Generator | None = None) -> Float[Tensor, "1 p q"]:
        """The same places as the same window of an image with this generator state."""
        height, width = sample.shape[1:]
        rows = torch.arange(float(height))[:, None].expand(-1, width)
        columns = torch.arange(float(width))[None].expand(height, -1)
        places = torch.stack([rows, columns])
        places = self.window(places) if generator is None else self.window(places, generator)
        row, column = places.round().long()
        return sample[:, row.clamp(0, height - 1), column.clamp(0, width - 1)]


class ClassMap(Modality):
    """Values are the numbers of classes plus 1; what is of none has no value."""

    word = "map"

    def __init__(self, count: PositiveInt | None = None):
        """count: classes, from 0 on; by default those of the data that is looked at."""
        self.count = count

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        return sniff(head[:32]) is not None

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        if not isinstance(raw, bytes):
            raise BadImage("a map of classes is one file")
        numbers, notes = read_truth(raw, Legend())
        values = torch.from_numpy(numbers.astype(np.float32))[None] + 1
        limit = self.count if self.count is not None else MOST
        if self.count is None or self.count <= VOID:
            values = values.masked_fill(values == VOID + 1, torch.nan)
        values = values.masked_fill(values < 1, torch.nan)
        largest = values.nan_to_num(0).max()
        if largest > limit:
            raise BadImage(f"holds the class {int(largest) - 1}, and there are {limit}: 0 to {limit - 1}")
        size = (int(values.shape[1]), int(values.shape[2]))
        return Decoded(values, sniff(raw[:32]) or "map", size, 1, 8, tuple(notes))

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        shape = size[0], size[1]
        if kind == "fixed":
            return NearestWindow(FixedCrop(shape, flip=flip))
        return NearestWindow(WholeImage(shape, flip=flip) if kind == "whole" else RandomCrop(shape, (share, 1.0), flip))

    def whole(self, size: tuple[int, ...]) -> NearestWindow:
        return NearestWindow(WholeImage((size[0], size[1])))

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        return {"image_size": Choice([64, 64], "as images")}

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        return {}

    def as_drawn(self, x: Shaped[Tensor, "c *size"], like: Tensor | None = None) -> Shaped[Tensor, "c *size"]:
        """Shades of grey, far apart for neighbouring numbers."""
        return 30 + (x.round() * 137) % 226
