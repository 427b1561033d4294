"""Fog: clouds of light over the scene, whose contrast falls. ImageNet-C (arXiv 1903.12261)."""

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import fitted, layer_size, plasma

__all__ = ["fog"]

KIND = "weather"
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))  # thickness, and how fast its roughness falls


def fog(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the fog is drawn at a short side of 224 and shrunk with the image."""
    thickness, decay = FOG[severity - 1]
    clouds = fitted(plasma(*layer_size(x), decay, chance), x)
    top = max(float(x.max()), 1e-6)
    return (x + thickness * clouds) * top / (top + thickness)
