"""A camera that moved while the shutter was open. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import filtered, scale, streak

__all__ = ["motion_blur"]

KIND = "blur"
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius and deviation, pixels of 224


def motion_blur(
    x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the direction is at most 45 degrees from the horizontal."""
    radius, deviation = MOTION[severity - 1]
    return filtered(x, streak(radius * scale(x), deviation * scale(x), chance.uniform(-45, 45)))
