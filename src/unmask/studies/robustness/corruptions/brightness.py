"""Too much light: the value of hue, saturation and value is raised. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2

__all__ = ["brightness"]

KIND = "weather"  # as published: the sun is weather
RAISED = (0.1, 0.2, 0.3, 0.4, 0.5)


def brightness(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; a grey image is its own value."""
    if x.shape[2] == 1:
        return x + RAISED[severity - 1]
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = (hsv[..., 2] + RAISED[severity - 1]).clip(0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
