"""Cross-attention only: hidden units attend to the encoder's tokens, never to each other. Fu et al. 2024 (CrossMAE).

https://arxiv.org/abs/2401.14391. Hidden units do not see each other, so a step may predict only some of them, and each
prediction is the same whichever others are made. Each block sees its own learned mixture of the encoder's layers.
"""

import torch
from jaxtyping import Float
from timm.layers import Mlp, use_fused_attn
from torch import Tensor, nn

from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.models.decoder import Decoder, LayerNorm, attend, require_share, require_size, rows_at
from unmask.models.encoder import Tokens
from unmask.models.layers.weight_init import initialize

__all__ = ["Cross"]


class Cross(Decoder):
    placed = True

    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        num_layers: int,
        predict: float = 1 / 3,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        layers: int | None = None,
    ):
        """predict: share of the hidden units that each training step predicts, drawn anew for every sample; with MAE's
        ratio of 0.75 the default is the paper's quarter of all units. Drawn images have all of them predicted.
        dim, depth, heads: width, blocks and attention heads; the paper has 12 blocks, the default is MAE's 8.
        layers: number of the encoder's deepest layers to mix; all by default. num_layers: layers of the encoder.
        """
        super().__init__()
        require_share("predict", predict)
        require_size(dim, depth, heads)
        layers = num_layers if layers is None else layers
        require_whole("layers", layers)
        if layers > num_layers:
            raise UserError(
                f"this encoder has {num_layers} layer{'s' * (num_layers > 1)} that cross can mix, got layers={layers}"
            )
        self.share, self.layers = predict, layers
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.keep_positions(grid, dim)
        # logits of each block's mixture, the same for all layers at first; flat, so that they do not decay
        self.mixture = nn.Parameter(torch.zeros(depth * layers)) if layers > 1 else None
        self.blocks = nn.ModuleList(_Block(dim, heads, in_dim) for _ in range(depth))
        self.norm = LayerNorm(dim)
        self.predict = nn.Linear(dim, out_dim)
        initialize(self)

    def forward(self, tokens: Tokens | list[Tokens], mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        hidden = self.mask_token + rows_at(self.position_of(grid), mask.hidden)
        for block, memory in zip(self.blocks, self.memories([tokens] if isinstance(tokens, Tokens) else tokens)):
            hidden = block(hidden, memory)
        return self.predict(self.norm(hidden))

    def memories(self, tokens: list[Tokens]) -> list[Float[Tensor, "b m c"]]:
        """Keys and values of each block: prefix and visible tokens, mixed over the encoder's layers."""
        if self.mixture is None:
            return [torch.cat(tokens[-1], dim=1)] * len(self.blocks)
        flat = torch.cat([part for layer in tokens for part in layer], dim=1)  # b (l m) c
        flat = flat.view(len(flat), self.layers, -1)  # -> b l (m c): one matrix product mixes for all blocks
        mixed = self.mixture.view(-1, self.layers).softmax(dim=1).to(flat.dtype) @ flat
        return list(mixed.unflatten(2, (-1, tokens[-1].units.shape[2])).unbind(dim=1))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, memory_dim: int):
        super().__init__()
        self.heads, self.fused_attn = heads, bool(use_fused_attn())
        self.norm1, self.norm_memory, self.norm2 = LayerNorm(dim), LayerNorm(memory_dim), LayerNorm(dim)
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(memory_dim, 2 * dim)
        self.proj, self.mlp = nn.Linear(dim, dim), Mlp(dim, 4 * dim)

    def forward(self, x: Float[Tensor, "b h d"], memory: Float[Tensor, "b m c"]) -> Float[Tensor, "b h d"]:
        key, value = self.key_value(self.norm_memory(memory)).chunk(2, dim=2)
        x = x + self.proj(attend(self.query(self.norm1(x)), key, value, self.heads, self.fused_attn))
        return x + self.mlp(self.norm2(x))
