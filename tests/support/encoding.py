"""Images as bytes of many kinds, for tests of decoding."""

import io

import numpy as np
import tifffile
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
SMOOTH = np.stack([np.add.outer(np.arange(40) * a, np.arange(60) * b) % 251 for a, b in ((3, 1), (1, 2), (2, 3))], -1)
SMOOTH = SMOOTH.astype(np.uint8)


def encoded(image, kind="PNG", **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def last(pixels):
    """c h w -> h w c, as NumPy."""
    return pixels.permute(1, 2, 0).numpy()
