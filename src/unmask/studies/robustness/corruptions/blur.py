"""Blur by lens, glass and movement.

After ImageNet-C (arXiv 1903.12261). Each takes an image in 0..1, a severity of 1 to 5 and the source of chance.
"""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import disk, filtered, moved, scale, smooth, streak

__all__ = ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"]

RADIUS = (3, 4, 6, 8, 10)  # pixels of 224
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # deviation of the blur, reach, rounds
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius and deviation, pixels of 224
ZOOM = ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))  # last factor and step


def defocus_blur(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """A lens out of focus: every point becomes a disk. An antialiased disk replaces the published softened one."""
    return filtered(x, disk(RADIUS[severity - 1] * scale(x)))


def glass_blur(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Frosted glass: in each round every pixel is read at a random offset within the reach, in both directions.

    The published version swaps whole pixels one after the other; fractional offsets can be scaled to the image.
    """
    deviation, reach, rounds = GLASS[severity - 1]
    offsets = rng.uniform(-reach, reach, (rounds, 2, *x.shape[:2])).sum(axis=0) * scale(x)
    return smooth(moved(smooth(x, deviation * scale(x)), *offsets), deviation * scale(x))


def motion_blur(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """A camera that moved while the shutter was open, at most 45 degrees from the horizontal."""
    radius, deviation = MOTION[severity - 1]
    return filtered(x, streak(radius * scale(x), deviation * scale(x), rng.uniform(-45, 45)))


def zoom_blur(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """A camera that moved towards the scene while the shutter was open: the mean of the image and increasingly enlarged
    copies of it.
    """
    last, step = ZOOM[severity - 1]
    factors = np.arange(1, last + step / 2, step)
    height, width = x.shape[:2]
    total = x.copy()
    for factor in factors:
        about = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, float(factor))
        total += cv2.warpAffine(x, about, (width, height), borderMode=cv2.BORDER_REFLECT_101).reshape(x.shape)
    return total / (len(factors) + 1)
