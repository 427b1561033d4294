"""Self-attention whose queries and keys are turned by where their units lie, as in V-JEPA 2's predictor. Assran et al.
2025, https://arxiv.org/abs/2506.09985.

It differs from `full`, which is I-JEPA's predictor and MAE's decoder, in that no positions are added to the tokens:
mask tokens are all alike until the first attention. With `order="tiled"` it computes what V-JEPA 2's predictor does,
which sorts tokens by place, as no attention notices. V-JEPA 2 has a mask token for every length of clips that it is
trained with at once; here there is one, since a run has one length.
"""

import torch
from jaxtyping import Float
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.decoder import Decoder, LayerNorm, require_size
from unmask.models.encoder import Tokens
from unmask.models.layers.unit_embed import PAIRED, require_rotary_order, rotary
from unmask.models.layers.weight_init import initialize

__all__ = ["Rotary"]


class Rotary(Decoder):
    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int = 384,
        depth: int = 12,
        heads: int = 12,
        order: str = PAIRED,
        filled: bool = False,
    ):
        """dim, depth, heads: width, blocks and attention heads; as in V-JEPA 2.

        order: of the angles, "paired" or V-JEPA 2's "tiled"; see `rotary` in layers/unit_embed.py.
        filled: the encoder returns tokens of all units, hidden ones included, so no mask token is added.
        """
        super().__init__()
        require_size(dim, depth, heads)
        require_rotary_order(order)
        self.order, self.filled = order, filled
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = None if filled else nn.Parameter(torch.zeros(1, 1, dim))
        self.keep_positions(grid, 2 * (dim // heads))
        options = {"attn_type": "rope", "num_prefix_tokens": 0, "norm_layer": LayerNorm}
        self.blocks = nn.ModuleList(EvaBlock(dim, heads, **options) for _ in range(depth))
        self.norm = LayerNorm(dim)
        self.predict = nn.Linear(dim, out_dim)
        initialize(self)

    def table(self, grid: Grid, width: int) -> Float[Tensor, "n width"]:
        """Sines, then cosines, of the angles of each value of a head."""
        return rotary(grid, width // 2, self.order)

    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        prefix, units = self.embed(tokens.prefix), self.embed(tokens.units)
        batch, num_hidden = mask.hidden.shape
        if self.mask_token is None:
            units = take(units, torch.cat(mask, dim=1))
        else:
            units = torch.cat([units, self.mask_token.expand(batch, num_hidden, -1)], dim=1)
        turns = self.position_of(grid)[torch.cat(mask, dim=1)]
        still = turns.new_zeros(batch, prefix.shape[1], 2, turns.shape[2] // 2)
        still[:, :, 1] = 1.0  # the cosine of no angle: prefix tokens lie nowhere
        rope = torch.cat([still.flatten(2), turns], dim=1)[:, None]  # the same for all heads
        x = torch.cat([prefix, units], dim=1)
        x = x.to(torch.promote_types(x.dtype, turns.dtype))  # what blocks add up stays in fp32 under autocast
        for block in self.blocks:
            x = block(x, rope=rope)
        return self.predict(self.norm(x[:, x.shape[1] - num_hidden :]))
