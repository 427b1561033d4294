"""Uniform random masking: He et al. 2021, section 3."""

from jaxtyping import Float
from torch import Tensor

from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Sampler

__all__ = ["Random"]


class Random(Sampler):
    scattered = placed = True

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        return noise(batch, grid.num_units)
