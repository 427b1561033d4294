"""Light, fog, frost and snow. ImageNet-C (arXiv 1903.12261). Each takes an image in 0..1, a severity of 1 to 5 and the
source of chance; fog, ice and flakes are drawn at a short side of 224 and shrunk with the image.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2
from unmask.studies.robustness.kernels import filtered, scale, smooth, streak

__all__ = ["brightness", "fog", "frost", "snow"]

RAISED = (0.1, 0.2, 0.3, 0.4, 0.5)
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))  # thickness, and how fast its roughness falls
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # shares of the scene and of the ice
TEXTURES, SIDE = 6, 256  # pieces of ice, always the same; published: six photographs
TINT = np.array([0.86, 0.94, 1.0], np.float32)  # red, green, blue of ice
SNOW = (  # mean, deviation, size of a flake, threshold, radius and deviation of its fall, share of the scene kept
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)


def brightness(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Too much light: the value of hue, saturation and value is raised; a grey image is its own value."""
    if x.shape[2] == 1:
        return x + RAISED[severity - 1]
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = (hsv[..., 2] + RAISED[severity - 1]).clip(0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def fog(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Bright clouds over the scene, which loses contrast."""
    thickness, decay = FOG[severity - 1]
    clouds = fitted(plasma(*layer_size(x), decay, rng), x)
    top = max(float(x.max()), 1e-6)
    return (x + thickness * clouds) * top / (top + thickness)


def frost(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Ice on the lens, a random crop of one of six textures; these are synthetic, the published ones photographs."""
    scene, ice = FROST[severity - 1]
    height, width = layer_size(x)
    texture = _texture(int(rng.integers(TEXTURES)))
    texture = np.roll(texture, tuple(rng.integers(SIDE, size=2)), (0, 1))
    texture = np.tile(texture, (-(-height // SIDE), -(-width // SIDE)))[:height, :width]
    layer = fitted(texture, x)
    return scene * x + ice * (layer * TINT if x.shape[2] == 3 else layer)


@lru_cache(TEXTURES)
def _texture(number: int) -> Float[np.ndarray, "s s"]:
    """Needles of ice in a few directions, dense where a cloud is dense, over a thin haze; it repeats without a seam."""
    rng = np.random.default_rng([0xF2057, number])
    cloud = plasma(SIDE, SIDE, 1.7, rng)
    needles = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(16):
        length, angle = rng.uniform(10, 45), rng.uniform(0, 360)
        seeds = (rng.random((SIDE, SIDE)) < 0.006 * cloud**3).astype(np.float32)
        kernel = smooth(np.pad(streak(length, length, angle), 3), 0.8)
        grown = filtered(np.pad(seeds, 96, mode="wrap")[..., None], kernel)[96:-96, 96:-96, 0]
        needles = np.maximum(needles, (grown / kernel.max()).clip(0, 1) * rng.uniform(0.5, 1))
    return (0.08 + 0.4 * cloud**1.5 + 0.65 * needles).clip(0, 1)


def snow(x: Float[np.ndarray, "h w c"], severity: int, rng: np.random.Generator) -> Float[np.ndarray, "h w c"]:
    """Falling snow before a paler scene."""
    mean, deviation, flake, threshold, radius, fall, scene_share = SNOW[severity - 1]
    height, width = layer_size(x)
    drawn = rng.normal(mean, deviation, (round(height / flake), round(width / flake))).astype(np.float32)
    flakes = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = fitted(filtered(flakes, streak(radius, fall, rng.uniform(-135, -45))), x)
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None] if x.shape[2] == 3 else x
    return scene_share * x + (1 - scene_share) * np.maximum(x, 1.5 * grey + 0.5) + flakes + flakes[::-1, ::-1]


def layer_size(x: Float[np.ndarray, "h w c"]) -> tuple[int, int]:
    """Height and width of a layer of weather for this image: its shape at a short side of 224."""
    return round(x.shape[0] / scale(x)), round(x.shape[1] / scale(x))


def fitted(layer: Float[np.ndarray, "p q *k"], x: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w k"]:
    """A layer of weather at the size of the image: flakes and needles shrink with everything else."""
    how = cv2.INTER_AREA if scale(x) < 1 else cv2.INTER_LINEAR
    return cv2.resize(layer, (x.shape[1], x.shape[0]), interpolation=how).reshape(*x.shape[:2], -1)


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Clouds in 0..1 by the diamond-square algorithm (Fournier et al. 1982) on a torus of 256 x 256.

    decay: factor by which the roughness falls from one octave to the next.
    """
    side = step = 256
    field, wobble = np.zeros((side, side), np.float32), 1.0
    while step > 1:
        half, number = step // 2, side // step
        noise = rng.uniform(-wobble, wobble, (3, number, number))
        corner = field[::step, ::step]
        right, below = np.roll(corner, -1, 1), np.roll(corner, -1, 0)
        middle = (corner + right + below + np.roll(right, -1, 0)) / 4 + noise[0]
        field[half::step, half::step] = middle
        field[::step, half::step] = (corner + right + middle + np.roll(middle, 1, 0)) / 4 + noise[1]
        field[half::step, ::step] = (corner + below + middle + np.roll(middle, 1, 1)) / 4 + noise[2]
        step, wobble = half, wobble / decay
    field = (field - field.min()) / (field.max() - field.min())
    return np.tile(field, (math.ceil(height / side), math.ceil(width / side)))[:height, :width]
