"""Which voxels hold a point, by binary cross-entropy. Min et al. 2022 (Occupancy-MAE).

https://arxiv.org/abs/2206.09900. Few voxels do, so those that do weigh more, as many times as they are rarer.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.methods.target import UnitTarget

__all__ = ["Occupancy"]
HALF = 0.5  # a voxel is 0 or 1


class Occupancy(UnitTarget):
    per_pixel, only = False, "clouds of points as voxels"

    def __init__(self, grid: Grid, channels: int = 1, most: float = 20.0):
        """most: times that an occupied voxel weighs as much as an empty one, at the most."""
        super().__init__()
        if channels != 1 or len(grid.unit) != 3:
            raise UserError(f"the target occupancy is for {self.only}: --modality \"points(units='voxels')\"")
        self.grid, self.most = grid, most
        self.dim = grid.unit[0] * grid.unit[1] * grid.unit[2]
        self.weight: Tensor
        self.register_buffer("weight", torch.ones(()))
        self.loss_words = "cross-entropy of hidden voxels, those with a point weighed more"

    def fit(self, inputs: Iterable[Float[Tensor, "b 1 d h w"]]) -> None:
        """The weight of occupied voxels."""
        shares = [(x > HALF).float().mean() for x in inputs]
        if shares and (share := torch.stack(shares).mean()) > 0:
            self.weight.copy_(((1 - share) / share).clamp(1.0, self.most))

    def of(self, units: Float[Tensor, "b m p"]) -> Float[Tensor, "b m p"]:
        return (units > HALF).float()

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
        return binary_cross_entropy_with_logits(prediction, wanted, pos_weight=self.weight)

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b 1 *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h p"]:
        """1 for the most probable voxels of a sample, as many as are expected to be occupied, else 0: few probabilities
        are above a half where most of the space is empty. The weight of occupied voxels is taken out again."""
        probable = (prediction - self.weight.log()).sigmoid().flatten(1)
        expected = probable.sum(dim=1, keepdim=True).round()
        rank = probable.argsort(dim=1, descending=True).argsort(dim=1)
        return (rank < expected).float().view_as(prediction)
