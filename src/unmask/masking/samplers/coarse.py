"""SimMIM's masks: squares of several units are hidden together. Xie et al. 2021, section 4.1 (32 pixels, 60 %)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import require_whole
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["Coarse"]


class Coarse(Sampler):
    def __init__(self, ratio: Ratio = 0.6, side: int = 2):
        """side: units along each side of a square; of the last square as many are hidden as the ratio asks for."""
        super().__init__(ratio)
        require_whole("side, in units,", side)
        self.side = side

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        cells = tuple(-(-length // self.side) for length in grid.shape)
        at = (grid.coordinates(noise.device) // self.side).long()  # n k: the square of each unit
        place = torch.zeros(grid.num_units, dtype=torch.long, device=noise.device)
        for axis, length in enumerate(cells):
            place = place * length + at[:, axis]
        rank = (
            noise(batch, math.prod(cells)).argsort(dim=1).argsort(dim=1)
        )  # whole numbers, so that squares stay together
        return rank[:, place] + 0.5 * noise(batch, grid.num_units)
