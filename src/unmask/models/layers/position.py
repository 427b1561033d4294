"""Position tables: fixed sine-cosine ones for a grid of any dimension, and any table brought to another grid.

He et al. 2021; reference order [x | y]. Tables are resampled as timm does: bicubic, antialiased.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid


def sincos(grid: Grid, dim: int) -> Float[Tensor, "n d"]:
    """One row per unit. `dim` is shared out evenly over the axes, the last axis (x) first, as in MAE's checkpoints.

    Each axis' share holds first the sines, then the cosines, of position * 10000^(-i/f), i = 0..f-1 with
    f = dim / (2 * axes). Computed in float64. Columns left over when `dim` does not divide evenly are zero.
    """
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


def resampled(
    table: Float[Tensor, "1 n d"], old: tuple[int, ...], new: tuple[int, ...], prefix: int
) -> Float[Tensor, "1 m d"]:
    """A table for another grid of two axes; the same table where nothing changes. Gradients reach the old one.

    old, new: shapes of the grids; prefix: rows before the units' (class and register tokens), which stay as they are.
    """
    if tuple(old) == tuple(new):
        return table
    units = table[:, prefix:].float().unflatten(1, tuple(old)).permute(0, 3, 1, 2)  # -> 1 d h w
    units = torch.nn.functional.interpolate(units, size=tuple(new), mode="bicubic", antialias=True)
    units = units.flatten(2).transpose(1, 2).to(table.dtype)
    return torch.cat([table[:, :prefix], units], dim=1) if prefix else units
