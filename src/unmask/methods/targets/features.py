"""What a frozen teacher sees at hidden units. Wei et al. 2022 (MVP), https://arxiv.org/abs/2203.05175; Fang et al. 2023
(EVA), https://arxiv.org/abs/2211.07636.

The teacher is any encoder that `weights/` opens. Its features are normalised per patch, without learned scales, as
EVA's; a teacher that was made from the same data, such as a run of one's own, makes it distillation (dBOT, Liu et al.
2022).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import cosine_similarity, layer_norm, smooth_l1_loss

from unmask.errors import UserError, closest
from unmask.masking.grid import Grid
from unmask.methods.target import Target
from unmask.models.encoder import Encoder
from unmask.weights.frozen_teacher import FrozenTeacher

__all__ = ["Features"]
LOSSES = {"smooth_l1": "smooth L1 distance to the teacher's features", "cosine": "1 - cosine to the teacher's features"}


class Features(Target):
    per_pixel, drawable, raw = False, False, True
    undrawn = "features of a teacher"

    def __init__(
        self,
        grid: Grid,
        encoder: Encoder,
        of: str | None = None,
        loss: str = "smooth_l1",
        model: str | None = None,
        size: int | Sequence[int] | None = None,
    ):
        """of: the teacher, a run folder, a file or folder of weights, or a timm name; loss: smooth_l1 or cosine;
        model: a timm name, where a file does not tell; size: at which the teacher sees images, pixels."""
        super().__init__()
        if not isinstance(of, str) or not of:
            raise UserError(
                "features needs a teacher, in quotes: features(of='timm:vit_small_patch16_224.dino'), or the folder of"
                " a run, a Hugging Face folder, or a file of weights"
            )
        if loss not in LOSSES:
            raise UserError(f"features(loss={loss!r}){closest(str(loss), LOSSES)} There are: {', '.join(LOSSES)}")
        self.teacher = FrozenTeacher(of, encoder, model, size)
        self.grid, self.dim, self.loss, self.loss_words = grid, self.teacher.dim, loss, LOSSES[loss]
        self.grid_of = encoder.grid_of  # of an image of any size

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b n d"]:
        features = self.teacher(x, self.grid_of(x))
        return layer_norm(features, (self.dim,))

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
        if self.loss == "cosine":
            return (1 - cosine_similarity(prediction, wanted, dim=-1)).mean()
        return smooth_l1_loss(prediction, wanted)
