"""The parts of an image that a finder sees: its centre at the model's size, or tiles that cover all of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.data.transforms.kernels.crop import WholeImage
from unmask.errors import UserError


@dataclass(frozen=True)
class Tiling:
    """size: height and width that the model takes. tiles: along the side that is short compared with the model's; 0 is
    no tiles but one view of the centre, as in evaluation, which cuts off what a square does not hold."""

    size: tuple[int, int]
    tiles: int = 0

    def __post_init__(self):
        if self.tiles < 0:
            raise UserError(f"--tiles must be 0 or more, got {self.tiles}")

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """The size to which an image is resized before it is cut into tiles; its map has that size too."""
        if not self.tiles:
            return self.size
        share = self.tiles * max(self.size[0] / height, self.size[1] / width)
        return max(self.tiles * self.size[0], round(height * share)), max(
            self.tiles * self.size[1], round(width * share)
        )

    def whole(self, image: Shaped[Tensor, "c h w"]) -> Shaped[Tensor, "c H W"]:
        """The resized image."""
        if not self.tiles:
            return WholeImage(self.size)(image)
        canvas = self.canvas(*image.shape[-2:])
        if tuple(image.shape[-2:]) == canvas:
            return image
        return interpolate(image[None], canvas, mode="bicubic", antialias=True, align_corners=False)[0]

    def cut(self, whole: Shaped[Tensor, "c H W"]) -> Shaped[Tensor, "t c h w"]:
        """Tiles of a resized image in reading order; they overlap evenly if sides are no multiple."""
        h, w = self.size
        places = self._places(whole.shape[-2:])
        return torch.stack([whole[..., top : top + h, left : left + w] for top, left in places]).contiguous()

    def join(self, tiles: Float[Tensor, "t h w"], canvas: Sequence[int]) -> Float[Tensor, "H W"]:
        """Joins the maps of tiles; where tiles overlap, the one whose centre is nearer has more weight."""
        if len(tiles) == 1:
            return tiles[0]
        h, w = self.size
        weight = _tent(h)[:, None] * _tent(w)[None]
        total, weights = torch.zeros(*canvas), torch.zeros(*canvas)
        for tile, (top, left) in zip(tiles, self._places(canvas)):
            total[top : top + h, left : left + w] += tile * weight
            weights[top : top + h, left : left + w] += weight
        return total / weights

    def _places(self, canvas: Sequence[int]) -> list[tuple[int, int]]:
        rows, columns = (_starts(whole, tile) for whole, tile in zip(canvas, self.size))
        return [(top, left) for top in rows for left in columns]


def _starts(whole: int, tile: int) -> list[int]:
    count = math.ceil(whole / tile)
    return [round(i * (whole - tile) / max(1, count - 1)) for i in range(count)]


def _tent(length: int) -> Float[Tensor, "n"]:
    at = torch.arange(length) + 0.5
    return torch.minimum(at, length - at) / length
