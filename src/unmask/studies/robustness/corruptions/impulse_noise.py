"""Salt and pepper: values lost to black or white, each channel for itself. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import strength

__all__ = ["impulse_noise"]

KIND = "noise"
SHARE = (0.03, 0.06, 0.09, 0.17, 0.27)  # of all values


def impulse_noise(
    x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; half of the values hit become 0, half become 1."""
    hit, white = chance.random(x.shape) < SHARE[severity - 1] * strength(x), chance.random(x.shape) < 0.5
    return np.where(hit, white.astype(x.dtype), x)
