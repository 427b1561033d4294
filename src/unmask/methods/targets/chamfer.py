"""The points of each group, relative to its centre, compared as sets. Pang et al. 2022 (Point-MAE).

https://arxiv.org/abs/2203.06604. The centres of hidden groups are given to the decoder, as in that paper.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.data.transforms.kernels.points import chamfer_distance
from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.methods.target import UnitTarget

__all__ = ["Chamfer"]


class Chamfer(UnitTarget):
    per_pixel, only = False, "clouds of points in groups"

    def __init__(self, grid: Grid, channels: int = 3, squared: bool = True):
        """squared: of distances, as in Point-MAE; else the distances themselves, which far points weigh less in."""
        super().__init__()
        if not grid.space:
            raise UserError(f"the target chamfer is for {self.only}; use pixels, or occupancy for voxels")
        self.grid, self.channels, self.squared = grid, channels, squared
        self.points = grid.unit[0]
        self.dim = self.points * grid.space
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))
        self.loss_words = "Chamfer distance of hidden groups, in deviations of their points"

    def fit(self, inputs: Iterable[Float[Tensor, "b c n"]]) -> None:
        """The deviation of points from their centre, by which they are divided: groups of many points are small."""
        squares = [self._relative(self.grid.covering(x.shape[2:]).cut(x)).square().mean() for x in inputs]
        if squares and (mean := torch.stack(squares).mean()) > 0:
            self.scale.copy_(mean.sqrt())

    def of(self, units: Float[Tensor, "b m q"]) -> Float[Tensor, "b m p"]:
        return (self._relative(units) / self.scale).flatten(2)

    def _relative(self, units: Float[Tensor, "b m q"]) -> Float[Tensor, "b m k 3"]:
        points = units.unflatten(2, (self.points, self.channels))[..., : self.grid.space].float()
        return points - points[:, :, :1]

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
        pair = (x.flatten(0, 1).unflatten(1, (self.points, -1)) for x in (prediction, wanted))
        return chamfer_distance(*pair, squared=self.squared).mean()

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c n"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """Points around the centres of their groups; what else is known of a point is not predicted, and is
        the mean of the data."""
        units = take(self.grid.covering(x.shape[2:]).cut(x), mask.hidden).unflatten(2, (self.points, self.channels))
        places, others = units[:, :, :1, : self.grid.space], units[..., self.grid.space :]
        points = prediction.unflatten(2, (self.points, -1)) * self.scale + places
        return torch.cat([points, torch.zeros_like(others)], dim=3).flatten(2)
