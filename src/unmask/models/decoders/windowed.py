"""MAE's decoder with attention inside windows of the grid, for large images: every hidden unit is predicted, and the
cost grows with the number of units, not with its square.

Units are put back on the grid. The windows of every second block are shifted by half their size, so that information
crosses their borders; both ideas are Swin's, Liu et al. 2021, https://arxiv.org/abs/2103.14030. Every window sees the
prefix tokens, whose new value is the mean over windows. The weights are those of `full`; where one window covers the
grid, so are the results.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import pad

from unmask.errors import require_whole
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.decoder import SelfAttention
from unmask.models.encoder import Tokens

__all__ = ["Windowed"]


class Windowed(SelfAttention):
    whole, placed = True, False
    last_block = Block  # every block needs all units, the last one too

    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        window: int = 14,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        filled: bool = False,
    ):
        """window: largest number of units along each axis of a window. All windows have the same size, the smallest
        that covers the grid with that many windows; positions beyond the grid are left out of attention."""
        require_whole("window, in units along each axis,", window)
        super().__init__(grid, in_dim, out_dim, dim, depth, heads, filled=filled)
        self.window = window
        self._cuts: dict[Any, list[_Cut]] = {}

    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        prefix, visible, hidden = self.parts(tokens, mask, grid)
        order = torch.cat(mask, dim=1).argsort(dim=1)
        x = take(torch.cat([visible, hidden], dim=1), order)  # -> reading order
        plain_and_shifted = self.cuts(grid or self.grid, x.device)
        for number, block in enumerate(self.blocks):
            prefix, x = inside(block, plain_and_shifted[number % 2], prefix, x)
        return self.predict(self.norm(take(x, mask.hidden)))

    def cuts(self, grid: Grid, device: torch.device) -> "list[_Cut]":
        """The plain and the shifted windows, computed once for each grid."""
        key = grid.shape, device
        if key not in self._cuts:
            with torch.inference_mode(False):  # made here, they may be used in training later
                self._cuts[key] = [_cut(grid, self.window, shifted, device) for shifted in (False, True)]
        return self._cuts[key]


class _Cut(NamedTuple):
    """A grid cut into w windows of t units each."""

    unit: Int[Tensor, "w t"]  # at each place of each window; 0 beyond the grid
    region: Int[Tensor, "w t"]
    place: Int[Tensor, "n"]  # of each unit, windows in a row
    apart: bool  # some window has more than one region


def _cut(grid: Grid, most: int, shifted: bool, device: torch.device) -> _Cut:
    unit, region = _windows(grid.shape, most, shifted)
    order = unit.flatten().argsort(stable=True)[-grid.num_units :]  # the first of them are beyond the grid
    apart = bool((region != region[:, :1]).any())
    return _Cut(unit.clamp(min=0).to(device), region.to(device), order.to(device), apart)


def inside(
    block: nn.Module, cut: _Cut, prefix: Float[Tensor, "b p d"], x: Float[Tensor, "b n d"]
) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b n d"]]:
    """Applies a block to each window together with the prefix tokens; units are in reading order before and after."""
    (batch, _, dim), (count, size), num = x.shape, cut.unit.shape, prefix.shape[1]
    windows = x[:, cut.unit.flatten()].view(batch * count, size, dim)
    windows = torch.cat([prefix.repeat_interleave(count, dim=0), windows], dim=1)
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    bias = _bias(cut.region, num, batch, dtype) if cut.apart else None
    windows = block(windows, bias)  # by place: what changes the type of tokens changes this one's too
    prefix = windows[:, :num].unflatten(0, (batch, count)).mean(dim=1)
    return prefix, windows[:, num:].reshape(batch, count * size, dim)[:, cut.place]


def _windows(shape: tuple[int, ...], most: int, shifted: bool) -> tuple[Int[Tensor, "w t"], Int[Tensor, "w t"]]:
    """The unit at each position of each window, -1 beyond the grid, and its region: only positions of one region are
    neighbours, since a shifted window at the border holds units of opposite edges. Regions beyond the grid are -1."""
    units = regions = torch.zeros(1, 1, dtype=torch.long, device="cpu")  # read while it is made, wherever that is
    for length in shape:
        count = math.ceil(length / min(most, length))
        size = math.ceil(length / count)
        at = torch.arange(count * size, device="cpu") + (size // 2 if shifted and count > 1 else 0)
        wrapped, at = at // (count * size), at % (count * size)
        inside = at < length
        own, region = torch.where(inside, at, -1).view(count, size), torch.where(inside, wrapped, -1).view(count, size)
        units = _outer(units, own, length)
        regions = _outer(regions, region, 2)
    return units, regions


def _outer(a: Int[Tensor, "w t"], b: Int[Tensor, "v s"], base: int) -> Int[Tensor, "w*v t*s"]:
    """Row-major indices of pairs, window by window and position by position; -1 where either is -1."""
    first, second = a[:, None, :, None], b[None, :, None, :]
    both = torch.where((first < 0) | (second < 0), -1, first * base + second)
    return both.flatten(2, 3).flatten(0, 1)


def _bias(region: Int[Tensor, "w t"], num: int, batch: int, dtype: torch.dtype) -> Float[Tensor, "k 1 s s"]:
    """The attention bias: 0 between positions of one region and for prefix tokens, which see all units."""
    same = pad(region[:, :, None] == region[:, None, :], (num, 0), value=True)
    visible = pad(region >= 0, (num, 0), value=True)[:, None].expand(-1, num, -1)
    allowed = torch.cat([visible, same], dim=1)
    bias = torch.zeros(allowed.shape, dtype=dtype, device=region.device).masked_fill(~allowed, float("-inf"))
    return bias[:, None].repeat(batch, 1, 1, 1)
