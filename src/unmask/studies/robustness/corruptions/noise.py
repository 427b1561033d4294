"""Noise of a sensor and of lost values.

After ImageNet-C (arXiv 1903.12261). Each takes an image in 0..1, a severity of 1 to 5 and the source of chance.
"""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import strength

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise"]

DEVIATION = (0.08, 0.12, 0.18, 0.26, 0.38)
LOST = (0.03, 0.06, 0.09, 0.17, 0.27)  # of all values
PHOTONS = (60, 25, 12, 5, 3)  # that make full brightness


def gaussian_noise(
    x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """Noise of a sensor in low light: a normal number is added to every value."""
    return x + rng.normal(0, DEVIATION[severity - 1] * strength(x), x.shape).astype(x.dtype)


def impulse_noise(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Salt and pepper: values set to black or white, half each, separately per channel."""
    hit, white = rng.random(x.shape) < LOST[severity - 1] * strength(x), rng.random(x.shape) < 0.5
    return np.where(hit, white.astype(x.dtype), x)


def shot_noise(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Photon noise, stronger in bright areas. The deviation falls with the square root of the number of photons, so
    `strength` enters squared.
    """
    photons = PHOTONS[severity - 1] / strength(x) ** 2
    return (rng.poisson(x * photons) / photons).astype(x.dtype)
