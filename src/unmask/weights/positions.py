"""Which grid a position table was made for. Its shape does not tell: 196 rows are 14 x 14 patches, or 7 x 28.

What is stated counts: by the caller, or by a config that fits. Else the table's content is asked: MAE's fixed table is
that of one grid only, and in a trained one the patches above each other are alike, and the ends of lines are not. Where
that says nothing either, a square is assumed, and said; where something else is as likely, the caller is asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.models.layers.position import sincos
from unmask.weights.canonical import State

SAME = 1e-3  # two position tables that differ by less are one
ALIKE, AHEAD = 0.25, 0.1  # how much likeness of neighbours tells a grid, and how far it must be ahead of another
SURE = 4.0  # standard errors that it must be above chance
LARGEST = 4096  # patches of tables whose content is looked at

Shape = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """What the rows of a position table stand for."""

    prefix: int  # rows for class and register tokens, before those of patches
    shape: Shape  # rows and columns of patches
    remark: str = ""  # what was assumed, for people


def num_prefix(state: State) -> int:
    """Class and register tokens that a plain ViT's state has."""
    return sum(state[key].shape[1] for key in ("cls_token", "dist_token", "reg_token") if key in state)


def table_layout(
    state: State, patch: Shape, *, size: Shape | None, stated: Shape | None, wanted: Shape | None, source: str
) -> Layout:
    """The layout of `pos_embed` (1 n d).

    size: of the images that the weights were made for, in pixels, as the caller says; stated: as their config says;
    wanted: of the images that they are going to see. Raises UserError where the table does not fit `size`, and where it
    cannot be told which of several grids it is for.
    """
    table = state["pos_embed"][0]
    rows, prefixes = len(table), _prefixes(state)
    for pixels in (size, stated):
        shape = None if pixels is None else (pixels[0] // patch[0], pixels[1] // patch[1])
        for prefix in prefixes if shape else ():
            if shape and shape[0] * shape[1] == rows - prefix:
                return Layout(prefix, shape)
        if pixels is not None and pixels is size:
            raise UserError(
                f"{source}: its position table has {rows} rows, {prefixes[0]} for other tokens; images of"
                f" {pixels[0]} x {pixels[1]} pixels have {shape} patches. --weights-size is the size that the weights"
                " were made for"
            )
    grids = [Layout(prefix, shape) for prefix in prefixes for shape in _shapes(rows - prefix)]
    if told := _told_by_content(table, grids):
        return told
    wanted_grid = None if wanted is None else (wanted[0] // patch[0], wanted[1] // patch[1])
    likely = [grid for grid in grids if grid.shape[0] == grid.shape[1] or grid.shape == wanted_grid]
    if len(likely) == 1:
        height, width = likely[0].shape
        square = f"its position table of {rows} rows is taken as {height} x {width} patches of a square image; the file"
        remark = f"{square} does not say (--weights-size HEIGHT WIDTH overrules)" if height == width else ""
        return Layout(likely[0].prefix, likely[0].shape, remark)
    sizes = [f"{h * patch[0]} x {w * patch[1]}" for h, w in (grid.shape for grid in likely or grids) if min(h, w) > 1]
    raise UserError(
        f"{source}: a position table of {rows} rows does not tell the size of the images that it was made for; say it"
        f" with --weights-size HEIGHT WIDTH (weights_size=(h, w)). Possible: {', '.join(sizes[:8]) or 'none'}"
    )


def is_mae_table(state: State) -> bool:
    """True where the position table is MAE's fixed one, [x | y], of a square image."""
    return _is_fixed(state, swapped=False)


def is_moco_table(state: State) -> bool:
    """True where it is MoCo v3's fixed one, which has rows first: [y | x]."""
    return _is_fixed(state, swapped=True)


def _is_fixed(state: State, swapped: bool) -> bool:
    table = state.get("pos_embed")
    if table is None or table.ndim != 3 or table.shape[2] % 4:
        return False
    units = table[0, num_prefix(state) :]
    side = round(len(units) ** 0.5)
    if side < 2 or side * side != len(units):
        return False
    own = sincos(Grid((side, side), (1, 1)), units.shape[1])
    own = torch.cat(own.chunk(2, dim=1)[::-1], dim=1) if swapped else own
    return bool((units.float() - own).abs().max() < SAME)


def _prefixes(state: State) -> list[int]:
    """How many rows may be for prefix tokens: one for each, or none. None in models with registers, and in DeiT III,
    whose class token has no position; other makers' class tokens have one."""
    own = num_prefix(state)
    without = "reg_token" in state or "blocks.0.ls1.gamma" in state
    return [own, 0] if own and without else [own]


def _shapes(count: int) -> Iterator[Shape]:
    """All grids of so many patches."""
    for rows in range(1, count + 1):
        if count % rows == 0:
            yield rows, count // rows


def _told_by_content(table: Float[Tensor, "n d"], grids: list[Layout]) -> Layout | None:
    """The grid that the content of a table tells, or None where it is of no clear one."""
    wide = [grid for grid in grids if min(grid.shape) > 1]
    if len(table) > LARGEST or not wide:
        return None
    for grid in wide:
        units = table[grid.prefix :].float()
        if table.shape[1] % 4 == 0 and (units - sincos(Grid(grid.shape, (1, 1)), table.shape[1])).abs().max() < SAME:
            return grid
    scores = sorted(((_likeness(table[grid.prefix :], grid.shape), n) for n, grid in enumerate(wide)), reverse=True)
    ahead = scores[0][0] - (scores[1][0] if len(scores) > 1 else 0.0)
    if scores[0][0] < ALIKE or ahead < AHEAD:
        return None
    told = wide[scores[0][1]]
    height, width = told.shape
    return told if height == width else replace(told, remark=f"its position table is for {height} x {width} patches")


def _likeness(units: Float[Tensor, "n d"], shape: Shape) -> float:
    """How much alike rows are that stand above each other on a grid, less those where one line ends and the next
    begins: high for the grid that a table was trained on, below 0 for one at random. A cosine of rows less their mean,
    less `SURE` times what it deviates by at random."""
    rows = normalize(units.float() - units.float().mean(dim=0), dim=1)
    width = shape[1]
    above = (rows[width:] * rows[:-width]).sum(dim=1).mean()
    ends = (rows[width - 1 : -1 : width] * rows[width::width]).sum(dim=1).mean()
    count = len(rows[width - 1 : -1 : width])
    doubt = (1 / rows.shape[1] * (1 / (len(rows) - width) + 1 / count)) ** 0.5  # standard error at random
    return float(above - ends) - SURE * doubt
