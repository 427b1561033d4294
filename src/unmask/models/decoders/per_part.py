"""A decoder for each part of an input, all of which see every token of the encoder. Bachmann et al. 2022 (MultiMAE),
section 3.3, https://arxiv.org/abs/2204.01678.

For every unit of its part, a query attends to the tokens of all parts: the unit's own token if it is visible, else a
learned one. Then the units of a part attend to each other. Of a grid without parts it is one decoder of this kind.
"""

import torch
from jaxtyping import Float
from timm.layers import Mlp, use_fused_attn
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import pad

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.decoder import BLOCK, Decoder, LayerNorm, attend, require_size
from unmask.models.encoder import Tokens
from unmask.models.layers.weight_init import initialize

__all__ = ["PerPart"]


class PerPart(Decoder):
    whole = True

    def __init__(self, grid: Grid, in_dim: int, out_dim: int, dim: int = 256, depth: int = 2, heads: int = 8):
        """dim, depth, heads: width, blocks behind the cross-attention, and attention heads, of each part's decoder; as
        in the paper."""
        super().__init__()
        require_size(dim, depth, heads)
        self.keep_positions(grid, dim)
        self.out_dim, count = out_dim, len(grid.spans)
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(count, dim))
        self.part = nn.Parameter(torch.zeros(count, dim))
        self.parts = nn.ModuleList(
            _PartDecoder(dim, depth, heads, min(out_dim, part.num_predicted) if part else out_dim)
            for part in grid.parts or (None,)
        )
        initialize(self)
        nn.init.normal_(self.part, std=0.02)

    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        own, position = grid or self.grid, self.position_of(grid)
        if len(own.spans) != len(self.parts):
            raise UserError("the decoder per_part was made for other parts than those of this input")
        part = own.part_of(position.device)
        prefix, visible = self.embed(tokens.prefix), self.embed(tokens.units)
        queries = self.mask_token[part].to(visible.dtype).expand(len(visible), -1, -1)
        queries = queries.scatter(1, mask.visible[..., None].expand_as(visible), visible)
        placed = (position + self.part[part]).expand(len(visible), -1, -1)
        queries = queries + placed
        memory = torch.cat([prefix, visible + take(placed, mask.visible)], dim=1)
        predictions = [decoder(queries[:, a:b], memory) for decoder, (a, b) in zip(self.parts, own.spans)]
        wide = [pad(prediction, (0, self.out_dim - prediction.shape[2])) for prediction in predictions]
        return take(torch.cat(wide, dim=1), mask.hidden)


class _PartDecoder(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, out_dim: int):
        super().__init__()
        self.heads, self.fused_attn = heads, bool(use_fused_attn())
        self.norm1, self.norm_memory, self.norm2 = LayerNorm(dim), LayerNorm(dim), LayerNorm(dim)
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.proj, self.mlp = nn.Linear(dim, dim), Mlp(dim, 4 * dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, **BLOCK) for _ in range(depth)))
        self.norm, self.predict = LayerNorm(dim), nn.Linear(dim, out_dim)

    def forward(self, x: Float[Tensor, "b n d"], memory: Float[Tensor, "b m d"]) -> Float[Tensor, "b n p"]:
        key, value = self.key_value(self.norm_memory(memory)).chunk(2, dim=2)
        x = x + self.proj(attend(self.query(self.norm1(x)), key, value, self.heads, self.fused_attn))
        x = self.blocks(x + self.mlp(self.norm2(x)))
        return self.predict(self.norm(x))
