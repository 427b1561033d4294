"""A tokenizer of pixels: what the codes of an image's patches rebuild. van den Oord et al. 2017,
https://arxiv.org/abs/1711.00937. BEiT predicts its ids."""

from collections.abc import Mapping

import torch
from torch import Tensor

from unmask.data.batch import Batch
from unmask.methods.families.tokens import Tokenizing
from unmask.models.encoder import Encoder
from unmask.models.tokenizer import Codes, Decay
from unmask.plain import NonNegativeFloat, PositiveInt
from unmask.registry import build

__all__ = ["VQVAE"]


class VQVAE(Tokenizing):
    words: Mapping[str, str] = {
        "loss": "squared error of pixels, and distance from the codes",
        "perplexity": "codes in use, as many as equally frequent ones",
    }

    def __init__(
        self,
        encoder: Encoder,
        codes: Codes = 1024,
        dim: PositiveInt = 32,
        decoder: str = "full(dim=256, depth=3, heads=4)",
        decay: Decay = 0.99,
        commitment: NonNegativeFloat = 0.25,
    ):
        """codes, dim: number and length of the codes (the papers have up to 8,192, for ImageNet); decoder: predicts
        pixels from codes; decay: of the averages that the codes are; commitment: weight of the distance of vectors
        from their codes."""
        super().__init__()
        self.encoder, self.commitment = encoder, commitment
        options = {"codes": codes, "dim": dim, "decoder": decoder, "decay": decay}
        self.tokenizer = build("tokenizer", "vqvae", encoder=encoder, **options)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of normalised pixels, and the commitment."""
        (x,) = batch["views"]
        rebuilt = self.tokenizer(x)
        with torch.no_grad():
            wanted = self.encoder.grid_of(x).cut(self.encoder.normalize(x))
        pixels = (rebuilt.output.float() - wanted).square().mean()
        loss = pixels + self.commitment * rebuilt.quantised.commitment
        return {"loss": loss, "pixels": pixels.detach(), **self.scalars(rebuilt)}
