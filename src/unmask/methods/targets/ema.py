"""What a slow copy of the encoder itself sees at hidden units: the mean of its deepest layers. Baevski et al. 2022
(data2vec), https://arxiv.org/abs/2202.03555."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import instance_norm, layer_norm

from unmask.errors import UserError, many, require_whole
from unmask.masking.grid import Grid
from unmask.methods.target import Target
from unmask.models.ema import Teacher, cosine
from unmask.models.encoder import Encoder

__all__ = ["EMA"]


class EMA(Target):
    per_pixel, drawable, raw = False, False, True
    undrawn = "features of a teacher"

    def __init__(self, grid: Grid, encoder: Encoder, layers: int = 1, momentum: float = 0.996, end: float = 1.0):
        """layers: deepest ones that are averaged, each normalised over an image's units before if there are several;
        momentum: of the teacher at first, `end` at the end."""
        super().__init__()
        require_whole("layers", layers)
        if layers > encoder.num_layers:
            raise UserError(
                f"layers={layers}, and the encoder has {many(encoder.num_layers, 'layer')} as wide as its last"
            )
        if not 0 <= momentum <= end <= 1:
            raise UserError(f"a teacher's momentum rises between 0 and 1; got {momentum} to {end}")
        self.grid, self.dim, self.layers, self.momentum, self.end = grid, encoder.dim, layers, momentum, end
        self.teacher = Teacher(encoder)

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b n d"]:
        teacher: Encoder = self.teacher.module  # pyright: ignore[reportAssignmentType]
        if self.layers == 1:
            mean = teacher(x).units.float()
        else:
            maps = teacher.features(x, layers=range(-self.layers, 0))
            mean = torch.stack([instance_norm(m.float()) for m in maps]).mean(dim=0).flatten(2).transpose(1, 2)
        return layer_norm(mean, mean.shape[-1:])

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.teacher.update(cosine(self.momentum, self.end, progress), good)
