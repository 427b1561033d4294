"""A camera that moved towards the scene while the shutter was open. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2

__all__ = ["zoom_blur"]

KIND = "blur"
ZOOM = ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))  # last factor and step


def zoom_blur(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1: the mean of the image and of itself, enlarged about its middle by ever more."""
    last, step = ZOOM[severity - 1]
    factors = np.arange(1, last + step / 2, step)
    height, width = x.shape[:2]
    total = x.copy()
    for factor in factors:
        about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, float(factor))
        total += cv2.warpAffine(x, about, (width, height), borderMode=cv2.BORDER_REFLECT_101).reshape(x.shape)
    return total / (len(factors) + 1)
