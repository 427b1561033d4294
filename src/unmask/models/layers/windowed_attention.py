"""Windowed attention for images of many units: most blocks look at a window, a few at everything. Li et al. 2022.

"Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet, https://arxiv.org/abs/2203.16527), as in
SAM: windows of 14 x 14 units that do not overlap, and 4 global blocks, each the last of a quarter. Neither adds a
parameter, so that weights of a plain ViT fit and stay a plain ViT's. ViTDet's relative positions, which do, are an
option: see `relative.py`.

Class and register tokens are a window of their own: in windowed blocks they see each other, in global ones all. Without
a mask, units are cut into windows, padded where the grid is no multiple, and nothing attends to padding. With hidden
units dropped, windows hold different numbers of visible ones, and which is known on the device only. Then attention is
over all visible units and others than those of the same window are masked out: exactly the same, with static shapes. It
saves no time there, but with 3/4 hidden attention is a small part of a step; windows pay when nothing is hidden.

The grid is the call's, which may be another than the encoder was built for. A block is told it in the place of a mask
of attention, so that it still knows when it is computed again.
"""

import inspect
import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid
from unmask.models.layers.relative_position import Place, Relative

WIDEST = 128  # patches along a side of a window: 16,384 that all see each other


class Windows:
    """Hooks on the blocks of a timm ViT; `see` says which units come."""

    def __init__(
        self,
        blocks: Any,
        grid: Grid,
        num_prefix: int,
        window: int | None = None,
        global_blocks: int = 4,
        relative: bool = False,
    ):
        """blocks: of the ViT; window: units along a side, None for none; global_blocks: how many at the most see
        everything; relative: with relative positions, whose tables are `tables`, one for each block."""
        require_whole("global_blocks, without which windows never learn of each other,", global_blocks)
        if window is not None:
            require_whole("window (ViTDet and SAM have window=14)", window)
            if window > WIDEST:
                raise UserError(
                    f"--window {window} is a window of {window**2:,} patches; {WIDEST} is the most, 14 is usual"
                )
            if window**2 < num_prefix:
                raise UserError(f"a window of {window} x {window} units is too small; ViTDet and SAM have window=14")
        self.grid, self.num_prefix, self.window = grid, num_prefix, window or max(grid.shape)
        self.shape = self.split_shape = (grid.shape[0], grid.shape[1])
        self.bias: Tensor | None = None
        seeing = last_of_parts(len(blocks), global_blocks) if window else set(range(len(blocks)))
        self.windowed = [block for place, block in enumerate(blocks) if place not in seeing]
        self.tables = nn.ModuleList()
        for place, block in enumerate(blocks):
            alone = place in seeing
            if alone and not relative:
                continue
            if "attn_mask" not in inspect.signature(type(block).forward).parameters:
                what = "relative positions need" if alone else "windowed attention needs"
                raise UserError(f"{what} timm's usual ViT blocks; these are {type(block).__name__}")
            table = None
            if relative:
                table = Relative(block.attn, grid.shape if alone else (self.window, self.window))
                self.tables.append(table)
            block.register_forward_pre_hook(self._tell, with_kwargs=True)
            if alone and table is not None:
                block.attn.register_forward_pre_hook(partial(self._place, table), with_kwargs=True)
            else:
                block.attn.register_forward_pre_hook(partial(self._split, table), with_kwargs=True)
                block.attn.register_forward_hook(self._join, with_kwargs=True)

    def see(self, visible: Int[Tensor, "b v"] | None, shape: tuple[int, ...] | None = None) -> None:
        """The units of the next call, or None for all in reading order; shape: of their grid, if not the own one."""
        self.bias, (rows, columns) = None, shape or self.grid.shape
        self.shape = rows, columns
        if visible is not None and self.windowed:
            dtype = next(p for p in self.windowed[0].attn.parameters()).dtype
            same = self._together(visible)
            self.bias = torch.zeros_like(same, dtype=dtype).masked_fill(~same, -math.inf)

    def _together(self, visible: Int[Tensor, "b v"]) -> Bool[Tensor, "b 1 t t"]:
        """Which tokens share a window; prefix tokens are in window -1."""
        at = self.grid.coordinates(visible.device).long() // self.window
        of_unit = at[:, 0] * self._counts(self.grid.shape)[1] + at[:, 1]
        prefix = of_unit.new_full((len(visible), self.num_prefix), -1)
        window = torch.cat([prefix, of_unit[visible]], dim=1)
        return (window[:, :, None] == window[:, None, :])[:, None]

    def _tell(self, block: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, kwargs | {"attn_mask": self.shape if self.bias is None else self.bias}

    def _place(self, table: Relative, attn: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        table.place = Place(kwargs["attn_mask"], self.num_prefix)
        return args, kwargs | {"attn_mask": None}

    def _split(self, table: Relative | None, attn: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        if not isinstance(kwargs.get("attn_mask"), tuple):
            return args, kwargs
        self.split_shape = kwargs["attn_mask"]  # for `_join`, which comes right after
        if table is not None:
            together = math.prod(self._counts(self.split_shape)) + 1 if self.num_prefix else 0
            table.place = Place((self.window, self.window), windows=together)
        parts, keys = self.split(args[0], self.split_shape)
        return (parts, *args[1:]), kwargs | {"attn_mask": keys}

    def _join(self, attn: nn.Module, args: Any, kwargs: dict[str, Any], out: Tensor) -> Tensor:
        keys = kwargs["attn_mask"]  # of all tokens: nothing was split; of windows: one row for all their tokens
        return out if keys is not None and keys.shape[2] > 1 else self.join(out, self.split_shape)

    def split(
        self, x: Float[Tensor, "b t d"], shape: tuple[int, int]
    ) -> tuple[Float[Tensor, "w s d"], Float[Tensor, "w 1 1 s"] | None]:
        """Tokens by window, those of a sample in a row and its prefix tokens last; 0 for tokens and -inf for padding,
        or None where there is no padding."""
        (rows, columns), w, p = shape, self.window, self.num_prefix
        down, across = self._counts(shape)
        units = x[:, p:].unflatten(1, shape)
        units = nn.functional.pad(units, (0, 0, 0, across * w - columns, 0, down * w - rows))
        units = units.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3).flatten(1, 2)  # -> b (y x) w w d
        parts = units.flatten(2, 3)
        if p:  # as often as they fit: attention to copies is attention to the token
            copies = x[:, :p].repeat(1, w * w // p, 1)
            parts = torch.cat([parts, nn.functional.pad(copies, (0, 0, 0, w * w - copies.shape[1]))[:, None]], dim=1)
        real = self._real(shape, x.device)
        keys = torch.zeros_like(real, dtype=x.dtype).masked_fill(~real, -math.inf).repeat(x.shape[0], 1)[:, None, None]
        return parts.flatten(0, 1), None if self._full(shape) else keys

    def join(self, parts: Float[Tensor, "w s d"], shape: tuple[int, int]) -> Float[Tensor, "b t d"]:
        """Undoes `split`."""
        (rows, columns), w, p = shape, self.window, self.num_prefix
        counts = self._counts(shape)
        parts = parts.unflatten(0, (-1, math.prod(counts) + bool(p)))
        units = parts[:, : math.prod(counts)].unflatten(2, (w, w)).unflatten(1, counts).transpose(2, 3)
        units = units.flatten(3, 4).flatten(1, 2)[:, :rows, :columns].flatten(1, 2)  # b y w x w d -> b (y w) (x w) d
        return torch.cat([parts[:, -1, :p], units], dim=1) if p else units

    def _counts(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Windows along each axis."""
        return -(-shape[0] // self.window), -(-shape[1] // self.window)

    def _full(self, shape: tuple[int, int]) -> bool:
        """True where windows hold no padding."""
        divides = all(side % self.window == 0 for side in shape)
        return divides and (not self.num_prefix or self.window**2 % self.num_prefix == 0)

    def _real(self, shape: tuple[int, int], device: torch.device) -> Bool[Tensor, "w s"]:
        """True where a place in a window holds a token."""
        (rows, columns), w, p = shape, self.window, self.num_prefix
        counts = self._counts(shape)
        down = torch.arange(counts[0] * w, device=device).view(-1, 1, w, 1) < rows
        across = torch.arange(counts[1] * w, device=device).view(1, -1, 1, w) < columns
        real = (down & across).flatten(2).flatten(0, 1)
        if p:
            own = torch.arange(w * w, device=device) < w * w // p * p
            real = torch.cat([real, own[None]])
        return real


def last_of_parts(depth: int, parts: int) -> set[int]:
    """The last block of each of `parts` equal parts, as in ViTDet: 2, 5, 8, 11 of 12. Fewer parts where one would have
    fewer than three blocks."""
    parts = min(parts, max(1, depth // 3))
    return {(place + 1) * depth // parts - 1 for place in range(parts)}
