"""All confidence intervals: of proportions (Wilson), of means (Student), of differences (Newcombe), by bootstrap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

LEVEL = 0.95  # of all intervals, so that chance is not mistaken for an effect of pretraining


def wilson(correct: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a proportion, e.g. the accuracy on `total` test images. Wilson 1927: valid near 0, near 1 and for
    few."""
    from scipy.stats import binomtest  # takes a second to import: not before it is needed

    low, high = binomtest(correct, total).proportion_ci(level, method="wilson")
    return float(low), float(high)


def student(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> tuple[float, float] | None:
    """Interval of the mean of a few values, clipped to low..high (0 and 1 for accuracies); None for fewer than two
    values."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return max(low, mean - half), min(high, mean + half)


def paired_difference(
    first: Bool[np.ndarray, "n"], second: Bool[np.ndarray, "n"], level: float = LEVEL
) -> tuple[float, float, float]:
    """Accuracy of `first` minus that of `second` on the same n test images, and its interval; True = correct.

    Newcombe 1998 (paired proportions, method 10): combines the two Wilson intervals, accounting for how often both are
    correct on the same image. Never of zero width, even if the two always agree.
    """
    total = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    agreement = both * neither - only_first * only_second
    if agreement > 0:  # his correction for continuity
        agreement = max(agreement - total / 2, 0)
    phi = agreement / math.sqrt(margins) if margins else 0.0
    return _newcombe(both + only_first, total, both + only_second, total, phi, level)


def difference(correct: int, total: int, other_correct: int, other_total: int) -> tuple[float, float, float]:
    """The proportion of one sample minus that of another, independent one, and its interval.

    Newcombe 1998 (independent proportions, method 10, the hybrid score interval).
    """
    return _newcombe(correct, total, other_correct, other_total, phi=0.0)


def bootstrap(
    resample: Callable[[np.random.Generator], float],
    generator: np.random.Generator,
    resamples: int,
    interpolate: bool = True,
) -> tuple[float, float]:
    """Percentile bootstrap interval. resample: draws a sample and returns its statistic; interpolate: False if that may
    be infinite, so that each limit is one of the drawn values."""
    values = [resample(generator) for _ in range(resamples)]
    limits = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(values, limits, method="linear" if interpolate else "nearest")
    return float(low), float(high)


def _newcombe(
    correct: int, total: int, other_correct: int, other_total: int, phi: float, level: float = LEVEL
) -> tuple[float, float, float]:
    """phi: correlation of the two; 0 for independent samples."""
    p, q = correct / total, other_correct / other_total
    (p_low, p_high), (q_low, q_high) = wilson(correct, total, level), wilson(other_correct, other_total, level)
    below = math.sqrt(max(0, (p - p_low) ** 2 - 2 * phi * (p - p_low) * (q_high - q) + (q_high - q) ** 2))
    above = math.sqrt(max(0, (p_high - p) ** 2 - 2 * phi * (p_high - p) * (q - q_low) + (q - q_low) ** 2))
    return p - q, max(-1.0, p - q - below), min(1.0, p - q + above)


@dataclass(frozen=True)
class Spread:
    """What repetitions add to a mean's uncertainty."""

    deviation: float  # standard deviation of a repetition
    freedom: int  # degrees of freedom that it is estimated with


def spread_within(means: Float[np.ndarray, "v r"]) -> Spread | None:
    """Of r repetitions of each of v settings, taken as the same for all settings; None for one repetition."""
    if means.shape[1] < 2:
        return None
    return Spread(math.sqrt(float(means.var(axis=1, ddof=1).mean())), means.shape[0] * (means.shape[1] - 1))


def spread_of_differences(means: Float[np.ndarray, "v r"]) -> Spread | None:
    """Of the difference of any two of v settings in r paired repetitions, taken as the same for all pairs: the
    residuals of the analysis of variance with settings and repetitions (randomised blocks). With two settings, that of
    their own differences. None for one repetition or one setting."""
    settings, repetitions = means.shape
    if min(settings, repetitions) < 2:
        return None
    residuals = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0, keepdims=True) + means.mean()
    freedom = (settings - 1) * (repetitions - 1)
    return Spread(math.sqrt(2 * float((residuals**2).sum()) / freedom), freedom)


def repeated(
    values: Bool[np.ndarray, "r n"], level: float = LEVEL, spread: Spread | None = None
) -> tuple[float, float, float]:
    """Mean accuracy over r repetitions (seeds, draws of labels) on the same n test images, and its interval. spread: of
    a repetition, where more than these tell it; by default theirs.

    The uncertainty of the images (Wilson) and that of the repetitions (Student) are added as squares, as Newcombe adds
    those of two proportions. With one repetition, that of the images alone.
    """
    singles = [wilson(int(row.sum()), len(row), level) for row in values]
    means = values.mean(axis=1)
    return _square_and_add(means, [m - low for m, (low, _) in zip(means, singles)],
                           [high - m for m, (_, high) in zip(means, singles)], level, 0.0, spread)  # fmt: skip


def repeated_difference(
    first: Bool[np.ndarray, "r n"],
    second: Bool[np.ndarray, "r n"],
    level: float = LEVEL,
    spread: Spread | None = None,
) -> tuple[float, float, float]:
    """Mean accuracy of `first` minus that of `second` over r paired repetitions on the same n test images, and its
    interval: as in `repeated`, with Newcombe's paired interval for the images."""
    singles = [paired_difference(a, b, level) for a, b in zip(first, second, strict=True)]
    means = np.array([single[0] for single in singles])
    below, above = [m - low for m, low, _ in singles], [high - m for m, _, high in singles]
    return _square_and_add(means, below, above, level, -1.0, spread)


def _square_and_add(
    means: np.ndarray,
    below: Sequence[float],
    above: Sequence[float],
    level: float,
    least: float,
    spread: Spread | None,
) -> tuple[float, float, float]:
    """below, above: distances of the limits over images from each repetition's mean; least: of the statistic."""
    mean, half = float(means.mean()), 0.0
    if (spread := spread or spread_within(means[None])) is not None:
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, spread.freedom)) * spread.deviation / math.sqrt(len(means))
    low, high = math.hypot(float(np.mean(below)), half), math.hypot(float(np.mean(above)), half)
    return mean, max(least, mean - low), min(1.0, mean + high)
