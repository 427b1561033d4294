"""A frozen teacher of images that gives one vector for each: the mean over its patches."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.masking.grid import Grid
from unmask.weights.frozen_teacher import FrozenTeacher


class PooledTeacher(FrozenTeacher):
    only_images = True

    @torch.no_grad()
    def vectors(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Of raw images."""
        return self(x, Grid((1, 1), (int(x.shape[2]), int(x.shape[3]))))[:, 0]

    def _compute(self, x: Shaped[Tensor, "b c h w"], grid: Grid) -> Float[Tensor, "b 1 d"]:
        return self.encoder.seen(self._seen(x, grid))[0].float()[:, None]

    def _placed(self, own: Grid) -> str:
        return ", and gives a vector of each"

    @property
    def bytes_per_view(self) -> int:
        return 4 * self.dim
