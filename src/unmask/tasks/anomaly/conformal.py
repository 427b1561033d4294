"""Thresholds that keep a promise about false alarms, from scores of normal images that nothing was fitted on.

Whatever the distribution of scores, a fresh normal image exceeds the ceil((n + 1)(1 - rate))-th smallest of n
others with a probability of `rate` at the most (split conformal prediction, Vovk et al. 2005). For pixels it is the
expected share of a normal image above the threshold that is bounded (conformal risk control, Angelopoulos et al.
2022). Both hold on average over the draws of the held-out images, where those and the fresh ones are alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import beta

from unmask.errors import DataError

SURE = 0.9  # probability with which the true rate lies in `between`


@dataclass(frozen=True)
class Promise:
    """What the calibration on n images says."""

    rate: float  # promised at the most
    count: int  # n
    threshold: float
    expected: float  # probability that a fresh normal one exceeds it, if no two scores are equal
    between: tuple[float, float]  # where that probability lies for this very threshold, nine times out of ten


def needed(rate: float) -> int:
    """Held-out normal images without which no threshold can promise the rate: 19 for 5 %."""
    return math.ceil(1 / rate - 1 - 1e-9)


def check_enough(count: int, rate: float, words: str = "") -> None:
    """DataError where the promise cannot be made, with what would be needed."""
    if count < needed(rate):
        raise DataError(
            f"{count} held-out normal images cannot promise {rate:.4g} false alarms: {needed(rate)} are needed."
            f" Give more normal images{words}, or a rate of {math.ceil(1000 / (count + 1)) / 1000:g} or more"
        )


def promise(scores: Float[np.ndarray, "n"], rate: float) -> Promise:
    """The threshold for scores; above it is anomalous. Raises DataError for too few of them."""
    count = len(scores)
    check_enough(count, rate)
    rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
    low, high = beta.ppf([(1 - SURE) / 2, (1 + SURE) / 2], count + 1 - rank, rank)
    threshold = float(np.sort(scores)[rank - 1])
    return Promise(rate, count, threshold, (count + 1 - rank) / (count + 1), (float(low), float(high)))


def pixel_threshold(maps: Sequence[Float[np.ndarray, "..."]], rate: float) -> float:
    """The least value such that of a fresh normal image at most a share `rate` of pixels lies above, in expectation.

    As if one more image were there, all of it above: (sum of shares + 1) / (n + 1) <= rate. Images of any size
    count alike.
    """
    check_enough(len(maps), rate)
    values = np.concatenate([np.ravel(one) for one in maps])
    weights = np.concatenate([np.full(one.size, 1 / one.size) for one in maps])
    order = np.argsort(values, kind="stable")
    above = weights.sum() - np.cumsum(weights[order])  # shares above each value, all images together
    allowed = rate * (len(maps) + 1) - 1
    return float(values[order][np.argmax(above <= allowed + 1e-9)])
