"""Decomposed relative positions: attention also sees how many rows and columns lie between two units. Li et al. 2022.

As in ViTDet (https://arxiv.org/abs/2203.16527): query q and key k have the logit q.k / sqrt(d) + q.R_h[dy] + q.R_w[dx],
with one table of 2S-1 rows for each axis, shared by the heads of a block. Tables start at zero, so that adding them to
trained weights changes nothing at first. S is the side of a window in windowed blocks and of the whole grid in global
ones; for another grid, tables are interpolated linearly. Class and register tokens have no position and no such term.

The tables are kept beside the timm model, not in it, so that its weights stay plain. They enter where timm normalises
queries and keys: each query is extended by its terms for every row and column, each key by a one-hot code of its own
row and column. Their product is the logit, so that fused attention works and no matrix of all pairs is needed.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from unmask.errors import UserError


class Place(NamedTuple):
    """Positions of the tokens of an attention."""

    shape: tuple[int, int]  # rows and columns of units
    prefix: int = 0  # tokens before the units
    windows: int = 0  # in a sample, with a last one that holds class and register tokens alone; 0: there is none


class Relative(nn.Module):
    """The two tables of one block's attention."""

    def __init__(self, attn: Any, sides: tuple[int, ...], prefix: int):
        """attn: timm's attention, which gets hooks; sides: rows and columns of units that the tables are made for;
        prefix: class and register tokens."""
        super().__init__()
        for name in ("q_norm", "k_norm", "head_dim", "scale", "fused_attn"):
            if not hasattr(attn, name):
                raise UserError(f"relative=True needs timm's usual attention; this is {type(attn).__name__}")
        rows, columns = sides
        self.rows = nn.Parameter(torch.zeros(2 * rows - 1, attn.head_dim))
        self.columns = nn.Parameter(torch.zeros(2 * columns - 1, attn.head_dim))
        self.prefix, self.place = prefix, Place((rows, columns), prefix)  # the place is set before each attention
        attn.q_norm.register_forward_hook(partial(self._query, attn))
        attn.k_norm.register_forward_hook(self._key)

    def _query(self, attn: Any, norm: nn.Module, args: tuple, query: Tensor) -> Tensor:
        longer = torch.cat([query, self.terms(query) / attn.scale], dim=-1)  # timm multiplies both by the scale,
        return longer * (attn.scale * longer.shape[-1] ** 0.5) if attn.fused_attn else longer  # torch by its own

    def _key(self, norm: nn.Module, args: tuple, key: Tensor) -> Tensor:
        rows, columns = self.place.shape
        which = [
            torch.eye(rows, dtype=key.dtype, device=key.device).repeat_interleave(columns, dim=0),
            torch.eye(columns, dtype=key.dtype, device=key.device).repeat(rows, 1),
        ]
        own = pad(torch.cat(which, dim=1), (0, 0, self.place.prefix, 0))
        return torch.cat([key, own.expand(*key.shape[:-1], -1)], dim=-1)

    def terms(self, query: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n t"]:
        """The terms that each token adds to its logits: for the units of each row, then of each column."""
        (rows, columns), prefix, windows = self.place
        units = query[:, :, prefix:].unflatten(2, (rows, columns))
        down = torch.einsum("bnhwd,hkd->bnhwk", units, steps(self.rows, rows).to(query.dtype))
        across = torch.einsum("bnhwd,wkd->bnhwk", units, steps(self.columns, columns).to(query.dtype))
        terms = pad(torch.cat([down, across], dim=-1).flatten(2, 3), (0, 0, prefix, 0))
        if windows:
            placed = torch.arange(windows, device=query.device) < windows - 1
            terms = (terms.unflatten(0, (-1, windows)) * placed[:, None, None, None]).flatten(0, 1)
        return terms


def steps(table: Float[Tensor, "_ d"], side: int) -> Float[Tensor, "s s d"]:
    """The table's rows for each pair of positions along an axis: [i, j] for the query at i and the key at j."""
    if len(table) != 2 * side - 1:
        table = interpolate(table.T[None], size=2 * side - 1, mode="linear")[0].T
    places = torch.arange(side, device=table.device)
    return table[places[:, None] - places[None, :] + side - 1]
