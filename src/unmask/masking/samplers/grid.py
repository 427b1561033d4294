"""Regular masking: of every 2 x 2 units (2 along every axis) the same one is kept. He et al. 2021, figure 6.

Other ratios keep more or fewer of the positions in each cell; which comes first is drawn per sample.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Sampler

__all__ = ["Regular"]


class Regular(Sampler):
    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        at = grid.coordinates(noise.device).long()
        position = sum((at[:, axis] % 2) << axis for axis in range(at.shape[1]))  # 0..2^k-1: position within its cell
        rank = noise(batch, 2 ** at.shape[1]).argsort(dim=1)  # the order in which positions are hidden
        return rank.gather(1, torch.as_tensor(position).expand(batch, -1)) + noise(batch, grid.num_units)
