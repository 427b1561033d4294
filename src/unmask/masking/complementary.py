"""Complementary masks: together they hide every unit of an image equally often, so that every unit gets an error.

With 75 % hidden a set has four masks: the units are dealt out into four parts, and each mask shows one of them. Every
unit is then seen once and hidden three times. A single random mask would say nothing about the quarter that it shows.
Training with several masks per image uses the same parts (EMAE, Li et al. 2023); here they serve evaluation.
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.seeds import mix


def complement(num_units: int, ratio: float, seed: int = 0) -> list[Mask]:
    """One set: masks for one image each (b = 1) that hide every unit equally often.

    The hidden share is the one nearest to `ratio` that equal parts allow: 1 - 1/k from one half on, where each of k
    parts is shown once; 1/k below, where each is hidden once. If k does not divide the number of units, parts differ by
    at most one unit. Raises UserError for a ratio that is not between 0 and 1, or for fewer than two units.
    """
    if not 0 < ratio < 1:
        raise UserError(f"the mask ratio must lie between 0 and 1, both excluded; got {ratio}")
    if num_units < 2:
        raise UserError(f"complementary masks need at least 2 units, the grid has {num_units}")
    shown = ratio >= 0.5
    count = min(num_parts(ratio), num_units)
    order = torch.randperm(num_units, generator=Generator().manual_seed(seed))
    parts = order.tensor_split(count)
    masks = []
    for index, part in enumerate(parts):
        rest = torch.cat([other for number, other in enumerate(parts) if number != index])
        visible, others = part.sort().values[None], rest.sort().values[None]
        masks.append(Mask(visible=visible, hidden=others) if shown else Mask(visible=others, hidden=visible))
    return masks


def complements(num_units: int, ratio: float, sets: int, seed: int = 0) -> list[Mask]:
    """The masks of several sets, each dealt out anew: a pure function of its arguments."""
    return [mask for number in range(sets) for mask in complement(num_units, ratio, mix(seed, number))]


def num_parts(ratio: float) -> int:
    """Number of parts into which the units are divided: 4 for a ratio of 0.75."""
    return max(2, round(1 / (1 - ratio if ratio >= 0.5 else ratio)))


def nearness(grid: Grid, visible: Tensor) -> Float[Tensor, "n v"]:
    """Weight of each visible unit at each position: inverse cubed distance, rows sum to 1. A visible unit is treated as
    one unit away from itself, so that its neighbours count as well."""
    at = grid.coordinates()
    weight = torch.cdist(at, at[visible]).clamp(min=1.0) ** -3
    return weight / weight.sum(dim=1, keepdim=True)
