"""A small transformer that turns the tokens of a caption into one vector.

As the text towers of CLIP and SigLIP, but for two things that suit short captions: padding is not attended to, and the
vector is the mean over the tokens.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from unmask.errors import UserError

PAD = 0  # the token of what is not there
HEAD = 64  # width of a head of attention


class TextBlock(nn.Module):
    """Attention and a network of two layers, each after a norm."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Float[Tensor, "b l d"], attended: Bool[Tensor, "b 1 1 l"]) -> Float[Tensor, "b l d"]:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))  # b l 3 h d
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=attended)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class TextTower(nn.Module):
    """Tokens of a caption to one vector of width `dim`."""

    def __init__(self, vocabulary: int, context: int, dim: int, depth: int):
        """vocabulary: tokens that there are; context: of a caption at the most."""
        super().__init__()
        self.vocabulary, self.context, self.dim, self.depth = vocabulary, context, dim, depth
        self.embed = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.empty(context, dim))
        heads = max(1, dim // HEAD)
        if dim % heads:
            raise UserError(f"a text tower is a multiple of {HEAD} wide, or narrower; got {dim}")
        self.layers = nn.ModuleList(TextBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        for weights in (self.embed.weight, self.position):
            nn.init.normal_(weights, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """A row of padding alone, which is no caption, gives a vector of no meaning."""
        words = tokens != PAD
        attended = words.clone()
        attended[:, 0] = True  # a row without any would be a division by nothing
        x = self.embed(tokens) + self.position[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, attended[:, None, None])
        weights = attended[..., None].to(x.dtype)
        return (self.norm(x) * weights).sum(dim=1) / weights.sum(dim=1)
