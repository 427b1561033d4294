"""Windowed attention for images of many units: most blocks see one window, a few the whole image. Li et al. 2022.

"Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet, https://arxiv.org/abs/2203.16527), as in
SAM: windows of 14 x 14 units that do not overlap, and 4 global blocks, each the last of a quarter. Neither adds a
parameter, so that weights of a plain ViT fit and stay a plain ViT's. ViTDet's relative positions, which do, are an
option: see `relative_position.py`.

Class and register tokens are a window of their own: in windowed blocks they see each other, in global ones all. Without
a mask, units are cut into windows, padded where the grid is no multiple, and nothing attends to padding. When hidden
units are dropped, windows hold different numbers of visible units, known only on the device. Attention then runs over
all visible units, with those of other windows masked out: the same result with static shapes. This saves no time, but
with 3/4 hidden, attention is a small part of a step; windows pay off when nothing is hidden.

The grid is that of the input, which may differ from the encoder's own: each block gets it as a `Layout` together with
its tokens, so that it is still available when activation checkpointing recomputes the block.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid
from unmask.models.layers.relative_position import Place, Relative

WIDEST = 128  # patches along a side of a window: 16,384 that all see each other


class Layout(NamedTuple):
    """Positions of the tokens of one call."""

    shape: tuple[int, int]  # rows and columns of units
    bias: Float[Tensor, "b 1 t t"] | None = None  # -inf between windows when units are hidden; None: all units given


class WindowedBlock(Block):
    """timm's block with optional windows and relative positions in its attention. Its other parts work on each token
    separately and are unchanged."""

    windows: "Windows | None" = None  # None: attention to everything
    relative: tuple[Relative, ...] = ()  # one, if any; in a tuple, since its weights are not part of the net

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        layout: Layout | None = None,
    ) -> Float[Tensor, "b t d"]:
        """layout: None for timm's own block."""
        normed = self.norm1(x)
        mixed = (
            self.attn(normed, attn_mask=attn_mask, is_causal=is_causal)
            if layout is None
            else self.attend(normed, layout)
        )
        x = x + self.drop_path1(self.ls1(mixed))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))

    def attend(self, x: Float[Tensor, "b t d"], layout: Layout) -> Float[Tensor, "b t d"]:
        """Attention of normed tokens."""
        windows, shape = self.windows, layout.shape
        for table in self.relative:
            table.place = Place(shape, table.prefix) if windows is None else windows.place(shape)
        if windows is None:
            return self.attn(x)
        if layout.bias is not None:
            return self.attn(x, attn_mask=layout.bias)
        parts, keys = windows.split(x, shape)
        return windows.join(self.attn(parts, attn_mask=keys), shape)


class Windows:
    """Cuts the grid of a call into windows, for the blocks of a timm ViT."""

    def __init__(
        self,
        blocks: Any,
        grid: Grid,
        num_prefix: int,
        window: int | None = None,
        global_blocks: int = 4,
        relative: bool = False,
        attend_padding: bool = False,
    ):
        """blocks: WindowedBlocks of the ViT; window: units along a side, None for none; global_blocks: at most this
        many blocks see everything; relative: use relative positions, whose tables are `tables`, one for each block;
        attend_padding: units see the padding of their window, tokens of zero, as in SAM and ViTDet's code."""
        require_whole("global_blocks, without which windows never learn of each other,", global_blocks)
        if window is not None:
            require_whole("window (ViTDet and SAM have window=14)", window)
            if window > WIDEST:
                raise UserError(
                    f"--window {window} is a window of {window**2:,} patches; {WIDEST} is the most, 14 is usual"
                )
            if window**2 < num_prefix:
                raise UserError(f"a window of {window} x {window} units is too small; ViTDet and SAM have window=14")
        self.num_prefix, self.window, self.attend_padding = num_prefix, window or max(grid.shape), attend_padding
        seeing_all = last_of_parts(len(blocks), global_blocks) if window else set(range(len(blocks)))
        self.windowed = [block for number, block in enumerate(blocks) if number not in seeing_all]
        self.tables = nn.ModuleList()
        for number, block in enumerate(blocks):
            if number not in seeing_all:
                block.windows = self
            if relative:
                sides = grid.shape if number in seeing_all else (self.window, self.window)
                self.tables.append(Relative(block.attn, sides, num_prefix))
                block.relative = (self.tables[-1],)

    def layout(self, grid: Grid, visible: Int[Tensor, "b v"] | None) -> Layout:
        """The layout of a call on a grid of two axes; visible: indices of the given units, None for all in reading
        order."""
        shape = (grid.shape[0], grid.shape[1])
        if visible is None or not self.windowed:
            return Layout(shape)
        same = self._together(visible, grid)
        dtype = next(self.windowed[0].attn.parameters()).dtype
        return Layout(shape, torch.zeros_like(same, dtype=dtype).masked_fill(~same, -math.inf))

    def place(self, shape: tuple[int, int]) -> Place:
        """Positions of tokens for attention inside windows, on a grid of this shape."""
        count = math.prod(self._counts(shape)) + 1 if self.num_prefix else 0
        return Place((self.window, self.window), windows=count)

    def _together(self, visible: Int[Tensor, "b v"], grid: Grid) -> Bool[Tensor, "b 1 t t"]:
        """True where two tokens share a window; prefix tokens are in window -1."""
        at = grid.coordinates(visible.device).long() // self.window
        of_unit = at[:, 0] * self._counts(grid.shape)[1] + at[:, 1]
        prefix = of_unit.new_full((len(visible), self.num_prefix), -1)
        window = torch.cat([prefix, of_unit[visible]], dim=1)
        return (window[:, :, None] == window[:, None, :])[:, None]

    def split(
        self, x: Float[Tensor, "b t d"], shape: tuple[int, int]
    ) -> tuple[Float[Tensor, "w s d"], Float[Tensor, "w 1 1 s"] | None]:
        """Tokens by window, the windows of a sample in a row and its prefix tokens last; and the attention bias, 0 for
        tokens and -inf for padding, or None where there is no padding or units see it."""
        (rows, columns), w, p = shape, self.window, self.num_prefix
        down, across = self._counts(shape)
        units = x[:, p:].unflatten(1, shape)
        units = nn.functional.pad(units, (0, 0, 0, across * w - columns, 0, down * w - rows))
        units = units.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3).flatten(1, 2)  # -> b (y x) w w d
        parts = units.flatten(2, 3)
        if p:  # repeated to fill a window: attending to copies of a token is attending to the token
            copies = x[:, :p].repeat(1, w * w // p, 1)
            parts = torch.cat([parts, nn.functional.pad(copies, (0, 0, 0, w * w - copies.shape[1]))[:, None]], dim=1)
        if self.attend_padding or self._full(shape):
            return parts.flatten(0, 1), None
        real = self._real(shape, x.device)
        keys = torch.zeros_like(real, dtype=x.dtype).masked_fill(~real, -math.inf).repeat(x.shape[0], 1)[:, None, None]
        return parts.flatten(0, 1), keys

    def join(self, parts: Float[Tensor, "w s d"], shape: tuple[int, int]) -> Float[Tensor, "b t d"]:
        """Undoes `split`."""
        (rows, columns), w, p = shape, self.window, self.num_prefix
        counts = self._counts(shape)
        parts = parts.unflatten(0, (-1, math.prod(counts) + bool(p)))
        units = parts[:, : math.prod(counts)].unflatten(2, (w, w)).unflatten(1, counts).transpose(2, 3)
        units = units.flatten(3, 4).flatten(1, 2)[:, :rows, :columns].flatten(1, 2)  # b y w x w d -> b (y w) (x w) d
        return torch.cat([parts[:, -1, :p], units], dim=1) if p else units

    def _counts(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Number of windows along each axis."""
        return -(-shape[0] // self.window), -(-shape[1] // self.window)

    def _full(self, shape: tuple[int, int]) -> bool:
        """True if no window holds padding."""
        divides = all(side % self.window == 0 for side in shape)
        return divides and (not self.num_prefix or self.window**2 % self.num_prefix == 0)

    def _real(self, shape: tuple[int, int], device: torch.device) -> Bool[Tensor, "w s"]:
        """True where a position in a window holds a token."""
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
    """The last block of each of `parts` equal parts, as in ViTDet: 2, 5, 8, 11 of 12. There are fewer parts if one
    would have fewer than three blocks."""
    parts = min(parts, max(1, depth // 3))
    return {(part + 1) * depth // parts - 1 for part in range(parts)}
