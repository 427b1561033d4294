"""Smooth random images: more like photographs than noise is."""

import numpy as np
from PIL import Image


def photo(seed: int, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    """A smooth random image, uint8 h w c (h w for one channel): more like a photograph than noise is."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (4, 5, channels)).astype(np.uint8)
    planes = [
        Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)
    ]
    return np.stack([np.asarray(p) for p in planes], axis=-1).squeeze()
