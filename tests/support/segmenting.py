"""Small segmented images for tests: bright shapes on dark ground, and masks that say which is which."""

import numpy as np
import torch
from PIL import Image

from unmask.models.encoder import create_encoder
from unmask.models.segmenter import Segmenter

NAMES = ["ground", "disc", "box"]


def scene(seed, height=40, width=48):
    """An image (h w 3, uint8) with a disc and a box on dark ground, and its map: 0 ground, 1 disc, 2 box."""
    rng = np.random.default_rng(seed)
    image = rng.integers(20, 60, (height, width, 3))
    truth = np.zeros((height, width), dtype=np.uint8)
    rows, columns = np.mgrid[:height, :width]
    y, x = rng.integers(10, height - 10), rng.integers(8, width // 2 - 4)
    disc = (rows - y) ** 2 + (columns - x) ** 2 < 49
    top, left = rng.integers(2, height - 16), rng.integers(width // 2 + 2, width - 14)
    box = (rows >= top) & (rows < top + 14) & (columns >= left) & (columns < left + 12)
    image[disc] = (220, 60, 40)
    image[box] = (40, 90, 230)
    truth[disc], truth[box] = 1, 2
    return image.astype(np.uint8), truth


def write_pairs(root, count, split=None, first=0, masks="masks", **size):
    """images/ and masks/ below `root`, with PNG images 000.png ..."""
    inner = [split] if split else []
    for offset in range(count):
        image, truth = scene(first + offset, **size)
        for folder, array in (("images", image), (masks, truth)):
            place = root.joinpath(folder, *inner)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(place / f"{first + offset:03d}.png")
    return root


def small_encoder(**options):
    text = ", ".join(f"{k}={v}" for k, v in ({"depth": 4, "embed_dim": 32, "num_heads": 2} | options).items())
    return create_encoder(f"vit_tiny_patch16_224({text})", image_size=(32, 32), patch_size=8, mean=(90.0,) * 3,
                          std=(60.0,) * 3)  # fmt: skip


def segmenter(head="light(channels=16)", **options):
    torch.manual_seed(0)
    return Segmenter(small_encoder(), NAMES, [0, 1, 2], head=head, **options)


def batch(count=2, size=40):
    both = [np.concatenate([p.transpose(2, 0, 1), t[None]]) for p, t in (scene(i, size, size) for i in range(count))]
    return {"views": [torch.from_numpy(np.stack(both))]}
