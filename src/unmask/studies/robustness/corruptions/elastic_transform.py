"""An image drawn on rubber: pulled as a whole, or rippled. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import moved, scale, smooth

__all__ = ["elastic_transform"]

KIND = "digital"
ELASTIC = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
SIDE = 244  # pixels that those shares are of, as published


def elastic_transform(
    x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """x in 0..1. Shares are the height of ripples, their smoothness, and how far three points of the whole are pulled.

    As published, severities 1 and 2 pull and bend the whole image, 3 to 5 ripple it finely: how far an image is from
    the original in pixels does not grow from 2 to 3.
    """
    height, smoothness, pull = (share * SIDE * scale(x) for share in ELASTIC[severity - 1])
    middle = np.array(x.shape[1::-1], np.float32) / 2
    corners = middle + np.array([[1, 1], [1, -1], [-1, -1]], np.float32) * (min(x.shape[:2]) // 3)
    pulled = corners + chance.uniform(-pull, pull, (3, 2)).astype(np.float32)
    whole = cv2.getAffineTransform(corners, pulled)
    x = cv2.warpAffine(x, whole, x.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101).reshape(x.shape)
    ripples = chance.uniform(-1, 1, (*x.shape[:2], 2)).astype(np.float32)
    ripples = smooth(ripples, smoothness, reach=3) * height * scale(x)  # finer noise in fewer pixels is weaker
    return moved(x, ripples[..., 0], ripples[..., 1])
