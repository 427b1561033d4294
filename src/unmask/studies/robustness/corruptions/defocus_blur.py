"""A lens out of focus: every point becomes a disk. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import disk, filtered, scale

__all__ = ["defocus_blur"]

KIND = "blur"
RADIUS = (3, 4, 6, 8, 10)  # pixels of 224


def defocus_blur(
    x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """x in 0..1. The published softening of the disk's rim is taken over by a disk that knows fractions of pixels."""
    return filtered(x, disk(RADIUS[severity - 1] * scale(x)))
