"""MAE, He et al. 2021: encode the visible units, predict the hidden ones. https://arxiv.org/abs/2111.06377"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.masking.baselines import trivial
from unmask.masking.mask import Mask, Rows
from unmask.methods.families.imitation import Imitation
from unmask.methods.families.prediction import SAME_EVERYWHERE, Prediction, contrast
from unmask.methods.target import Target
from unmask.models.decoder import num_predicted, require_usable, some
from unmask.models.ema import Teacher, warmed
from unmask.models.encoder import Encoder, Tokens
from unmask.plain import BelowOne, Few, NonNegativeInt
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Batch, Symptom

__all__ = ["MAE"]


class MAE(Prediction):
    words: Mapping[str, str] = {
        "loss": "mean squared error on hidden patches",
        "contrast": "contrast of predictions, as a share of the targets'",
    }
    symptoms: Sequence[Symptom] = (SAME_EVERYWHERE,)

    def __init__(
        self,
        encoder: Encoder,
        mask: object = "random",
        target: object = "pixels",
        decoder: object = "full",
        decoder_warmup: NonNegativeInt | None = None,
        symmetric: bool = False,
        masks_per_image: Few | None = None,
        ema: BelowOne | None = None,
        attention_of: str | None = None,
    ):
        """mask, target, decoder: parts as `name(option=value)`, or objects of the same kind.

        decoder_warmup: first steps in which only the decoder is trained, so that a fresh decoder does not spoil an
        encoder that is already trained.
        symmetric: put mask tokens into the encoder, which then computes a token for every unit at full cost; the
        decoder gets their outputs. The paper's table 1c: worse, and more expensive.
        masks_per_image: masks drawn for each image in a training step, so that one decoded crop serves them all (EMAE,
        Li et al. 2023, without its consistency loss). The batch size still counts images.
        ema: decay of a moving average of the encoder's weights, which is exported and judged instead of them.
        attention_of: weights of a teacher of attention, as for the target `features`, which the encoder imitates.
        """
        super().__init__()
        encoder.require_masks()
        self.encoder, grid, self.masks_per_image = encoder, encoder.grid, masks_per_image or 1
        self.decoder_warmup, self.frozen, self.step = decoder_warmup or 0, False, 0
        self.mask = build("mask", mask, grid=grid, channels=grid.width(encoder.channels))
        self.target = build("target", target, grid=grid, channels=grid.width(encoder.channels), encoder=encoder)
        if isinstance(self.target, Target):
            self.words = self.target.words(self.words)
        self.guide = self.guided("mae", masks=self.masks_per_image)
        self.words = {**self.words, **self.guide.words}
        sizes = {"in_dim": encoder.dim, "out_dim": self.target.dim, "num_layers": encoder.num_layers}
        sizes |= {"stages": encoder.stages}
        self.decoder = build("decoder", decoder, grid=grid, filled=symmetric, **sizes)
        require_usable(self.decoder, decoder, "mae", covers=self.mask.covers, layers=True)
        if symmetric and not getattr(self.decoder, "filled", False):  # a decoder from elsewhere may not take it
            raise UserError(f"the decoder {decoder} cannot take tokens of all units, so not symmetric=True; full can")
        # a decoder from elsewhere may not define these
        self.share, self.layers = getattr(self.decoder, "share", 1.0), getattr(self.decoder, "layers", 1)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, encoder.dim)) if symmetric else None
        self.average, self.ema = None if ema is None else Teacher(encoder), ema or 0.0
        self.imitation = None if attention_of is None else Imitation(encoder, attention_of)
        if self.imitation is not None and symmetric:
            raise UserError("attention_of= compares what is seen of visible patches alone, so not symmetric=True")
        if self.imitation is not None:
            self.words = {**self.words, "attention": "squared difference to the teacher's attention"}

    @property
    def kept(self) -> Encoder:
        """The moving average of the encoder, if there is one."""
        return self.encoder if self.average is None else self.average.module

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """MAE's parts, with a decoder that suits the encoder's width."""
        light = f"a decoder of 8 x 512 would take most of the time beside an encoder {encoder.dim} wide"
        small, full = "full(dim=128, depth=2, heads=4)", "full(dim=512, depth=8, heads=16)"
        return {
            "decoder": Choice(small, light) if encoder.dim < 384 else Choice(full, "MAE's decoder"),
            "mask": Choice("random(ratio=0.75)", "as in MAE"),
            "target": Choice("pixels", "each patch normalised, as in MAE"),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over the predicted units, all hidden ones. batch["mask"] overrules the sampler."""
        (x,) = batch["views"]
        if self.training and self.masks_per_image > 1 and "mask" not in batch:
            grid = self.encoder.grid_of(x)
            rows, count = batch.get("rows"), self.masks_per_image
            mask = self.mask.several(count, len(x), grid, x.device, rows, self.told(x))
            x = x.repeat_interleave(self.masks_per_image, dim=0)
        else:
            mask = self.draw(batch)
        index = self.predicted_units(mask, batch.get("rows"))
        with nullcontext([]) if self.imitation is None else self.imitation.watching() as weights:
            prediction, wanted = self.predict(x, mask, index).float(), self.targets(x, index)
        prediction, filled = self.without_gaps(x, index, prediction, wanted)
        own = isinstance(self.target, Target)
        losses = self.target.losses(prediction, wanted) if own else {"loss": (prediction - wanted).square().mean()}
        losses = {**losses, "loss": losses["loss"] / filled} if self.encoder.gaps else losses
        if self.imitation is not None:
            imitated = self.imitation(weights[0], x, mask)
            losses = {**losses, "loss": losses["loss"] + imitated, "attention": imitated.detach()}
        outputs = {**losses, **contrast(prediction, wanted)}
        return self.with_sampler(outputs, batch, x, index, prediction, wanted)

    def predict(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask, index: Int[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b m p"]:
        """Predicted targets of the hidden units in `index`, or of all in the order of `mask.hidden`."""
        with torch.no_grad() if self.frozen else nullcontext():
            tokens = self.encoded(x, mask)
        return self.decoder(tokens, mask if index is None else Mask(mask.visible, index), self.encoder.grid_of(x))

    def encoded(self, x: Shaped[Tensor, "b c *size"], mask: Mask) -> Tokens | list[Tokens]:
        """What the decoder reads of the visible units: the last layer, several, or all stages at one resolution."""
        if self.layers > 1:
            return self.encoder.layers(x, self.layers, mask)
        if getattr(self.decoder, "fuses", False) and len(self.encoder.stages) > 1:
            return self.encoder.fused(x, mask, self.decoder.heads_of_stages)
        return self.encoder(x, mask, None if self.mask_token is None else self.mask_token.flatten())

    def predicted_units(self, mask: Mask, rows: Rows | None = None) -> Int[Tensor, "b m"]:
        """The hidden units whose loss is taken: as many as the decoder asks for, at random; all outside training, so
        that losses can be compared."""
        num = num_predicted(mask.hidden.shape[1], self.share)
        return some(mask.hidden, num, rows) if self.training and num < mask.hidden.shape[1] else mask.hidden

    def before_step(self, step: int) -> None:
        self.frozen, self.step = step < self.decoder_warmup, step

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        super().after_step(progress, good)
        if self.average is not None:
            self.average.update(warmed(self.ema, self.step), good)

    @torch.no_grad()
    def context(self, batch: Batch) -> dict[str, Tensor]:
        (x,) = batch["views"]
        if not getattr(self.target, "drawable", True) or getattr(self.target, "loss_words", None):
            return {}  # a guess of the mean says little about features, and nothing about classes
        losses = trivial(self.target(self.encoder.normalize(x)), self.draw(batch), self.encoder.grid_of(x))
        if isinstance(self.target, Target) and not self.target.per_pixel:
            del losses["unit_mean"]  # a mean over values that are not pixels is meaningless
        return losses
