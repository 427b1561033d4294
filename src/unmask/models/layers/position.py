"""Position tables: fixed sine-cosine tables for a grid of any dimension, and any table resampled for another grid.

He et al. 2021; reference order [x | y]. Tables are resampled as timm does: bicubic, antialiased.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid

MOST_GRIDS = 32  # tables that are kept for other grids


def sincos(grid: Grid, dim: int) -> Float[Tensor, "n d"]:
    """One row per unit. `dim` is shared out evenly over the axes, the last axis (x) first, as in MAE's checkpoints.

    Each axis' share holds first the sines, then the cosines, of position * 10000^(-i/f), i = 0..f-1 with
    f = dim / (2 * axes). Computed in float64. Columns left over when `dim` does not divide evenly are zero. Units of
    several parts have the positions of their own part's grid.
    """
    if grid.parts:
        return torch.cat([sincos(part.grid, dim) for part in grid.parts])
    num_freq = dim // (2 * len(grid.shape))
    if num_freq < 1:
        raise UserError(f"a width of {dim} is too small for positions on {len(grid.shape)} axes")
    freq = 10_000.0 ** (-torch.arange(num_freq, dtype=torch.float64) / num_freq)
    parts = []
    for axis in reversed(grid.coordinates().double().unbind(dim=1)):
        angle = axis[:, None] * freq
        parts += [angle.sin(), angle.cos()]
    table = torch.cat(parts, dim=1).float()
    return torch.nn.functional.pad(table, (0, dim - table.shape[1]))


def fill_sincos(table: torch.nn.Parameter, grid: Grid) -> None:
    """Writes MAE's fixed table; the rows of class and register tokens, if any, are zero."""
    with torch.no_grad():
        table.zero_()
        table[0, table.shape[1] - grid.num_units :] = sincos(grid, table.shape[2])


def resampled(
    table: Float[Tensor, "1 n d"], old: tuple[int, ...], new: tuple[int, ...], prefix: int
) -> Float[Tensor, "1 m d"]:
    """The table for another grid of two axes; unchanged if the grid is the same. Gradients reach the old table.

    old, new: shapes of the grids; prefix: rows before the units' (class and register tokens), which stay as they are.
    """
    if tuple(old) == tuple(new):
        return table
    units = table[:, prefix:].float().unflatten(1, tuple(old)).permute(0, 3, 1, 2)  # -> 1 d h w
    units = torch.nn.functional.interpolate(units, size=tuple(new), mode="bicubic", antialias=True)
    units = units.flatten(2).transpose(1, 2).to(table.dtype)
    return torch.cat([table[:, :prefix], units], dim=1) if prefix else units


class TableCache:
    """An encoder's position table for the grids of its inputs.

    Neither a module nor a buffer, so checkpoints do not contain it. A trainable table is resampled in every call, so
    that gradients reach it; of a fixed table, the result is kept per grid until the table itself changes.

    MAE's sine-cosine table is computed for a grid that fits into the encoder's own, so that units keep the positions
    they have there. Beyond it positions were never trained, and interpolated ones serve better than extrapolated ones:
    larger grids are resampled, as ViTDet and timm do.
    """

    def __init__(self, grid: Grid):
        """grid: the encoder's own, which the table is made for."""
        self.grid, self.source = grid, None
        self.state: tuple[object, ...] = ()  # of the table that `tables` were made from
        self.is_sincos, self.tables = False, {}

    def __call__(self, table: Float[Tensor, "1 n d"], grid: Grid) -> Float[Tensor, "1 m d"]:
        """table: rows of class and register tokens, if it has any, then of the units of the encoder's own grid."""
        if grid.shape == self.grid.shape:
            return table
        prefix = int(table.shape[1]) - self.grid.num_units  # a tracer hands out tensors
        if table.requires_grad:
            return resampled(table, self.grid.shape, grid.shape, prefix)
        if torch.compiler.is_compiling():  # a recorded graph cannot cache; `torch.export` takes this path too
            cached = self.tables.get(grid.shape)
            return self._made(table, grid, prefix) if cached is None else cached
        with torch.inference_mode(False), torch.no_grad():  # made here, it may be used in training later
            self._renew(table, prefix)
            if grid.shape not in self.tables:
                if len(self.tables) >= MOST_GRIDS:
                    self.tables.pop(next(iter(self.tables)))
                self.tables[grid.shape] = self._made(table, grid, prefix)
        return self.tables[grid.shape]

    def _renew(self, table: Tensor, prefix: int) -> None:
        """Drops tables computed from another table, or from this one before it changed."""
        state = table.device, table.dtype, None if table.is_inference() else table._version
        if table is not self.source or state != self.state:
            own = sincos(self.grid, table.shape[2]).to(table)
            self.source, self.state, self.tables = table, state, {}
            self.is_sincos = torch.equal(table[0, prefix:], own)

    def _made(self, table: Tensor, grid: Grid, prefix: int) -> Tensor:
        if self.is_sincos and all(side <= own for side, own in zip(grid.shape, self.grid.shape)):
            return torch.cat([table[:, :prefix], sincos(grid, table.shape[2]).to(table)[None]], dim=1)
        return resampled(table, self.grid.shape, grid.shape, prefix)
