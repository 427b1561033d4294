"""Inverse block masking: what stays visible lies in blocks, all around is hidden. Baevski et al. 2022 (data2vec 2.0).

As many blocks as are needed stay visible, in an order drawn per sample; the last one is kept from its centre outwards,
so that the count is exact.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import require_whole
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["InverseBlock"]


class InverseBlock(Sampler):
    def __init__(self, ratio: Ratio = 0.8, length: int = 3):
        """length: units along each side of a block."""
        super().__init__(ratio)
        require_whole("length, in units,", length)
        self.length = length

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        shape = torch.tensor(grid.shape, dtype=torch.float32, device=noise.device)
        side = shape.clamp(max=self.length)
        count = grid.num_units  # so many blocks cover everything, wherever they lie
        start = (noise(batch, count, len(grid.shape)) * (shape - side + 1)).floor()
        at = grid.coordinates(noise.device)  # n k
        offset = (at[:, None, None] - (start + (side - 1) / 2)).abs() / side  # n b m k
        distance = offset.amax(dim=3)
        covers = distance < 0.5
        order = torch.arange(count, device=noise.device)
        first = torch.where(covers, order, count).amin(dim=2)  # n b; `count` where no block lies
        nearest = distance.gather(2, first.clamp(max=count - 1)[..., None]).squeeze(2)
        return (first + nearest).T + 0.01 * noise(batch, grid.num_units)
