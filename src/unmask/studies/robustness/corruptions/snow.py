"""Falling snow before a paler scene. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import filtered, fitted, layer_size, streak

__all__ = ["snow"]

KIND = "weather"
SNOW = (  # mean, deviation, size of a flake, threshold, radius and deviation of its fall, share of the scene kept
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)


def snow(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the flakes are drawn at a short side of 224 and shrunk with the image."""
    mean, deviation, flake, threshold, radius, fall, kept = SNOW[severity - 1]
    height, width = layer_size(x)
    drawn = chance.normal(mean, deviation, (round(height / flake), round(width / flake))).astype(np.float32)
    flakes = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = fitted(filtered(flakes, streak(radius, fall, chance.uniform(-135, -45))), x)
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None] if x.shape[2] == 3 else x
    return kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5) + flakes + flakes[::-1, ::-1]
