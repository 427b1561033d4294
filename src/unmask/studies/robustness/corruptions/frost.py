"""Ice on the lens. After ImageNet-C (arXiv 1903.12261), with ice that is drawn instead of photographed."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from unmask.studies.robustness.kernels import filtered, fitted, layer_size, plasma, smooth, streak

__all__ = ["frost"]

KIND = "weather"
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # shares of the scene and of the ice
TEXTURES, SIDE = 6, 256  # pieces of ice, always the same; published: six photographs
TINT = np.array([0.86, 0.94, 1.0], np.float32)  # red, green, blue of ice


def frost(x: Float[np.ndarray, "h w c"], severity: int, chance: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """x in 0..1; the ice is a random piece of one of six textures, at a short side of 224, shrunk with the image."""
    scene, ice = FROST[severity - 1]
    height, width = layer_size(x)
    texture = _texture(int(chance.integers(TEXTURES)))
    texture = np.roll(texture, tuple(chance.integers(SIDE, size=2)), (0, 1))
    texture = np.tile(texture, (-(-height // SIDE), -(-width // SIDE)))[:height, :width]
    layer = fitted(texture, x)
    return scene * x + ice * (layer * TINT if x.shape[2] == 3 else layer)


@lru_cache(TEXTURES)
def _texture(number: int) -> Float[np.ndarray, "s s"]:
    """Needles of ice in a few directions, dense where a cloud is dense, over a thin haze; it repeats without a seam."""
    chance = np.random.default_rng([0xF2057, number])
    cloud = plasma(SIDE, SIDE, 1.7, chance)
    needles = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(16):
        length, angle = chance.uniform(10, 45), chance.uniform(0, 360)
        seeds = (chance.random((SIDE, SIDE)) < 0.006 * cloud**3).astype(np.float32)
        kernel = smooth(np.pad(streak(length, length, angle), 3), 0.8)
        grown = filtered(np.pad(seeds, 96, mode="wrap")[..., None], kernel)[96:-96, 96:-96, 0]
        needles = np.maximum(needles, (grown / kernel.max()).clip(0, 1) * chance.uniform(0.5, 1))
    return (0.08 + 0.4 * cloud**1.5 + 0.65 * needles).clip(0, 1)
