"""MAE's decoder: self-attention over visible tokens and mask tokens, every hidden unit predicted. He et al. 2021.

What it does is written in `unmask/decoder.py`, since others vary it.
"""

from unmask.decoder import SelfAttention
from unmask.grid import Grid

__all__ = ["Full"]


class Full(SelfAttention):
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

        position, filled: see `SelfAttention`.
        """
        super().__init__(grid, in_dim, out_dim, dim, depth, heads, position, filled)
