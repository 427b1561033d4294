"""Thresholds that bound the rate of false alarms, from scores of normal images that were not used for fitting.

For any distribution of scores, a new normal image exceeds the ceil((n + 1)(1 - rate))-th smallest of n others with
probability at most `rate` (split conformal prediction, Vovk et al. 2005). For pixels, the expected share of a normal
image above the threshold is bounded (conformal risk control, Angelopoulos et al. 2022). Both hold on average over the
draws of the held-out images, if these and the new images come from the same distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unmask.errors import DataError

CONFIDENCE = 0.9  # probability that the true rate lies in `between`


@dataclass(frozen=True)
class ImageThreshold:
    """A threshold calibrated on n images; scores above it are anomalous."""

    rate: float  # of false alarms, at the most
    count: int  # n
    threshold: float
    expected: float  # probability that a fresh normal one exceeds it, if no two scores are equal
    between: tuple[float, float]  # where that probability lies for this very threshold, nine times out of ten


@dataclass(frozen=True)
class Calibration:
    """Thresholds of one method, from held-out normal images."""

    image: ImageThreshold
    pixel: float  # values above it are anomalous
    median: float  # of the pixels of their maps


def images_needed(rate: float) -> int:
    """The smallest number of held-out normal images for which a threshold can guarantee the rate: 19 for 5 %."""
    return math.ceil(1 / rate - 1 - 1e-9)


def check_enough(count: int, rate: float, where: str = "") -> None:
    """Raises DataError if the rate cannot be guaranteed, with the number of images required."""
    if count < images_needed(rate):
        raise DataError(
            f"{count} held-out normal images cannot promise {rate:.4g} false alarms: {images_needed(rate)} are needed."
            f" Give more normal images{where}, or a rate of {math.ceil(1000 / (count + 1)) / 1000:g} or more"
        )


def image_threshold(scores: Float[np.ndarray, "n"], rate: float) -> ImageThreshold:
    """Raises DataError for too few scores."""
    count = len(scores)
    check_enough(count, rate)
    rank = math.ceil((count + 1) * (1 - rate) - 1e-9)
    from scipy.stats import beta

    low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], count + 1 - rank, rank)
    threshold = float(np.sort(scores)[rank - 1])
    return ImageThreshold(rate, count, threshold, (count + 1 - rank) / (count + 1), (float(low), float(high)))


def pixel_threshold(maps: Sequence[Float[np.ndarray, "..."]], rate: float) -> float:
    """The smallest value above which at most a share `rate` of a new normal image's pixels lies, in expectation.

    Computed as if one more image lay entirely above it: (sum of shares + 1) / (n + 1) <= rate. Images of all sizes have
    equal weight.
    """
    check_enough(len(maps), rate)
    values = np.concatenate([np.ravel(pixels) for pixels in maps])
    weights = np.concatenate([np.full(pixels.size, 1 / pixels.size) for pixels in maps])
    order = np.argsort(values, kind="stable")
    above = weights.sum() - np.cumsum(weights[order])  # shares above each value, all images together
    allowed = rate * (len(maps) + 1) - 1
    return float(values[order][np.argmax(above <= allowed + 1e-9)])
