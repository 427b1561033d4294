"""What sensors and files do to an image: contrast, pixels, compression, distortion.

After ImageNet-C (arXiv 1903.12261). Each takes an image in 0..1, a severity of 1 to 5 and the source of chance.
"""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import moved, scale, smooth, strength

__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate"]

KEPT = (0.4, 0.3, 0.2, 0.1, 0.05)  # of the distance to the mean
ELASTIC = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
ELASTIC_SIDE = 244  # pixels that those shares are of, as published
QUALITY = (25, 18, 15, 10, 7)
LEFT = (0.6, 0.5, 0.4, 0.3, 0.25)  # of the pixels of a side that are left


def contrast(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Too little contrast: values move towards the mean of their channel."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return mean + KEPT[severity - 1] * (x - mean)


def elastic_transform(
    x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """An elastic deformation, of the whole image or in ripples. Parameters are shares of a side: the height of ripples,
    their smoothness, and how far three points of the image are moved.

    As published, severities 1 and 2 pull and bend the whole image, 3 to 5 ripple it finely: how far an image is from
    the original in pixels does not grow from 2 to 3.
    """
    height, smoothness, pull = (share * ELASTIC_SIDE * scale(x) for share in ELASTIC[severity - 1])
    middle = np.array(x.shape[1::-1], np.float32) / 2
    corners = middle + np.array([[1, 1], [1, -1], [-1, -1]], np.float32) * (min(x.shape[:2]) // 3)
    pulled = corners + rng.uniform(-pull, pull, (3, 2)).astype(np.float32)
    whole = cv2.getAffineTransform(corners, pulled)
    x = cv2.warpAffine(x, whole, x.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101).reshape(x.shape)
    ripples = rng.uniform(-1, 1, (*x.shape[:2], 2)).astype(np.float32)
    ripples = smooth(ripples, smoothness, reach=3) * height * scale(x)  # finer noise in fewer pixels is weaker
    return moved(x, ripples[..., 0], ripples[..., 1])


def jpeg_compression(
    x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """Strong compression by JPEG. The steps of the quantiser, 5000 / quality percent, shrink by `strength`: blocks
    stay 8 pixels wide.
    """
    steps = 5000 / QUALITY[severity - 1] * strength(x)
    quality = round(5000 / steps if steps > 100 else (200 - steps) / 2)
    pixels = (x[..., ::-1] * 255).round().astype(np.uint8)  # OpenCV's order is blue, green, red
    _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = cv2.imdecode(code, cv2.IMREAD_COLOR if x.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    assert back is not None
    return back.reshape(x.shape)[..., ::-1].astype(np.float32) / 255


def pixelate(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Too few pixels: blocks of one colour. A block is 1 / share pixels wide at 224; its width above one pixel scales
    with the image.
    """
    height, width = x.shape[:2]
    block = 1 + (1 / LEFT[severity - 1] - 1) * scale(x)
    few = max(1, round(width / block)), max(1, round(height / block))
    small = cv2.resize(x, few, interpolation=cv2.INTER_AREA)
    rows = ((np.arange(height) + 0.5) * few[1] / height).astype(int)  # OpenCV's nearest takes a block's edge
    columns = ((np.arange(width) + 0.5) * few[0] / width).astype(int)
    return small.reshape(few[1], few[0], -1)[rows][:, columns]
