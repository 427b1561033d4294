"""A small memory bank that covers the normal units: greedy k-centre selection, and the distance to the nearest entry.

The idea and the numbers are PatchCore's (Roth et al. 2022, https://arxiv.org/abs/2106.08265): features of patches,
averaged over their neighbours, a coreset chosen on random projections, and the nearest neighbour's distance.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

PROJECTED = 128  # dimensions in which the coreset is chosen (Johnson and Lindenstrauss)
CHUNK = 2**24  # distances at a time


def coreset(
    x: Float[Tensor, "n d"], count: int, seed: int = 0, progress: Callable[[int], object] | None = None
) -> Int[Tensor, "m"]:
    """Indices of `count` rows, or of all if there are fewer: each next one is the farthest from those already
    chosen."""
    if count >= len(x):
        return torch.arange(len(x))
    chance = Generator().manual_seed(seed)
    if x.shape[1] > PROJECTED:
        turn = torch.randn(x.shape[1], PROJECTED, generator=chance) / PROJECTED**0.5
        x = x @ turn.to(x.device)
    squares = x.square().sum(dim=1)
    chosen = torch.zeros(count, dtype=torch.long, device=x.device)
    chosen[0] = int(torch.randint(len(x), (1,), generator=chance))
    far = torch.full((len(x),), torch.inf, device=x.device)
    for place in range(1, count):
        last = x[chosen[place - 1]]
        far = torch.minimum(far, squares - 2 * (x @ last) + last.square().sum())  # squared distance
        chosen[place] = far.argmax()
        if progress:
            progress(place + 1)
    return chosen.cpu()


def nearest(
    x: Float[Tensor, "n d"],
    bank: Float[Tensor, "m d"],
    groups: tuple[Int[Tensor, "n"], Int[Tensor, "m"]] | None = None,
) -> Float[Tensor, "n"]:
    """Distance of each row to its nearest neighbour in the bank. groups: of rows and of the bank; entries of a row's
    own group are ignored, so that images that the bank contains can be measured as if they were new."""
    distances = []
    for start in range(0, len(x), step := max(1, CHUNK // max(1, len(bank)))):
        distance = torch.cdist(x[start : start + step], bank)
        if groups is not None:
            own = groups[0][start : start + step, None] == groups[1][None]
            distance = distance.masked_fill(own, torch.inf)
        distances.append(distance.min(dim=1).values)
    return torch.cat(distances)
