"""SimMIM, Xie et al. 2021: a token in the place of hidden patches, the whole encoder, and one layer that predicts raw
pixels. https://arxiv.org/abs/2111.09886"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.masking.grid import take
from unmask.masking.mask import Mask
from unmask.methods.families.prediction import SAME_EVERYWHERE, Prediction, contrast
from unmask.models.encoder import Encoder
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Symptom

__all__ = ["SimMIM"]


class SimMIM(Prediction):
    words: Mapping[str, str] = {
        "loss": "mean absolute error on hidden patches",
        "contrast": "contrast of predictions, as a share of the targets'",
    }
    symptoms: Sequence[Symptom] = (SAME_EVERYWHERE,)

    def __init__(
        self, encoder: Encoder, mask: object = "coarse(ratio=0.6)", target: object = "pixels(normalize=False)"
    ):
        """mask: the paper hides 60 % of squares of 32 pixels; target: what is predicted for a hidden patch, by L1 or by
        the target's own loss."""
        super().__init__()
        encoder.require_blanks("simmim")
        self.encoder = encoder
        grid, channels = encoder.grid, encoder.grid.width(encoder.channels)
        self.mask = build("mask", mask, grid=grid, channels=channels)
        self.target = build("target", target, grid=grid, channels=channels, encoder=encoder)
        self.guide = self.guided("simmim")
        self.words = {**self.target.words(self.words), **self.guide.words}
        self.mask_token = nn.Parameter(torch.zeros(encoder.dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.predict_units = nn.Linear(encoder.dim, self.target.dim)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Large crops, and gradients clipped at 5."""
        return {
            "crop": Choice(0.67, "as in SimMIM"),
            "clip": Choice(5.0, "as in SimMIM"),
            "betas": Choice((0.9, 0.999), "as in SimMIM"),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean absolute error over hidden units, or the target's own loss. batch["mask"] overrules the sampler."""
        (x,) = batch["views"]
        mask = self.draw(batch)
        wanted, prediction = self.targets(x, mask.hidden), self.predict(x, mask).float()
        prediction, filled = self.without_gaps(x, mask.hidden, prediction, wanted)
        own = self.target.loss_words is not None
        losses = self.target.losses(prediction, wanted) if own else {"loss": (prediction - wanted).abs().mean()}
        losses = {**losses, "loss": losses["loss"] / filled} if self.encoder.gaps else losses
        outputs = {**losses, **contrast(prediction, wanted)}
        return self.with_sampler(outputs, batch, x, mask.hidden, prediction, wanted, power=1)

    def predict(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask, index: Int[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b m p"]:
        """Predicted targets of the units in `index`, or of the hidden ones."""
        units = self.encoder(x, mask, self.mask_token).units
        return self.predict_units(take(units, mask.hidden if index is None else index))
