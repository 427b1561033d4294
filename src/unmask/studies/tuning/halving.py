"""Successive halving: all values in short runs, the better half in runs twice as long, until a few are left, which are
run whole with several seeds. Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943.

The baseline is never dropped: every difference is to it, paired over the same images and seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FINALISTS = 3  # values that are run whole, the baseline among them


@dataclass(frozen=True)
class Rung:
    """One round: so many values, each trained for a share of a whole run with each of so many seeds."""

    values: int
    share: float
    seeds: int

    @property
    def cost(self) -> float:
        """In whole runs."""
        return self.values * self.share * self.seeds


def rungs(values: int, seeds: int) -> list[Rung]:
    """The rounds for so many values. With three or fewer there is nothing to halve.

    >>> [(rung.values, rung.share, rung.seeds) for rung in rungs(8, 3)]
    [(8, 0.25, 1), (4, 0.5, 1), (3, 1.0, 3)]
    """
    counts = [values]
    while counts[-1] > FINALISTS:
        counts.append(max(FINALISTS, -(-counts[-1] // 2)))
    last = len(counts) - 1
    return [Rung(n, 0.5 ** (last - place), seeds if place == last else 1) for place, n in enumerate(counts)]


def survivors(keys: Sequence[str], accuracies: Mapping[str, float], baseline: str, count: int) -> list[str]:
    """The `count` best in the order of `keys`, the baseline always among them; of equals the earlier one. A value
    without accuracy has diverged: it is dropped."""
    others = [key for key in keys if key != baseline and key in accuracies]
    best = sorted(others, key=lambda key: -accuracies[key])[: count - 1]
    return [key for key in keys if key == baseline or key in best]
