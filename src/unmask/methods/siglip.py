"""SigLIP, Zhai et al. 2023: images and captions that belong together get like vectors. https://arxiv.org/abs/2303.15343

Alone, or together with MAE: `siglip(mae=1.0)` rebuilds hidden patches of each image too, also of those without a
caption. Weak signals go together (Weers et al. 2023, https://arxiv.org/abs/2301.07836): MAE helps where pairs are few.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import normalize

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.captions.tokenizer import LEAST, CaptionSettings
from unmask.data.sheet import Sheet
from unmask.errors import DataError, UserError
from unmask.masking.mask import Mask
from unmask.methods.families.prediction import Prediction, light_decoder
from unmask.methods.families.views import joint_defaults
from unmask.methods.losses.pairs import against_constant, find_captions, sigmoid_loss
from unmask.methods.losses.spread import deviation
from unmask.methods.target import Target
from unmask.models.decoder import require_usable
from unmask.models.encoder import Encoder
from unmask.models.text.tower import TextTower
from unmask.plain import NonNegativeFloat, PositiveFloat, PositiveInt
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Symptom

__all__ = ["SigLIP"]
VOCABULARY, CONTEXT = 8192, 64  # tokens at the most; the context is SigLIP's
TOKENS_OF_A_WORD = 1.5  # about, where words are rare
BIAS = -10.0  # of the cosines at first, as in SigLIP: nearly all pairs do not belong together
ODD = 0x9E3779B97F4A7C15  # its powers turn a row of tokens into one number


class SigLIP(Comparing, Prediction):
    factors: Tensor
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.01,
            says="all images get the same vector: none can be told from another by words",
            remedy="a lower --lr, more --warmup, and captions that differ from image to image",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        mae: NonNegativeFloat = 0.0,
        mask: object = None,
        target: object = None,
        decoder: object = None,
        vocabulary: PositiveInt = VOCABULARY,
        context: PositiveInt = CONTEXT,
        text_width: PositiveInt = 192,
        text_depth: PositiveInt = 4,
        out: PositiveInt = 256,
        temperature: PositiveFloat = 0.1,
    ):
        """mae: weight of MAE's loss beside SigLIP's; mask, target, decoder: of MAE, its own by default. vocabulary,
        context: of captions, in tokens; text_width, text_depth: of the transformer that reads them; out: width of the
        vectors that are compared. temperature: of the cosines, at
        first; it is learnt."""
        super().__init__()
        self.encoder, self.mae, self.out = encoder, mae, out
        self.text = TextTower(vocabulary, context, text_width, text_depth)
        self.image_head, self.text_head = nn.Linear(encoder.dim, out), nn.Linear(text_width, out)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(BIAS))
        self.register_buffer("factors", torch.tensor(powers(context)), persistent=False)
        self.words = {
            "loss": "sigmoid loss of pairs of image and caption",
            "accuracy": "images that find their caption",
            "guessing": "the sigmoid loss as a share of that of guessing",
            "spread": "spread of the images' vectors",
        }
        if mae:
            self._rebuilding(mask or "random", target or "pixels", decoder or "full")
            self.words |= {"loss": "sigmoid loss of pairs, and squared error on hidden patches"}
            self.words |= {"rebuilt": "squared error alone"}
        elif given := [name for name, part in (("mask", mask), ("target", target), ("decoder", decoder)) if part]:
            raise UserError(
                f"siglip alone hides nothing, so --{given[0]} does nothing; siglip(mae=1.0) has MAE's loss too"
            )

    def _rebuilding(self, mask: object, target: object, decoder: object) -> None:
        """The parts of MAE."""
        encoder = self.encoder
        encoder.require_masks()
        self.mask = build("mask", mask)
        self.target = build("target", target, grid=encoder.grid, channels=encoder.channels, encoder=encoder)
        sizes = {"grid": encoder.grid, "in_dim": encoder.dim, "num_layers": encoder.num_layers}
        self.decoder = build("decoder", decoder, out_dim=self.target.dim, **sizes)
        require_usable(self.decoder, decoder, "siglip", covers=self.mask.covers)
        self.guide = self.guided("siglip", errors=False)

    @classmethod
    def captions(cls, options: Mapping[str, object]) -> CaptionSettings:
        vocabulary, context = options.get("vocabulary", VOCABULARY), options.get("context", CONTEXT)
        return CaptionSettings(cast(int, vocabulary), cast(int, context))

    @classmethod
    def defaults_of(
        cls, options: Mapping[str, object], encoder: Encoder, sheet: Sheet, machine: Machine
    ) -> Mapping[str, Choice]:
        """A vocabulary and a batch that fit the captions. Raises DataError where there are none."""
        facts = sheet.captions
        if not facts:
            raise DataError(
                f"siglip learns from captions, and {sheet.where} has none: put a captions.csv with the columns file and"
                " caption beside the images, or text beside each in a tar (0001.jpg, 0001.txt)"
            )
        shared = joint_defaults(encoder, sheet, crop=0.5, weight_decay=0.1, blr=1.5e-4, name="SigLIP")
        vocabulary = min(VOCABULARY, -(-(LEAST + 2 * facts["words"]) // 64) * 64)
        context = min(CONTEXT, -(-int(TOKENS_OF_A_WORD * facts["longest"] + 2) // 8) * 8)
        own = {
            "vocabulary": Choice(vocabulary, f"tokens for {facts['words']:,} different words; {VOCABULARY:,} at most"),
            "context": Choice(context, f"the longest caption is {facts['longest']} words; {CONTEXT} tokens at most"),
            "crop": Choice(0.5, "what a caption names is to be seen in the crop"),
        }
        parts = (
            {"mask": "random(ratio=0.75)", "target": "pixels", "decoder": light_decoder(encoder)}
            if options.get("mae")
            else {}
        )
        return {**shared, **own, **{name: Choice(text, "as in MAE") for name, text in parts.items()}}

    @property
    def drawable(self) -> bool:
        return bool(self.mae) and super().drawable

    def prepare(self, batches: Iterator[Batch]) -> None:
        if self.mae:
            super().prepare(batches)

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        if self.mae:
            super().after_step(progress, good)

    def predict(self, x: Shaped[Tensor, "b c *size"], mask: Mask) -> Float[Tensor, "b h p"]:
        """Predicted targets of the hidden units, in the order of `mask.hidden`."""
        return self.decoder(self.encoder(x, mask), mask, self.encoder.grid_of(x))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss; without captions, as it is drawn and exported, that of the reconstruction."""
        if "tokens" not in batch and "embeddings" not in batch and self.mae:
            (x,), mask = batch["views"], self.draw(batch)
            rebuilt = self._errors(x, mask).mean()
            return {"loss": rebuilt, "rebuilt": rebuilt}
        return super().forward(batch)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        (x,), tokens = batch["views"], batch["tokens"]
        embeddings = {
            "image": self.image_head(self.encoder(x).units.mean(dim=1)),
            "text": self.text_head(self.text(tokens)),
            "caption": numbered(tokens, self.factors),
        }
        return embeddings | ({"errors": self._errors(x, self.draw(batch))} if self.mae else {})

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        image, text, caption = (embeddings[name] for name in ("image", "text", "caption"))
        pairs = sigmoid_loss(image, text, self.log_scale.exp(), self.bias, caption)
        said = {"accuracy": find_captions(image, text, caption), "guessing": against_constant(pairs, caption)}
        said |= {"spread": deviation(image)}
        if not self.mae:
            return {"loss": pairs, **said}
        rebuilt = embeddings["errors"].mean()
        return {"loss": pairs + self.mae * rebuilt, "rebuilt": rebuilt, **said}

    def _errors(self, x: Shaped[Tensor, "b c *size"], mask: Mask) -> Float[Tensor, "b"]:
        """MAE's loss of every sample; the mean, where the target has a loss of its own."""
        prediction, wanted = self.predict(x, mask).float(), self.targets(x, mask.hidden)
        if isinstance(self.target, Target) and self.target.loss_words is not None:
            return self.target.compare(prediction, wanted).expand(len(prediction))
        prediction, share = self.without_gaps(x, mask.hidden, prediction, wanted)
        return (prediction - wanted).square().mean(dim=(1, 2)) / share

    def vectors_of_texts(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Of unit length."""
        return normalize(self.text_head(self.text(tokens)).float(), dim=1)


def powers(count: int) -> list[int]:
    """Factors that turn a row of tokens into one number of 64 bits, as signed ones."""
    factors = [pow(ODD, place + 1, 2**64) for place in range(count)]
    return [factor - 2**64 if factor >= 2**63 else factor for factor in factors]


def numbered(tokens: Int[Tensor, "b l"], factors: Int[Tensor, "l"]) -> Int[Tensor, "b"]:
    """A number for each caption, the same for the same tokens; 0 for rows of padding."""
    return (tokens * factors).sum(dim=1)
