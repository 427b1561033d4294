"""A vector-quantised autoencoder of pixels. van den Oord et al. 2017, https://arxiv.org/abs/1711.00937; with a ViT as
its encoder, as in ViT-VQGAN (Yu et al. 2021), so that any encoder gives the ids of its own units."""

import math

from unmask.models.encoder import Encoder
from unmask.models.tokenizer import Autoencoder, Codes, Decay
from unmask.plain import PositiveInt

__all__ = ["VQVAE"]


class VQVAE(Autoencoder):
    def __init__(
        self,
        encoder: Encoder,
        codes: Codes = 1024,
        dim: PositiveInt = 32,
        decoder: str = "full(dim=256, depth=3, heads=4)",
        decay: Decay = 0.99,
    ):
        """codes, dim: number and length of the codes; decoder: predicts the normalised pixels of every unit."""
        values = math.prod(encoder.grid.unit) * encoder.channels
        super().__init__(encoder, values, codes, dim, decoder, decay, unit=False)
        self.text = f"vqvae(codes={codes}, dim={dim}, decoder={decoder!r})"
