"""MAE's decoder, narrow and shallow: 4 blocks of width 256, for encoders up to ViT-S.

The size is that of small decoders as MAE-Lite argues for (Wang et al. 2022, https://arxiv.org/abs/2205.14443), whose
own for ViT-Ti is smaller still: full(dim=96, depth=1, heads=3), in the recipe mae_lite.
"""

from unmask.decoder import SelfAttention
from unmask.grid import Grid

__all__ = ["Narrow"]


class Narrow(SelfAttention):
    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int = 256,
        depth: int = 4,
        heads: int = 8,
        filled: bool = False,
    ):
        """dim, depth, heads: width, blocks and attention heads."""
        super().__init__(grid, in_dim, out_dim, dim, depth, heads, filled=filled)
