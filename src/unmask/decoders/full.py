"""MAE's decoder: self-attention over visible tokens and mask tokens. He et al. 2021, section 3.

The sequence is [prefix | visible | hidden] with gathered positions and is never put back in reading order: attention
does not care, and the hidden units come out last.
"""

from functools import partial

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from unmask.encoder import Tokens
from unmask.errors import UserError
from unmask.grid import Grid, take
from unmask.initialize import initialize
from unmask.mask import Mask
from unmask.position import sincos

__all__ = ["Full"]

LayerNorm = partial(nn.LayerNorm, eps=1e-6)  # timm's default is the same; torch's is 1e-5


class Full(nn.Module):
    position: Tensor  # n d, fixed; or 1 + n d where it comes with weights: a first row for all prefix tokens

    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        position: str = "fixed",
        filled: bool = False,
    ):
        """dim, depth, heads: width, blocks and attention heads; MAE's are the defaults for every encoder size.

        position: "fixed" for MAE's table; "stored" for one that is kept with the weights, as of foreign decoders whose
        table is another, or was made for another picture size.
        filled: the encoder's tokens are of all units, hidden ones too, so no mask token is added.
        """
        super().__init__()
        if position not in ("fixed", "stored"):
            raise UserError(f"the decoder's position is 'fixed' or 'stored', got {position!r}")
        self.stored = position == "stored"
        if min(dim, depth, heads) < 1:
            raise UserError(f"the decoder's dim, depth and heads must be 1 or more, got {dim}, {depth} and {heads}")
        if dim % heads:
            raise UserError(f"the decoder's dim must be a multiple of its heads, got dim {dim} and {heads} heads")
        self.embed = nn.Linear(in_dim, dim)
        self.filled = filled
        self.mask_token = None if filled else nn.Parameter(torch.zeros(1, 1, dim))
        table = sincos(grid, dim)
        table = nn.functional.pad(table, (0, 0, 1, 0)) if self.stored else table
        self.register_buffer("position", table, persistent=self.stored)
        norm = {"norm_layer": LayerNorm, "qkv_bias": True}
        self.blocks = nn.Sequential(*(Block(dim, heads, **norm) for _ in range(depth)))
        self.norm = LayerNorm(dim)
        self.predict = nn.Linear(dim, out_dim)
        initialize(self)

    def forward(self, tokens: Tokens, mask: Mask) -> Float[Tensor, "b h p"]:
        """One prediction per hidden unit, in the order of `mask.hidden`. Prefix tokens have position zero, unless a
        stored table says otherwise."""
        prefix, units, position = self.embed(tokens.prefix), self.embed(tokens.units), self.position
        if self.stored:
            prefix, position = prefix + position[0], position[1:]
        if self.mask_token is None:
            visible, hidden = take(units, mask.visible), take(units, mask.hidden)
        else:
            visible, hidden = units, self.mask_token
        visible, hidden = visible + position[mask.visible], hidden + position[mask.hidden]
        x = self.blocks(torch.cat([prefix, visible, hidden.to(visible.dtype)], dim=1))
        return self.predict(self.norm(x[:, -hidden.shape[1] :]))
