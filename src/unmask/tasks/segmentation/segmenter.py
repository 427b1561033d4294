"""A segmenter that reads images: returned by `unmask.load` for a folder of `transfer --to segment`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unmask.data.datasets.full_size import Shown, as_shown, read_shown
from unmask.data.source import Images
from unmask.errors import DataError, UserError
from unmask.models.segmenter import Segmenter
from unmask.models.sliding_window import Size

__all__ = ["ImageSegmenter"]


@dataclass(frozen=True)
class Maps:
    """Class maps of n images, in the order given."""

    names: list[str]
    classes: list[str]
    numbers: list[int]  # of each class in the masks or labels that were learnt from
    maps: list[UInt8[np.ndarray, "_ _"]]  # place in `classes` of every pixel, at the image's own size

    def shares(self) -> Float[np.ndarray, "n k"]:
        """Of the pixels, or voxels, of each map, by class."""
        counts = [np.bincount(map_.ravel(), minlength=len(self.classes)) / map_.size for map_ in self.maps]
        return np.array(counts).reshape(len(self.maps), len(self.classes))

    def __len__(self) -> int:
        return len(self.names)


class ImageSegmenter(Segmenter):
    """The same network and the same weights as `Segmenter`, with `predict` for files and arrays."""

    def predict(self, images: Images, batch: int = 16, seen: Callable[[str], Any] | None = None) -> Maps:
        """Maps of images of any size: paths, whatever else `pretrain` takes as data, or raw pixels `b c h w`.

        batch: windows at a time; seen: called with each name when its map is finished. Raises DataError with the reason
        for an image that cannot be read, UserError for pixels of another shape.
        """
        channels, most, planes = self.encoder.channels, 4 * self.side, self.encoder.planes
        if isinstance(images, np.ndarray | Tensor):
            pixels = torch.as_tensor(images)
            if pixels.ndim != 4 or pixels.shape[1] != channels + planes:
                raise UserError(f"pixels must be n x {channels + planes} x height x width, got {tuple(pixels.shape)}")
            shown: Iterable[Shown] = as_shown(pixels)
        else:
            shown = read_shown(images, channels, most, bad=_refuse, modality=self.encoder.modality)
        was, names, maps = self.training, [], []
        self.eval()

        def named() -> Iterator[tuple[Tensor, Size]]:
            for image in shown:
                names.append(image.name)
                yield image.pixels, image.size

        for map_ in self.maps(named(), batch):
            maps.append(map_)
            if seen is not None:
                seen(names[len(maps) - 1])
        self.train(was)
        return Maps(names, self.classes, self.numbers, maps)


def _refuse(name: str, reason: str) -> None:
    raise DataError(f"{name}: {reason}")
