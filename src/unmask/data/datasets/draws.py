"""Draws of labelled images: held-out images and few labels per class, by seed."""

import numpy as np
from jaxtyping import Int

from unmask.errors import DataError, UserError


def hold_out(
    labels: Int[np.ndarray, "n"], share: float = 0.2, seed: int = 0
) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "h"]]:
    """Indices to keep and indices to hold out, each in order: `share` of every class, at least one of two or more.

    A class with one sample, and samples without a label (-1), are kept. Raises UserError if nothing could be held out.
    """
    if not 0 < share < 1:
        raise UserError(f"the share to hold out must lie between 0 and 1; got {share}")
    rng, held = np.random.default_rng(seed), []
    for members in _members(labels):
        if len(members) > 1:
            number = min(max(1, round(share * len(members))), len(members) - 1)
            held.append(rng.permutation(members)[:number])
    if not held:
        raise DataError(
            "no class has two labelled samples, so none can be held out to choose or to test on:"
            " add some, or a test split"
        )
    places = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), places), places


def draw_rows(labels: Int[np.ndarray, "n"], number: int | float, draw: int, seed: int) -> Int[np.ndarray, "m"]:
    """Indices of `number` samples per class, in order; a number below 1 is a share of every class, at least one sample.

    Smaller draws are subsets of larger ones, since the permutations do not depend on `number`.
    """
    rng, chosen = np.random.default_rng([seed, draw]), []
    for members in _members(labels):
        most = number if number >= 1 else max(1, round(number * len(members)))
        chosen.append(rng.permutation(members)[: int(most)])
    return np.sort(np.concatenate(chosen))


def _members(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels) if label >= 0]
