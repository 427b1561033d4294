"""iGPT, Chen et al. 2020: predict the colours of the next patch from those before it, in reading order; or of hidden
patches. https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf

The paper's tokens are single pixels of a small image. Here they are the patches of the encoder that every method
trains, and a patch stands for a few pixels of the small image, as in AIM (El-Nouby et al. 2024,
https://arxiv.org/abs/2401.08541); `--patch-size 1` at a small image size gives the paper's. AIM's are also the
attention within a prefix, without which an encoder that sees whole images later would do what it was never trained for,
and the MLP between the encoder and the prediction.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.mask import Mask, Noise
from unmask.methods.families.prediction import Prediction
from unmask.methods.targets.palette import Colours
from unmask.models.encoder import Encoder
from unmask.plain import PositiveInt
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Symptom

__all__ = ["IGPT"]
HIDDEN = "random(ratio=0.15)"  # as in iGPT, and BERT


class IGPT(Prediction):
    words: Mapping[str, str] = {
        "loss": "cross-entropy of colours, nats per pixel",
        "right": "pixels whose colour is predicted",
        "guessing": "cross-entropy as a share of that of guessing by how often each colour occurs",
    }
    symptoms: Sequence[Symptom] = (
        Symptom(
            "guessing",
            above=0.99,
            says="colours are predicted no better than by how often each occurs",
            remedy="a longer run or a higher --lr; mae learns from fewer images and at a fraction of the cost",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        masked: bool = False,
        mask: object = None,
        prefix: bool = True,
        colours: Colours = 512,
        side: PositiveInt = 32,
        mlp_depth: Annotated[int, Interval(ge=0, le=100)] = 2,
    ):
        """masked: predict hidden patches from all others, instead of the next one from those before it; mask: which
        are hidden then, 15 % at random by default.

        prefix: the first patches of an image, as many as chance says, attend to each other, and those behind them are
        predicted; without, a patch attends to earlier ones only, as in iGPT. colours: of the palette; side: of the
        small image, pixels; mlp_depth: residual MLPs between the encoder and the prediction, thrown away afterwards.
        """
        super().__init__()
        self.encoder, self.masked, self.prefix = encoder, masked, prefix
        if masked:
            encoder.require_blanks("igpt(masked=True)")
            self.mask = build("mask", mask or HIDDEN)
            self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        elif mask is not None:
            raise UserError("igpt hides no patches, so it has no --mask, unless it is igpt(masked=True)")
        else:
            encoder.require_order("igpt")
        palette = f"palette(colours={colours!r}, side={side!r})"
        self.target = build("target", palette, grid=encoder.grid, channels=encoder.channels)
        self.guide = self.guided("igpt", errors=False) if masked else None
        self.mlps = nn.ModuleList(_mlp(encoder.dim) for _ in range(mlp_depth))
        self.colour = nn.Linear(encoder.dim, self.target.dim, bias=False)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """AIM's: large crops and a high rate, with gradients clipped."""
        return {
            "crop": Choice(0.4, "as in AIM"),
            "lr": Choice(1e-3, "as in AIM; iGPT's rates are of the same order, and do not grow with the batch"),
            "clip": Choice(1.0, "as in AIM"),
            "betas": Choice((0.9, 0.95), "as in iGPT and AIM"),
        }

    @property
    def drawable(self) -> bool:
        """Hidden patches can be drawn; drawing one patch after the other takes a pass through the encoder for each."""
        return self.masked

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over images of the cross-entropy of predicted pixels. batch["mask"] overrules the sampler."""
        (x,) = batch["views"]
        units = self.encoder.normalize_units(self.encoder.grid_of(x).cut(x))
        if self.masked:
            mask = self.draw(batch)
            wanted, prediction = self.target.of(take(units, mask.hidden)), self.predict(x, mask).float()
            counts = torch.ones(wanted.shape[:2], device=wanted.device)
        else:
            wanted = self.target.of(units)
            prediction, counts = self.next_units(x, batch)
            wanted = wanted[:, -prediction.shape[1] :]
        errors = self.target.errors(prediction, wanted)
        with torch.no_grad():
            right = (self.target.logits(prediction).argmax(dim=-1) == wanted).float().mean(dim=2)
            guessing = _mean(errors, counts) / _mean(self.target.guessing(wanted), counts).clamp(min=1e-6)
        return {"loss": _mean(errors, counts), "right": _mean(right, counts), "guessing": guessing}

    def next_units(self, x: Tensor, batch: Batch) -> tuple[Float[Tensor, "b m p"], Float[Tensor, "b m"]]:
        """The prediction of every unit from the token before it, which has not seen it, or from the second unit on
        where the encoder has no class token to begin with; and 1 for units whose prediction counts, 0 for those within
        the prefix."""
        count, first = self.encoder.grid_of(x).num_units, int(not self.num_prefix)
        begin = torch.zeros(len(x), 1, device=x.device)
        if self.prefix:
            begin = (Noise(x.device, rows=batch.get("rows"))(len(x), 1) * count).floor()
        tokens = self.encoder.attending(x, _allowed(self.num_prefix, count, begin))
        before = torch.cat([tokens.prefix[:, -1:], tokens.units[:, :-1]], dim=1)
        numbers = torch.arange(first, count, device=x.device)
        return self.head(before).float(), (numbers >= begin).float()

    @property
    def num_prefix(self) -> int:
        """Class and register tokens of the encoder."""
        return int(getattr(self.encoder.net, "num_prefix_tokens", 0))

    def predict(self, x: Tensor, mask: Mask, index: Int[Tensor, "b m"] | None = None) -> Float[Tensor, "b m p"]:
        """Scores of the colours of the units in `index`, or of the hidden ones; of masked=True."""
        units = self.encoder(x, mask, self.mask_token).units
        return self.head(take(units, mask.hidden if index is None else index))

    def head(self, tokens: Float[Tensor, "b m d"]) -> Float[Tensor, "b m p"]:
        for mlp in self.mlps:
            tokens = tokens + mlp(tokens)
        return self.colour(tokens)


def _mlp(dim: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))


def _allowed(prefix: int, units: int, begin: Float[Tensor, "b 1"]) -> Bool[Tensor, "b t t"]:
    """What each token attends to: itself, earlier ones, and all units below `begin` with the tokens before them."""
    position = torch.arange(prefix + units, device=begin.device)
    earlier = position[:, None] >= position
    return earlier | (position < prefix + begin)[:, None]


def _mean(values: Float[Tensor, "b m"], counts: Float[Tensor, "b m"]) -> Float[Tensor, ""]:
    """The mean over images of the mean over those that count: parts of a batch have the mean of the whole."""
    return ((values * counts).sum(dim=1) / counts.sum(dim=1)).mean()
