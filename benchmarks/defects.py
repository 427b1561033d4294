"""Plants defects in photographs, each with its mask: scratches, blobs, stains and pieces of other images' texture.

A pure function of the image, the donor and the generator, so that a seed names a set of damaged images.
"""

import cv2
import numpy as np

KINDS = ("scratch", "blob", "stain", "texture")
SEEN = 8  # grey levels, mean over channels: a pixel that changed less does not count as part of the defect


def plant(image: np.ndarray, donor: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """image, donor: h w 3, uint8. Returns the damaged image and its mask (h w, 0 and 255).

    The defect lies in the central square, which a square view of the image shows; it is 6 to 18 % of the short side
    across, scratches are up to half of it long and 1 to 2 % wide.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    for _ in range(20):
        x, y = rng.uniform(-0.35, 0.35, 2) * side + (width / 2, height / 2)
        size = rng.uniform(0.06, 0.18) * side
        cover = (
            _scratch(image.shape[:2], x, y, side, rng) if kind == "scratch" else _spot(image.shape[:2], x, y, size, rng)
        )
        paint = _paint(image, donor, kind, rng)
        result = image + (paint - image) * cover[..., None]
        result = np.clip(np.round(result), 0, 255).astype(np.uint8)
        changed = np.abs(result.astype(int) - image.astype(int)).mean(axis=2) >= SEEN
        if changed.sum() >= 0.3 * (cover > 0.3).sum() > 0:  # else it is as good as invisible there: try elsewhere
            return result, changed.astype(np.uint8) * 255
    raise ValueError(f"no visible {kind} could be planted in 20 trials")


def _scratch(shape: tuple[int, int], x: float, y: float, side: int, rng: np.random.Generator) -> np.ndarray:
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6)
    length, thick = rng.uniform(0.2, 0.5) * side, rng.uniform(0.01, 0.02) * side
    along = np.linspace(-0.5, 0.5, 24)
    turn = angle + bend * along
    points = np.stack([x + length * along * np.cos(turn), y + length * along * np.sin(turn)], axis=1)
    canvas = np.zeros(shape, np.uint8)
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], False, 255, max(1, round(thick)), cv2.LINE_AA, 4)
    return 0.9 * canvas.astype(np.float64) / 255


def _spot(shape: tuple[int, int], x: float, y: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """An irregular patch: a circle whose radius wanders, with a soft edge of a pixel or two."""
    around = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = np.ones_like(around)
    for wave in (2, 3, 4):
        radius += rng.uniform(-0.18, 0.18) * np.cos(wave * around + rng.uniform(0, 2 * np.pi))
    points = np.stack([x + size / 2 * radius * np.cos(around), y + size / 2 * radius * np.sin(around)], axis=1)
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(canvas, (0, 0), 1.2).astype(np.float64) / 255


def _paint(image: np.ndarray, donor: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """What the defect would be if it covered everything."""
    if kind == "texture":
        grown = cv2.resize(donor, image.shape[1::-1], interpolation=cv2.INTER_AREA)
        return np.roll(grown, rng.integers(0, grown.shape[0], 2), axis=(0, 1)).astype(np.float64)
    if kind == "stain":  # lets through what lies below
        return image * rng.uniform(0.35, 0.75, 3)
    light = rng.uniform(200, 255) if rng.random() < 0.5 else rng.uniform(0, 50)
    tint = rng.uniform(-40, 40, 3) if kind == "blob" else np.zeros(3)
    return np.broadcast_to(light + tint, image.shape).astype(np.float64)
