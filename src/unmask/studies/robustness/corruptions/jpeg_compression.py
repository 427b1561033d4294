"""Strong compression by JPEG. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import strength

__all__ = ["jpeg_compression"]

KIND = "digital"
QUALITY = (25, 18, 15, 10, 7)


def jpeg_compression(
    x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the steps of the quantiser, 5000 / quality percent, shrink by `strength`: blocks stay 8 pixels."""
    steps = 5000 / QUALITY[severity - 1] * strength(x)
    quality = round(5000 / steps if steps > 100 else (200 - steps) / 2)
    pixels = (x[..., ::-1] * 255).round().astype(np.uint8)  # OpenCV's order is blue, green, red
    _, code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = cv2.imdecode(code, cv2.IMREAD_COLOR if x.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)
    assert back is not None
    return back.reshape(x.shape)[..., ::-1].astype(np.float32) / 255
