"""The ids that a frozen tokenizer gives to hidden units, predicted with cross-entropy. Bao et al. 2021 (BEiT),
https://arxiv.org/abs/2106.08254."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import cross_entropy

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.methods.families.tokens import Untrained, tokenizer_of
from unmask.methods.target import Target
from unmask.models.encoder import Encoder

__all__ = ["Codes"]


class Codes(Target):
    per_pixel, drawable, raw, ids = False, False, True, 1
    undrawn = "ids of a tokenizer"
    loss_words = "cross-entropy of the tokenizer's ids"

    def __init__(self, grid: Grid, encoder: Encoder, of: object = None):
        """of: the tokenizer, the folder of a run that trained one, a file of one, or a part that is one."""
        super().__init__()
        if of is None:
            raise UserError(
                "codes needs a tokenizer, in quotes: codes(of='RUN'), of a run that trained one: unmask pretrain DATA"
                " --method vqvae --out RUN"
            )
        tokenizer = tokenizer_of(of, encoder)
        if isinstance(tokenizer, Untrained):
            raise UserError(
                f"codes(of={of!r}): this tokenizer has to be trained first: unmask pretrain DATA --method"
                f" \"{of}\" --out TOKENIZER, then codes(of='TOKENIZER'); --method beit does both"
            )
        self.tokenizer, self.grid, self.dim = tokenizer, grid, tokenizer.num_codes
        self.grid_of = encoder.grid_of  # of an image of any size

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Int[Tensor, "b n 1"]:
        return self.tokenizer(x, self.grid_of(x))[..., None]

    def compare(self, prediction: Float[Tensor, "b m k"], wanted: Int[Tensor, "b m 1"]) -> Float[Tensor, ""]:
        """Cross-entropy of logits."""
        return cross_entropy(prediction.flatten(0, 1), wanted.flatten())
