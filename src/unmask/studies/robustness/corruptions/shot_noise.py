"""Noise of counting photons: stronger where it is bright. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import strength

__all__ = ["shot_noise"]

KIND = "noise"
PHOTONS = (60, 25, 12, 5, 3)  # that make full brightness


def shot_noise(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the deviation falls with the square root of the photons, so `strength` counts twice."""
    photons = PHOTONS[severity - 1] / strength(x) ** 2
    return (chance.poisson(x * photons) / photons).astype(x.dtype)
