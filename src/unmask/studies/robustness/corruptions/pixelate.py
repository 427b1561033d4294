"""Too few pixels: blocks of one colour. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import scale

__all__ = ["pixelate"]

KIND = "digital"
SHARE = (0.6, 0.5, 0.4, 0.3, 0.25)  # of the pixels of a side that are left


def pixelate(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; a block is 1 / share pixels wide at 224, and what it has above one pixel shrinks with the image."""
    height, width = x.shape[:2]
    block = 1 + (1 / SHARE[severity - 1] - 1) * scale(x)
    few = max(1, round(width / block)), max(1, round(height / block))
    small = cv2.resize(x, few, interpolation=cv2.INTER_AREA)
    rows = ((np.arange(height) + 0.5) * few[1] / height).astype(int)  # OpenCV's nearest takes a block's edge
    columns = ((np.arange(width) + 0.5) * few[0] / width).astype(int)
    return small.reshape(few[1], few[0], -1)[rows][:, columns]
