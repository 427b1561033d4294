"""Colours of a small version of each unit, as numbers of a palette. Chen et al. 2020 (iGPT),
https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf, section 3.2.

The palette is fitted to the pixels of the data by k-means before training and kept in a buffer.
"""

import math
from collections.abc import Iterable
from itertools import islice
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.methods.target import UnitTarget
from unmask.plain import PositiveInt

__all__ = ["Palette"]
Colours = Annotated[int, Interval(ge=2, le=2**16)]  # of a palette
PIXELS = 2**16  # that the palette is fitted to
ROUNDS = 25  # of k-means
AT_ONCE = 2**17  # pixels that are compared with the palette at a time


class Palette(UnitTarget):
    per_pixel = False
    loss_words = "cross-entropy of colours, nats per pixel"
    palette: Tensor  # colours channels, of normalised pixels
    log_shares: Tensor  # colours; logarithms of how often each occurs in the data

    def __init__(self, grid: Grid, channels: int = 3, colours: Colours = 512, side: PositiveInt = 32):
        """colours: of the palette; side: pixels along the longer side of the small image, as near as whole pixels in
        each unit come, and one of a unit at least."""
        super().__init__()
        if len(grid.unit) != 2:
            raise UserError("palette is of the pixels of images, which have height and width")
        self.grid, self.channels, self.colours = grid, channels, colours
        most = max(1, side // max(grid.shape))
        self.pixels = min(most, grid.unit[0]), min(most, grid.unit[1])  # of a unit
        self.count = self.ids = self.pixels[0] * self.pixels[1]
        self.dim = self.count * colours
        self.register_buffer("palette", torch.zeros(colours, channels))
        self.register_buffer("log_shares", torch.full((colours,), -math.log(colours)))

    def shrunk(self, units: Float[Tensor, "b m q"]) -> Float[Tensor, "b m s c"]:
        """The pixels of small units, s of each, from units as `Grid.cut` gives them."""
        images = units.unflatten(2, (*self.grid.unit, self.channels)).flatten(0, 1).permute(0, 3, 1, 2)
        small = adaptive_avg_pool2d(images, self.pixels).flatten(2).transpose(1, 2)
        return small.unflatten(0, units.shape[:2])

    @torch.no_grad()
    def of(self, units: Float[Tensor, "b m q"]) -> Int[Tensor, "b m s"]:
        """Numbers of the nearest colours."""
        pixels = self.shrunk(units.float())
        nearest = [_nearest(part, self.palette) for part in pixels.flatten(0, 2).split(AT_ONCE)]
        return torch.cat(nearest).view(pixels.shape[:3])

    def logits(self, prediction: Float[Tensor, "b m p"]) -> Float[Tensor, "b m s k"]:
        """Scores of each colour, for each pixel of a small unit."""
        return prediction.unflatten(-1, (self.count, self.colours))

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Int[Tensor, "b m s"]) -> Float[Tensor, ""]:
        return self.errors(prediction, wanted).mean()

    def errors(self, prediction: Float[Tensor, "b m p"], wanted: Int[Tensor, "b m s"]) -> Float[Tensor, "b m"]:
        """Cross-entropy of every unit, the mean over its pixels."""
        logits = self.logits(prediction)
        return cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none").view(wanted.shape).mean(dim=2)

    def guessing(self, wanted: Int[Tensor, "b m s"]) -> Float[Tensor, "b m"]:
        """The cross-entropy of every unit where all that is known is how often each colour occurs."""
        return -self.log_shares[wanted].mean(dim=2)

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """The expected colours, each as a square of the unit."""
        colours = self.logits(prediction).softmax(dim=-1) @ self.palette  # b h s c
        small = colours.flatten(0, 1).transpose(1, 2).unflatten(2, self.pixels)
        units = interpolate(small, self.grid.unit, mode="nearest")
        return units.permute(0, 2, 3, 1).flatten(1).unflatten(0, prediction.shape[:2])

    @torch.no_grad()
    def fit(self, inputs: Iterable[Float[Tensor, "b c *size"]]) -> None:
        """k-means over the pixels of small images."""
        chance, parts = torch.Generator().manual_seed(0), []
        for x in islice(inputs, 8):
            pixels = self.shrunk(self.grid.covering(x.shape[2:]).cut(x.float())).flatten(0, 2)
            parts.append(pixels[torch.randperm(len(pixels), generator=chance)[: PIXELS // 8]])
        points = torch.cat(parts)
        self.palette.copy_(k_means(points, self.colours, chance))
        nearest = torch.cat([_nearest(part, self.palette) for part in points.to(self.palette.device).split(AT_ONCE)])
        counts = torch.bincount(nearest, minlength=self.colours) + 1  # one more: what is rare here may occur elsewhere
        self.log_shares.copy_((counts / counts.sum()).log())


def k_means(points: Float[Tensor, "n c"], count: int, chance: torch.Generator) -> Float[Tensor, "k c"]:
    """Centres of `count` clusters by Lloyd's rounds, begun at different points by chance. A centre that no point is
    nearest to moves to a point by chance; where there are fewer different points than centres, some are the same."""
    points = points[torch.randperm(len(points), generator=chance)]
    distinct = points.unique(dim=0)
    begin = distinct[torch.randperm(len(distinct), generator=chance)]
    centres = begin[torch.arange(count) % len(begin)].clone()
    if len(distinct) <= count:
        return centres
    for number in range(ROUNDS):
        nearest = _nearest(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=count)[:, None]
        others = points[(torch.arange(count) + number * count) % len(points)]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), others)
    return centres


def _nearest(points: Float[Tensor, "n c"], centres: Float[Tensor, "k c"]) -> Int[Tensor, "n"]:
    """|p - c|^2 = |p|^2 - 2 p c + |c|^2, of which the first is the same for all centres."""
    with torch.autocast(points.device.type, enabled=False):  # bf16 cannot tell near colours apart
        return torch.addmm(centres.square().sum(dim=1), points, centres.T, alpha=-2).argmin(dim=1)
