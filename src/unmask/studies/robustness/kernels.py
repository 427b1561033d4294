"""Shared by corruptions: the scale of an image, and small blur kernels.

The published constants are for images of 224 pixels. Here a length in pixels is multiplied by `scale`, the short side
divided by 224, and the strength of noise by `strength`, its square root, at most 1: at 32 pixels that is close to what
the authors themselves chose for CIFAR-10-C (Hendrycks and Dietterich 2019, arXiv 1903.12261, and their repository).
"""

import math

import numpy as np
from jaxtyping import Float

from unmask.data.codecs.opencv import cv2

REFERENCE = 224  # pixels of the short side that the published constants are for


def scale(x: Float[np.ndarray, "h w c"]) -> float:
    """Pixels of this image per published pixel."""
    return min(x.shape[:2]) / REFERENCE


def strength(x: Float[np.ndarray, "h w c"]) -> float:
    """Factor for noise: less for small images, which have fewer pixels to average over; at most 1."""
    return min(1.0, math.sqrt(scale(x)))


def disk(radius: float) -> Float[np.ndarray, "k k"]:
    """The kernel of a lens out of focus; radius in pixels, may be fractional."""
    steps = np.linspace(-1, 1, 41) * radius
    down, right = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = down**2 + right**2 <= radius**2
    return _kernel(down[inside], right[inside], np.ones(int(inside.sum())))


def streak(radius: float, sigma: float, angle: float) -> Float[np.ndarray, "k k"]:
    """The kernel of motion blur: half a Gaussian of deviation `sigma`, 2 `radius` long, at `angle` degrees."""
    along = np.linspace(0, 2 * radius, max(8, round(8 * radius)))
    turn = math.radians(angle)
    return _kernel(along * math.sin(turn), along * math.cos(turn), np.exp(-0.5 * (along / sigma) ** 2))


def filtered(x: Float[np.ndarray, "h w c"], kernel: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "h w c"]:
    """Every channel convolved with the kernel, with mirrored borders."""
    return cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT_101).reshape(x.shape)


def smooth(x: Float[np.ndarray, "h w *c"], sigma: float, reach: float = 4) -> Float[np.ndarray, "h w *c"]:
    """Gaussian blur; `reach`: where the kernel ends, in units of sigma."""
    side = 2 * max(1, round(reach * sigma)) + 1
    return cv2.GaussianBlur(x, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101).reshape(x.shape)


def moved(
    x: Float[np.ndarray, "h w c"], down: Float[np.ndarray, "h w"], right: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w c"]:
    """Samples each pixel at an offset in pixels, with interpolation."""
    rows, columns = np.indices(x.shape[:2], dtype=np.float32)
    places = columns + right.astype(np.float32), rows + down.astype(np.float32)
    return cv2.remap(x, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101).reshape(x.shape)


def _kernel(down: np.ndarray, right: np.ndarray, weights: np.ndarray) -> Float[np.ndarray, "k k"]:
    """A kernel of weighted points around the centre, each distributed over its four nearest pixels; sums to 1."""
    reach = int(max(np.abs(down).max(), np.abs(right).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    top, left = np.floor(down).astype(int), np.floor(right).astype(int)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - row - (down - top)) * np.abs(1 - column - (right - left))
        position = np.minimum(top + row + reach, 2 * reach), np.minimum(left + column + reach, 2 * reach)
        np.add.at(kernel, position, weights * share)
    return kernel / kernel.sum()
