"""The leading principal components of each unit's pixels. He et al. 2021, table 1d ("PCA", 96 of 768 coefficients).

The components are fitted on the data before training and kept in buffers: a run's checkpoints carry them.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.methods.target import UnitTarget

__all__ = ["Pca"]


class Pca(UnitTarget):
    mean: Float[Tensor, "q"]
    basis: Float[Tensor, "p q"]  # orthonormal rows, the component of the largest variance first
    scale: Float[Tensor, ""]  # root of the coefficients' mean variance: one number, so components keep their weights
    fitted: Bool[Tensor, ""]
    per_pixel = False

    def __init__(self, grid: Grid, channels: int = 3, components: int = 96):
        """components: coefficients kept of each unit, at most as many as it has values."""
        super().__init__()
        size = channels * math.prod(grid.unit)
        require_whole("components", components)
        if components > size:
            raise UserError(
                f"pca can keep 1 to {size} components, since a unit has {size} values; got {components}."
                f" The paper keeps an eighth: pca(components={max(1, size // 8)})"
            )
        self.grid, self.dim = grid, components
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.eye(components, size))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("fitted", torch.tensor(False))
        self._ready = False  # same as `fitted`, but readable without waiting for the device
        self.register_load_state_dict_post_hook(_note_ready)

    def fit(self, inputs: Iterable[Float[Tensor, "b c *size"]]) -> None:
        """Computes the components of the inputs' units. Once fitted (or loaded from a checkpoint) they stay fixed,
        since a decoder that learned to predict one basis cannot predict another."""
        if self._ready:
            return
        size = len(self.mean)
        count, total, products = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
        for x in inputs:
            units = self.grid.covering(x.shape[2:]).cut(x).flatten(0, 1).double().cpu()
            count, total, products = count + len(units), total + units.sum(dim=0), products + units.T @ units
        if count < 2:
            raise UserError("pca needs two units or more to be fitted on")
        mean = total / count
        variance, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))  # the largest last
        basis, variances = vectors.T.flip(0)[: self.dim], variance.flip(0)[: self.dim].clamp(min=0)
        largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
        self.mean.copy_(mean)
        self.basis.copy_(basis * largest.sign())  # the sign of an eigenvector depends on the library otherwise
        self.scale.copy_(variances.mean().sqrt().clamp(min=1e-6))  # the average then has a loss of 1, as with pixels
        self.fitted.fill_(True)
        self._ready = True

    def of(self, units: Float[Tensor, "b m q"]) -> Float[Tensor, "b m p"]:
        if not self._ready:
            raise RuntimeError("Pca must be fitted before it is used: call fit, or load a checkpoint")
        with torch.autocast(units.device.type, enabled=False):  # a matrix product that is not part of the network
            return (units - self.mean) @ self.basis.T / self.scale

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """Turns predicted coefficients of hidden units back into values of `x`; there is nothing to leak."""
        return prediction * self.scale @ self.basis + self.mean


def _note_ready(module: Pca, incompatible: object) -> None:
    module._ready = bool(module.fitted)
