"""Masks of coloured noise: white noise, filtered by Gaussians, scores the units. Hinojosa et al. 2024 (ColorMAE),
https://arxiv.org/abs/2407.13036.

red lets low frequencies through, so that large areas are hidden together; blue the high ones, so that what is hidden is
spread evenly; green a band between, so that hidden spots have one size; purple all but that band. The paper cuts
windows out of large noise images that were filtered beforehand; here noise with a margin is drawn and filtered in every
step, which has the same statistics. The widths of its filters are not those of the paper, which filters pixels.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["FilteredNoise"]
REACH = 3.0  # standard deviations at which a Gaussian is cut off
Width = Annotated[float, Interval(gt=0, le=8)]


class FilteredNoise(Sampler):
    def __init__(
        self,
        ratio: Ratio = 0.75,
        colour: Literal["red", "blue", "green", "purple"] = "green",
        fine: Width = 0.6,
        coarse: Width = 1.2,
    ):
        """fine, coarse: standard deviations of the Gaussians, in units. red is noise blurred by the coarse one; blue
        noise less its blur by the fine one; green the difference of both blurs; purple noise less that."""
        super().__init__(ratio)
        if fine >= coarse:
            raise UserError(f"noise needs fine < coarse, in units; got {fine} and {coarse}")
        self.colour, self.fine, self.coarse = colour, fine, coarse

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        margin = math.ceil(REACH * self.coarse)
        white = noise(batch, *(side + 2 * margin for side in grid.shape)) - 0.5
        same = white[(slice(None), *(slice(margin, margin + side) for side in grid.shape))]
        filters = {
            "red": lambda: _blurred(white, self.coarse, grid.shape),
            "blue": lambda: same - _blurred(white, self.fine, grid.shape),
            "green": lambda: self._band(white, grid.shape),
            "purple": lambda: same - self._band(white, grid.shape),
        }
        return filters[self.colour]().flatten(1)

    def _band(self, white: Float[Tensor, "b *wide"], shape: Sequence[int]) -> Float[Tensor, "b *shape"]:
        return _blurred(white, self.fine, shape) - _blurred(white, self.coarse, shape)


def gaussian(width: float) -> Float[Tensor, "r"]:
    """A Gaussian at whole distances up to REACH standard deviations; its sum is 1."""
    reach = math.ceil(REACH * width)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    return weights / weights.sum()


def _blurred(white: Float[Tensor, "b *wide"], width: float, shape: Sequence[int]) -> Float[Tensor, "b *shape"]:
    """The middle of the noise, of this shape, blurred along every axis."""
    kernel = gaussian(width).to(white.device)[None, None]
    reach = kernel.shape[2] // 2
    for axis, side in enumerate(shape, start=1):
        spare = (white.shape[axis] - side) // 2 - reach
        line = white.narrow(axis, spare, side + 2 * reach).movedim(axis, -1)
        white = F.conv1d(line.reshape(-1, 1, line.shape[-1]), kernel).view(*line.shape[:-1], side).movedim(-1, axis)
    return white
