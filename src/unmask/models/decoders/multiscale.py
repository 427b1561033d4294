"""MAE's decoder for hierarchical encoders: tokens of all stages are fused at the resolution of the last. Ryali et al.
2023 (Hiera), https://arxiv.org/abs/2306.00989.

Where the last stage has several tokens in a unit, as Hiera with q_pool=2, each of these cells is a token of the decoder
and predicts its own pixels. For an encoder of one width it is `full`.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.models.decoder import SelfAttention
from unmask.models.encoder import Tokens
from unmask.models.layers.weight_init import initialize

__all__ = ["Multiscale"]


class Multiscale(SelfAttention):
    fuses = True

    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        filled: bool = False,
        stages: Sequence[tuple[int, int]] | None = None,
    ):
        """stages: width, and tokens along a side of a unit, of each of the encoder's; None: one stage."""
        stages = stages or ((in_dim, 1),)
        last = stages[-1][1]
        cells = last ** len(grid.shape)
        if cells > 1 and out_dim % math.prod(grid.unit):
            raise UserError(
                f"the decoder multiscale predicts the pixels of {cells} cells of a patch, and this target has {out_dim}"
                " values for a patch, which are no pixels: use the target pixels"
            )
        super().__init__(grid.finer(last), in_dim, out_dim // cells, dim, depth, heads, filled=filled)
        self.units, self.side = grid, last
        convolutions = (
            nn.Conv2d(width, in_dim, side // last, side // last) if side > last else None for width, side in stages[:-1]
        )
        self.fusion = nn.ModuleDict({str(n): layer for n, layer in enumerate(convolutions) if layer is not None})
        self.num_stages = len(stages)
        initialize(self.fusion)

    @property
    def heads_of_stages(self) -> list[nn.Module | None]:
        """What each stage before the last goes through; None where it is left out, being no finer than the last."""
        return [self.fusion[str(n)] if str(n) in self.fusion else None for n in range(self.num_stages - 1)]

    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        units = grid or self.units
        if self.side == 1:
            return super().forward(tokens, mask, units)
        cells = Mask(units.cells(mask.visible, self.side), units.cells(mask.hidden, self.side))
        return units.merge(super().forward(tokens, cells, units.finer(self.side)), self.side)
