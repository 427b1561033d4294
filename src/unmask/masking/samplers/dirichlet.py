"""Masks over several kinds of units: what stays visible is shared out over them by chance, evenly or nearly all of one.
Bachmann et al. 2022 (MultiMAE), section 3.2, https://arxiv.org/abs/2204.01678.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["Dirichlet"]
HALVINGS = 60  # of the interval in which a quantile of the gamma distribution is sought
WIDEST = 1e4  # concentration; from there on shares are even


class Dirichlet(Sampler):
    """Of a grid without parts, random masks."""

    def __init__(self, ratio: Ratio = 0.75, alpha: float = 1.0):
        """ratio: of all units of all parts. alpha: concentration of the shares of what is visible: 1 makes all shares
        equally likely, as in MultiMAE; less favours one part, more an even split."""
        super().__init__(ratio)
        if not 0.01 <= alpha <= WIDEST:
            raise UserError(f"alpha of dirichlet lies between 0.01 and {WIDEST:g}; got {alpha}")
        self.alpha = alpha

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        """Below 1 for the units that a part's share of what is visible amounts to, above for the others, at random.
        Where a part has too few units for its share, others are seen instead."""
        chance, shares = noise(batch, grid.num_units), noise(batch, len(grid.spans))
        part, empty = grid.part_of(noise.device), context.get("empty")
        filled = torch.ones_like(chance) if empty is None else (~empty).float()
        counts = torch.zeros_like(shares).index_add_(1, part, filled)  # units with a value, of each part
        weights = _gamma(shares, self.alpha).masked_fill(counts == 0, 0)
        visible = grid.num_units - self.count(grid, context.get("progress", 1.0))
        ends = (visible * weights.cumsum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1e-30)).round()
        seen = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))  # whole numbers whose sum is `visible`
        return chance + (_rank(chance + (1 - filled), part, grid) >= seen[:, part])


def _rank(scores: Float[Tensor, "b n"], part: Tensor, grid: Grid) -> Tensor:
    """The place of each unit among those of its part, from the lowest score on."""
    first = torch.tensor([start for start, _ in grid.spans], device=scores.device)
    return (scores + 4 * part).argsort(dim=1).argsort(dim=1) - first[part]


def _gamma(uniform: Float[Tensor, "b k"], alpha: float) -> Float[Tensor, "b k"]:
    """Numbers of a gamma distribution, at its quantiles; divided by their sum they are of a Dirichlet distribution.
    They are given as shares of the largest of a sample, so that none is lost to rounding."""
    uniform = uniform.double().clamp(1e-12, 1 - 1e-12)
    if alpha == 1:
        logs = (-torch.log(uniform)).log()
    else:
        low, high = torch.full_like(uniform, -30 / min(alpha, 1)), torch.full_like(uniform, WIDEST).log() + 1
        order, small = torch.full_like(uniform, alpha), math.lgamma(alpha + 1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            quantile = torch.special.gammainc(order, middle.exp()) < uniform
            below = torch.where(middle < -20, alpha * middle - small < uniform.log(), quantile)  # x^a / (a gamma(a))
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        logs = high
    return (logs - logs.amax(dim=1, keepdim=True)).exp()
