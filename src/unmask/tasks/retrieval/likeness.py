"""When two images are copies: the same file, the same pixels, or similar tiny versions of both.

The tiny image is in the spirit of perceptual hashes, which compare tiny versions of images (e.g. Zauner 2010,
"Implementation and Benchmarking of Perceptual Image Hash Functions"), but kept as numbers, so that the likeness is a
correlation with a threshold that can be moved, instead of a count of bits.
"""

import hashlib
import io

import torch
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.report.reconstruction import displayed, value_range

SIDE = 16  # of a tiny image, pixels: re-encoding and resizing hardly change it, another image does
FLAT = 1e-3  # deviation of values from 0 to 1 below which an image is one plain colour


def tiny_image(pixels: Shaped[Tensor, "c h w"]) -> Float[Tensor, "768"]:
    """16 x 16 colours, without their mean and of length 1: the product of two is their correlation, from -1 to 1.

    Zero for an image of one plain colour, which is thus similar to none but its exact copies.
    """
    shown = torch.from_numpy(displayed(pixels, *value_range(pixels))).permute(2, 0, 1)
    tiny = interpolate(shown[None], (SIDE, SIDE), mode="area")[0].flatten()
    tiny = tiny - tiny.mean()
    return torch.zeros_like(tiny) if float(tiny.std()) < FLAT else tiny / tiny.norm()


def pixel_digest(pixels: Shaped[Tensor, "c h w"]) -> bytes:
    """A 16-byte digest of the decoded pixels: the same for an image saved losslessly in another format."""
    head = f"{pixels.dtype} {tuple(pixels.shape)} ".encode()
    return hashlib.blake2b(head + pixels.contiguous().numpy().tobytes(), digest_size=16).digest()


def thumbnail(pixels: Shaped[Tensor, "c h w"], side: int, quality: int = 80) -> bytes:
    """A JPEG for display, its longer side at most `side` pixels."""
    image = Image.fromarray((displayed(pixels, *value_range(pixels)) * 255).round().astype("uint8"))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
