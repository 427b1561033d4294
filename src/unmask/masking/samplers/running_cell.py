"""Running cells: of every 2 x 2 places some neighbours are hidden, and move on by one from frame to frame. Wang et al.
2023 (VideoMAE v2), https://arxiv.org/abs/2303.16727, after Qing et al. 2022 (MAR), https://arxiv.org/abs/2207.11660.

Over four frames every unit is hidden equally often. Of three and more axes the first is time; an image is one frame. In
every sample the cells start at a place of their own.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["RunningCell"]


class RunningCell(Sampler):
    def __init__(self, ratio: Ratio = 0.5):
        """ratio: a quarter, a half or three quarters hide whole places of a cell; others one place in some cells."""
        super().__init__(ratio)

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        at = grid.coordinates(noise.device).long()
        time, space = (at[:, 0], at[:, 1:]) if at.shape[1] > 2 else (torch.zeros_like(at[:, 0]), at)
        length = 2 ** space.shape[1]  # places of a cell
        code = torch.zeros_like(time)
        for axis in range(space.shape[1]):
            code = 2 * code + space[:, axis] % 2
        order = code  # of places along the run, in which each is next to the one before: a Gray code, undone
        for shift in range(1, space.shape[1]):
            order = order ^ (code >> shift)
        start = (noise(batch, 1) * length).floor()
        return (order - time - start) % length + 0.99 * noise(batch, grid.num_units)
