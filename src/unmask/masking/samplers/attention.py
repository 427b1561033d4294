"""Hides what a teacher attends to most. Kakogeorgiou et al. 2022 (AttMask), https://arxiv.org/abs/2203.12719.

`attention` hides the units with the most attention; with `hint`, some of these, drawn at random, stay visible, and
as many of the next ones are hidden in their place. The paper draws the ratio and hint anew for each image; here both
are fixed, so that shapes never change.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler
from unmask.plain import BelowOne

__all__ = ["Attention"]


class Attention(Sampler):
    placed = True
    needs = frozenset({"teacher_attention"})

    def __init__(
        self,
        ratio: Ratio = 0.75,
        hint: BelowOne = 0.0,
        block: int = -1,
        of: str | None = None,
        model: str | None = None,
    ):
        """hint: share of the most attended units, of as many as are hidden, that stays visible; block: of the teacher,
        whose attention is taken, its mean over heads; of: a frozen teacher, a run folder, a file or folder of weights,
        or a timm name, instead of the method's own; model: a timm name, where a file does not tell."""
        super().__init__(ratio)
        most = min((1 - share) / share for share in self.ratios)
        if hint > most:
            raise UserError(
                f"attention with a ratio of {max(self.ratios):g} leaves too little visible for hint={hint:g}: at most"
                f" {int(100 * min(most, 1)) / 100:g}"
            )
        self.hint, self.block, self.of, self.model = hint, block, of, model
        self.settled = hint == 0

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        chance, count = noise(batch, grid.num_units), self.count(grid, context.get("progress", 1.0))
        attention = context.get("teacher_attention")
        assert attention is not None  # it is needed
        rank = ranks(attention).float()  # 0 for the least attended
        shown = min(round(self.hint * count), grid.num_units - count)
        if not shown:
            return rank
        first = torch.where(rank >= grid.num_units - count, chance, -1.0)  # which of the most attended are shown
        return torch.where(ranks(first) >= grid.num_units - shown, -1.0, rank)


def ranks(values: Float[Tensor, "b n"]) -> Tensor:
    """The place of each value in its row, from 0 for the smallest; equal ones in the order of the row."""
    return values.argsort(dim=1, stable=True).argsort(dim=1)
