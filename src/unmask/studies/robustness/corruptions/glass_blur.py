"""Frosted glass: neighbouring pixels change places. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import moved, scale, smooth

__all__ = ["glass_blur"]

KIND = "blur"
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # deviation of the blur, reach, rounds


def glass_blur(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1. In each round every pixel is read at a random offset within the reach, in both directions.

    The published version swaps whole pixels one after the other; offsets that may be fractions can be scaled.
    """
    deviation, reach, rounds = GLASS[severity - 1]
    offsets = chance.uniform(-reach, reach, (rounds, 2, *x.shape[:2])).sum(axis=0) * scale(x)
    return smooth(moved(smooth(x, deviation * scale(x)), *offsets), deviation * scale(x))
