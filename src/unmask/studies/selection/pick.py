"""Picks images to label: diverse ones by k-means++, unsure ones by their margin, or both at once.

k-means++ (Arthur and Vassilvitskii 2007, with their greedy trials) draws images far from all labelled and picked ones;
the margin is the lead of the first class over the second (Scheffer et al. 2001). The mix weights the squared distance
by 1 - margin, as weighted clustering does (Zhdanov 2019, https://arxiv.org/abs/1901.05954): an image is worth much
where the classifier is unsure and no label is near.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unmask.errors import UserError
from unmask.tasks.retrieval.neighbours import nearest

MIX, DIVERSE, UNCERTAIN = WAYS = ("mix", "diverse", "uncertain")
NONE_LABELLED = 2.0  # squared distance of unit vectors that have nothing in common


@dataclass(frozen=True)
class Pick:
    """One image to label."""

    row: int  # in the pool
    score: float  # larger is more worth a label; of its own way, at the time it was picked
    distance: float  # to the nearest labelled or earlier picked image, between features of length 1: 0 to 2
    margin: float | None  # lead of the first class over the second; None without a classifier


@dataclass(frozen=True)
class Pool:
    """Unlabelled images to pick from, n of them."""

    vectors: Float[np.ndarray, "n d"]  # of length 1
    free: Bool[np.ndarray, "n"]  # False: labelled already, or a copy of what is
    alike: Callable[[int], Bool[np.ndarray, "n"]]  # True for an image and its copies and near copies
    margins: Float[np.ndarray, "n"] | None = None


def pick(pool: Pool, labelled: Float[np.ndarray, "m d"], most: int, by: str = MIX, seed: int = 0) -> list[Pick]:
    """At most `most` images, no two of them near copies, in the order in which to label them.

    labelled: features of length 1 of what is labelled, possibly of no image. Raises UserError for a way that takes
    margins where there are none.
    """
    if by not in WAYS:
        raise UserError(f"there is no way to select named {by!r}: {', '.join(WAYS)}")
    if by != DIVERSE and pool.margins is None:
        raise UserError(f"selecting by {by!r} takes a classifier")
    free, squares = pool.free.copy(), squared_distances(pool.vectors, labelled)
    worth = np.ones(len(free)) if by == DIVERSE or pool.margins is None else 1 - pool.margins
    generator, picks = np.random.default_rng([seed, 0x5E1]), []
    trials = 2 + int(math.log(max(1, most)))
    while free.any() and len(picks) < most:
        if by == UNCERTAIN:
            row = int(np.where(free, worth, -np.inf).argmax())
        else:
            row = _drawn(pool.vectors, squares, worth * free, free, trials, generator)
        score = {MIX: worth[row] * squares[row], DIVERSE: squares[row], UNCERTAIN: worth[row]}[by]
        margin = None if pool.margins is None else float(pool.margins[row])
        picks.append(Pick(row, float(score), math.sqrt(squares[row]), margin))
        free &= ~pool.alike(row)
        free[row] = False
        squares = np.minimum(squares, _squares_to(pool.vectors, row))
    return picks


def squared_distances(vectors: Float[np.ndarray, "n d"], labelled: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n"]:
    """Of each vector to the nearest labelled one; the same for all where nothing is labelled."""
    if not len(labelled):
        return np.full(len(vectors), NONE_LABELLED)
    return (2 - 2 * nearest(vectors, labelled, 1)[0][:, 0].astype(np.float64)).clip(0, 4)


def margins(probabilities: Float[np.ndarray, "n k"], multi_label: bool = False) -> Float[np.ndarray, "n"]:
    """Lead of the most probable class over the second; with several labels per image, how far the most doubtful class
    lies from one half, times two."""
    p = np.asarray(probabilities, np.float64)
    if multi_label:
        return np.abs(2 * p - 1).min(axis=1)
    if p.shape[1] < 2:
        return np.ones(len(p))
    second, first = np.partition(p, -2, axis=1)[:, -2:].T
    return first - second


def _drawn(
    vectors: np.ndarray,
    squares: np.ndarray,
    worth: np.ndarray,
    free: np.ndarray,
    trials: int,
    generator: np.random.Generator,
) -> int:
    """Of some images drawn by worth times squared distance, the one that leaves the least of it to the others."""
    potential = np.maximum(worth * squares, 0)
    total = potential.sum()
    chances = potential / total if total > 0 else free / free.sum()  # all that is left has the features of a picked one
    drawn = np.unique(generator.choice(len(chances), trials, p=chances))
    left = [float((worth * np.minimum(squares, _squares_to(vectors, row))).sum()) for row in drawn.tolist()]
    return int(drawn[int(np.argmin(left))])


def _squares_to(vectors: Float[np.ndarray, "n d"], row: int) -> Float[np.ndarray, "n"]:
    return (2 - 2 * (vectors @ vectors[row]).astype(np.float64)).clip(0, 4)
