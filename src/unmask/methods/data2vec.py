"""data2vec 2.0, Baevski et al. 2022: many masks per image, an encoder that sees visible patches only, and a teacher's
averaged layers to predict. https://arxiv.org/abs/2212.07525"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.masking.grid import take
from unmask.methods.families.guide import Guide
from unmask.methods.losses.spread import deviation
from unmask.models.decoder import require_usable
from unmask.models.encoder import Encoder
from unmask.plain import Few, NonNegativeFloat, PositiveInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Objective, Symptom

__all__ = ["Data2Vec"]


class Data2Vec(Objective):
    words: Mapping[str, str] = {"loss": "squared error of the teacher's features", "spread": "spread of features"}
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.03,
            says="all images look the same to the teacher: it has collapsed",
            remedy="a lower --lr, or a slower teacher: data2vec(momentum=0.9998)",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        mask: object = "inverse_block(ratio=0.8)",
        decoder: object = "conv",
        masks_per_image: Few | None = None,
        layers: PositiveInt | None = None,
        momentum: Share = 0.996,
        end: Share = 0.9999,
        class_weight: NonNegativeFloat = 0.01,
    ):
        """masks_per_image: 16 in the paper; layers: deepest ones of the teacher that are averaged, by default all but
        two, as 10 of 12. momentum: of the teacher at first, `end` at the end (0.9998 to 0.99999 over 100,000 steps in
        the paper; short runs need a faster one). class_weight: of the class token's prediction of the mean target."""
        super().__init__()
        encoder.require_masks()
        self.encoder, self.masks_per_image, self.class_weight = encoder, masks_per_image or 8, class_weight
        self.mask = build("mask", mask)
        count = layers or max(1, min(encoder.num_layers, encoder.num_maps - 2))
        text = f"ema(layers={count}, momentum={momentum}, end={end})"
        self.target = build("target", text, grid=encoder.grid, encoder=encoder)
        self.guide = Guide(self.mask, encoder, "data2vec", self.target.teacher.module, masks=self.masks_per_image)
        sizes = {"in_dim": encoder.dim, "out_dim": encoder.dim, "num_layers": encoder.num_layers}
        self.decoder = build("decoder", decoder, grid=encoder.grid, **sizes)
        require_usable(self.decoder, decoder, "data2vec", covers=self.mask.covers)
        self.predict_mean = nn.Linear(encoder.dim, encoder.dim)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """MAE's rate and decay; gradients clipped at 4."""
        return {
            "clip": Choice(4.0, "as in data2vec 2.0"),
            "masks_per_image": Choice(8, "each image is decoded once for all of them; 16 in the paper"),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        (x,) = batch["views"]
        grid, count = self.encoder.grid_of(x), self.masks_per_image
        told = self.guide(x, self.progress)
        mask = self.mask.several(count, len(x), grid, x.device, batch.get("rows"), told)
        with torch.no_grad():
            features = self.target(x)
        repeated = features.repeat_interleave(count, dim=0)
        tokens = self.encoder(x.repeat_interleave(count, dim=0), mask)
        prediction = self.decoder(tokens, mask, grid).float()
        loss = (prediction - take(repeated, mask.hidden)).square().mean()
        guess = self.predict_mean(tokens.pooled).float()
        mean = (guess - repeated.mean(dim=1)).square().mean()
        spread = deviation(features.mean(dim=1))
        return {"loss": loss + self.class_weight * mean, "spread": spread}

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.target.after_step(progress, good)
