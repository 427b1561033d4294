"""Pixels of each unit, optionally normalised per unit (the better target in He et al. 2021, table 1d)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.methods.target import UnitTarget

__all__ = ["Pixels"]

EPS = 1e-6  # under the square root, as in MAE


class Pixels(UnitTarget):
    def __init__(self, grid: Grid, channels: int = 3, normalize: bool = True):
        """normalize: subtract each unit's mean and divide by its standard deviation (unbiased, over all channels)."""
        super().__init__()
        self.grid, self.normalize = grid, normalize
        self.dim = channels * math.prod(grid.unit)

    def of(self, units: Float[Tensor, "b m p"]) -> Float[Tensor, "b m p"]:
        if not self.normalize:
            return units
        mean, std = _statistics(units)
        return (units - mean) / std

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h p"]:
        """Turns predictions for hidden units back into values of `x`.

        A normalised prediction lacks each unit's mean and deviation. They are interpolated from the visible units;
        `leak=True` takes the true ones instead, which a model cannot know: label such images as leaking.
        """
        if not self.normalize:
            return prediction
        grid = self.grid.covering(x.shape[2:])
        mean, std = _statistics(grid.cut(x))
        if leak:
            return prediction * take(std, mask.hidden) + take(mean, mask.hidden)
        weight = _nearness(grid, mask)
        return prediction * (weight @ take(std, mask.visible)) + weight @ take(mean, mask.visible)


def _statistics(units: Float[Tensor, "b n p"]) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    var, mean = torch.var_mean(units, dim=-1, keepdim=True)
    return mean, (var + EPS).sqrt()


def _nearness(grid: Grid, mask: Mask) -> Float[Tensor, "b h v"]:
    """Weights of the visible units for each hidden one: inverse cubed distance, so that near ones decide."""
    at = grid.coordinates(mask.hidden.device)
    weight = torch.cdist(at[mask.hidden], at[mask.visible]).clamp(min=1e-6) ** -3
    return weight / weight.sum(dim=2, keepdim=True)
