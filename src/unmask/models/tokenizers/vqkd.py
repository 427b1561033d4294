"""The tokenizer of BEiT v2: a ViT, a codebook of unit vectors, and a small ViT that predicts a teacher's features.
Peng et al. 2022, https://arxiv.org/abs/2208.06366."""

from unmask.models.encoder import Encoder
from unmask.models.tokenizer import Autoencoder, Codes, Decay
from unmask.plain import PositiveInt

__all__ = ["VQKD"]


class VQKD(Autoencoder):
    def __init__(
        self,
        encoder: Encoder,
        out: PositiveInt,
        codes: Codes = 1024,
        dim: PositiveInt = 32,
        decoder: str = "full(dim=256, depth=3, heads=4)",
        decay: Decay = 0.99,
    ):
        """out: width of the teacher's features; codes, dim: number and length of the codes; decoder: predicts the
        features of every unit."""
        super().__init__(encoder, out, codes, dim, decoder, decay, unit=True)
        self.text = f"vqkd(out={out}, codes={codes}, dim={dim}, decoder={decoder!r})"
