"""MAE's decoder, as small as the plan takes it for encoders under 384 wide: 2 blocks of width 128."""

from unmask.decoder import SelfAttention
from unmask.grid import Grid

__all__ = ["Slim"]


class Slim(SelfAttention):
    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int = 128,
        depth: int = 2,
        heads: int = 4,
        filled: bool = False,
    ):
        """dim, depth, heads: width, blocks and attention heads."""
        super().__init__(grid, in_dim, out_dim, dim, depth, heads, filled=filled)
