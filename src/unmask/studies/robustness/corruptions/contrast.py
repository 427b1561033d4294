"""Too little contrast: values move towards the image's mean. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

__all__ = ["contrast"]

KIND = "digital"
KEPT = (0.4, 0.3, 0.2, 0.1, 0.05)  # of the distance to the mean


def contrast(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the mean is each channel's own."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return mean + KEPT[severity - 1] * (x - mean)
