"""Confidence intervals: Wilson's for shares, Student's for means, Newcombe's for differences."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy.stats import binomtest, t

LEVEL = 0.95  # of all intervals: a difference made by chance is not to pass for one made by pretraining


def wilson(right: int, total: int) -> tuple[float, float]:
    """Of a share, e.g. an accuracy over `total` test images. Wilson 1927: also good near 0, near 1 and for few."""
    low, high = binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval of the mean of a few accuracies, cut to 0..1; None for fewer than two."""
    if len(values) < 2:
        return None
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return max(0.0, mean - half), min(1.0, mean + half)


def difference(one: Bool[np.ndarray, "n"], other: Bool[np.ndarray, "n"]) -> tuple[float, float, float]:
    """Accuracy of `one` minus that of `other` on the same n test images, and its interval; True = answered rightly.

    Newcombe 1998 (paired proportions, method 10): Wilson's two intervals, joined with regard to how often both are
    right on the same image. Never empty, even where the two always agree.
    """
    total = len(one)
    both, neither = int((one & other).sum()), int((~one & ~other).sum())
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    p, q = (both + only_one) / total, (both + only_other) / total
    (p_low, p_high), (q_low, q_high) = wilson(both + only_one, total), wilson(both + only_other, total)
    sides = (both + only_one) * (only_other + neither) * (both + only_other) * (only_one + neither)
    agreement = both * neither - only_one * only_other
    if agreement > 0:  # his correction for continuity
        agreement = max(agreement - total / 2, 0)
    phi = agreement / math.sqrt(sides) if sides else 0.0
    below = math.sqrt(max(0, (p - p_low) ** 2 - 2 * phi * (p - p_low) * (q_high - q) + (q_high - q) ** 2))
    above = math.sqrt(max(0, (p_high - p) ** 2 - 2 * phi * (p_high - p) * (q - q_low) + (q - q_low) ** 2))
    return p - q, max(-1.0, p - q - below), min(1.0, p - q + above)


def difference_of_independent(right: int, total: int, other_right: int, other_total: int) -> tuple[float, float, float]:
    """The share of one sample minus that of another, and its interval: Newcombe 1998, hybrid score, his method 10."""
    p, q = right / total, other_right / other_total
    (p_low, p_high), (q_low, q_high) = wilson(right, total), wilson(other_right, other_total)
    below, above = math.hypot(p - p_low, q_high - q), math.hypot(p_high - p, q - q_low)
    return p - q, max(-1.0, p - q - below), min(1.0, p - q + above)
