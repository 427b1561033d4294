"""Two classes of small images that can be told apart, but not always: what tests of studies judge on."""

import numpy as np
from PIL import Image

from support.photos import photo


def write(root, **counts):
    """Bluish and reddish images: split=images of each class."""
    for split, count in counts.items():
        for number, name in enumerate(("blue", "red")):
            (root / split / name).mkdir(parents=True)
            for seed in range(count):
                image = photo(1000 * number + seed + 100 * (split == "test"), 32, 32).astype(int)
                image[..., 2 - 2 * number] += 20
                Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / split / name / f"{seed:03d}.png")
    return root
