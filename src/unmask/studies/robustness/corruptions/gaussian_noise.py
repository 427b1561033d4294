"""Noise of a sensor in low light: the same deviation everywhere. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import strength

__all__ = ["gaussian_noise"]

KIND = "noise"
DEVIATION = (0.08, 0.12, 0.18, 0.26, 0.38)


def gaussian_noise(
    x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; adds a normal number to every value."""
    return x + chance.normal(0, DEVIATION[severity - 1] * strength(x), x.shape).astype(x.dtype)
