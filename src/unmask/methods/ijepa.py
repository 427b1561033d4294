"""I-JEPA, Assran et al. 2023: from a large block of an image, predict what a teacher makes of four others. No pixels,
no augmentation but a crop. https://arxiv.org/abs/2301.08243

On clips with blocks that span all the time it is V-JEPA, Bardes et al. 2024, https://arxiv.org/abs/2404.08471:
`ijepa(mask="multiblock(tubes=((8, 0.15), (2, 0.7)))")`. They take the absolute error where this takes the smooth one.
V-JEPA 2, Assran et al. 2025, https://arxiv.org/abs/2506.09985, has rotary positions in encoder and predictor: a model
with such, and `decoder="rotary(order='tiled')"`; what differs from I-JEPA's predictor is told there.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import layer_norm, smooth_l1_loss

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.mask import Mask, Noise
from unmask.masking.samplers.multiblock import MultiBlock
from unmask.methods.losses.spread import deviation
from unmask.models.decoder import require_usable
from unmask.models.ema import Teacher, cosine
from unmask.models.encoder import Encoder, Tokens
from unmask.plain import Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Objective, Symptom

__all__ = ["IJEPA"]


class IJEPA(Objective):
    views: Sequence[str] = ("crops(flip=False)",)
    words: Mapping[str, str] = {"loss": "smooth L1 of the teacher's features", "spread": "spread of features"}
    symptoms: Sequence[Symptom] = (
        Symptom("spread", below=0.03, says="all images look the same to the teacher", remedy="a lower --lr, or longer"),
    )

    def __init__(
        self,
        encoder: Encoder,
        mask: object = "multiblock",
        decoder: object = "full(dim=384, depth=6, heads=6)",
        momentum: Share = 0.996,
    ):
        """mask: blocks to predict and a context; decoder: the predictor (12 blocks of width 384 for a ViT-H), I-JEPA's
        `full` or V-JEPA 2's `rotary`."""
        super().__init__()
        encoder.require_masks()
        self.encoder, self.momentum = encoder, momentum
        self.mask = build("mask", mask)
        if not isinstance(self.mask, MultiBlock):
            raise UserError(f"ijepa predicts blocks, each by itself: its mask is multiblock; got {mask}")
        sizes = {"in_dim": encoder.dim, "out_dim": encoder.dim, "num_layers": encoder.num_layers}
        self.decoder = build("decoder", decoder, grid=encoder.grid, **sizes)
        require_usable(self.decoder, decoder, "ijepa", covers=self.mask.covers)
        self.teacher = Teacher(encoder)

    @property
    def kept(self) -> Encoder:
        """The teacher, as the paper evaluates it."""
        return self.teacher.module  # pyright: ignore[reportReturnType]

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Crops of 30 % or more, weight decay that grows, a predictor that suits the encoder's width."""
        narrow = "full(dim=96, depth=4, heads=3)"
        return {
            "crop": Choice(0.3, "as in I-JEPA"),
            "flip": Choice("off", "as in I-JEPA"),
            "weight_decay": Choice(0.04, "at first, 0.4 at the end, as in I-JEPA"),
            "betas": Choice((0.9, 0.999), "as in I-JEPA"),
            "decoder": Choice(narrow, f"narrower than the encoder, which is {encoder.dim} wide")
            if encoder.dim < 384
            else Choice("full(dim=384, depth=6, heads=6)", "as for I-JEPA's ViT-B"),
        }

    def schedules(self, progress: float) -> Mapping[str, float]:
        return {"weight_decay": cosine(0.04, 0.4, progress), "momentum": self.momentum + (1 - self.momentum) * progress}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        (x,) = batch["views"]
        grid = self.encoder.grid_of(x)
        with torch.no_grad():
            features = self.teacher(x).units.float()
            features = layer_norm(features, features.shape[-1:])
        parts = self.mask.parts(len(x), grid, Noise(x.device, rows=batch.get("rows")))
        losses = [self._loss(x, features, seen, targets) for seen, targets in parts]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        return {"loss": loss, "spread": deviation(features.mean(dim=1))}

    def _loss(
        self,
        x: Shaped[Tensor, "b c *size"],
        features: Float[Tensor, "b n d"],
        seen: Int[Tensor, "b v"],
        targets: Int[Tensor, "b m t"],
    ) -> Float[Tensor, ""]:
        """Of predicting the teacher's features of each target from the units that are seen."""
        count, grid = targets.shape[1], self.encoder.grid_of(x)
        tokens = self.encoder(x, Mask(seen, targets.flatten(1)))
        repeated = Tokens(*(part.repeat_interleave(count, dim=0) for part in tokens))  # each block by itself
        mask = Mask(seen.repeat_interleave(count, dim=0), targets.flatten(0, 1))
        prediction = self.decoder(repeated, mask, grid).float()
        wanted = take(features.repeat_interleave(count, dim=0), mask.hidden)
        return smooth_l1_loss(prediction, wanted)

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.teacher.update(self.scheduled.get("momentum", self.momentum), good)
