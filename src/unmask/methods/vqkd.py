"""The tokenizer of BEiT v2: codes that rebuild a frozen teacher's features. Peng et al. 2022,
https://arxiv.org/abs/2208.06366."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unmask.data.batch import Batch
from unmask.errors import UserError
from unmask.methods.families.tokens import Tokenizing
from unmask.models.encoder import Encoder
from unmask.models.tokenizer import Codes, Decay
from unmask.plain import NonNegativeFloat, PositiveInt
from unmask.registry import build
from unmask.weights.frozen_teacher import FrozenTeacher

__all__ = ["VQKD"]


class VQKD(Tokenizing):
    words: Mapping[str, str] = {
        "loss": "1 - cosine to the teacher's features, and distance from the codes",
        "perplexity": "codes in use, as many as equally frequent ones",
    }

    def __init__(
        self,
        encoder: Encoder,
        of: str | None = None,
        codes: Codes = 1024,
        dim: PositiveInt = 32,
        decoder: str = "full(dim=256, depth=3, heads=4)",
        decay: Decay = 0.99,
        commitment: NonNegativeFloat = 1.0,
        model: str | None = None,
        size: int | Sequence[int] | None = None,
    ):
        """of: the teacher, a run folder, a file or folder of weights, or a timm name; codes, dim: number and length of
        the codes (the paper has 8,192 of 32, for ImageNet); decoder: predicts features from codes; decay: of the
        averages that the codes are; commitment: weight of the distance of vectors from their codes; model: a timm
        name, where a file does not tell; size: at which the teacher sees images, pixels."""
        super().__init__()
        if not isinstance(of, str) or not of:
            raise UserError(
                "vqkd needs a teacher, in quotes: vqkd(of='timm:vit_small_patch16_224.dino'), or the folder of a run,"
                " or a file of weights; vqvae needs none"
            )
        self.encoder, self.commitment = encoder, commitment
        self.teacher = FrozenTeacher(of, encoder, model, size)
        options = {"codes": codes, "dim": dim, "decoder": decoder, "decay": decay}
        self.tokenizer = build("tokenizer", "vqkd", encoder=encoder, out=self.teacher.dim, **options)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """1 - cosine between rebuilt and true features, and the commitment."""
        (x,) = batch["views"]
        rebuilt = self.tokenizer(x)
        with torch.no_grad():
            wanted = self.teacher(x, self.encoder.grid_of(x))
        apart = (1 - cosine_similarity(rebuilt.output.float(), wanted, dim=-1)).mean()
        loss = apart + self.commitment * rebuilt.quantised.commitment
        return {"loss": loss, "apart": apart.detach(), **self.scalars(rebuilt)}
