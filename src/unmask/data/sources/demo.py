"""`demo`: crops of photographs that come with scikit-image. The class is the photograph; nothing is downloaded.

Training crops come from the left half of each photograph, test crops from the right half, so that no pixel is in both.
"""

import numpy as np
from PIL import Image

from unmask.data.source import Item, Source
from unmask.seeds import mix

__all__ = ["Demo"]

PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "retina",
)  # fmt: skip
SIDE = 32  # pixels of a crop as written
REGION = (32, 40)  # pixels of the square that a crop is cut from, in photographs 512 pixels high
FLAT, TRIES = 6.0, 50  # least standard deviation of a crop, and how often one is drawn again
COUNTS = {"train": 100, "test": 250}  # crops per photograph


class Demo(Source):
    def __init__(self, path: str = "demo"):
        super().__init__("demo")
        self.places = [(p, s, n) for s, count in COUNTS.items() for p in PHOTOGRAPHS for n in range(count)]
        self.items = [Item(f"{split}/{photo}/{number:03d}.png", photo, split) for photo, split, number in self.places]
        self._photographs: dict[str, Image.Image] = {}

    @classmethod
    def accepts(cls, path: str) -> bool:
        return path == "demo"

    def read(self, index: int) -> np.ndarray:
        """A crop, uint8 h w 3: where and how large is a pure function of the index."""
        photo, split, number = self.places[index]
        image = self.photograph(photo)
        rng = np.random.default_rng(mix(PHOTOGRAPHS.index(photo), split == "test", number))
        crop = self._crop(image, split, rng)
        for _ in range(TRIES):  # plain black or white corners are alike in several photographs, and no task
            if crop.std() >= FLAT:
                break
            crop = self._crop(image, split, rng)
        return crop

    def _crop(self, image: Image.Image, split: str, rng: np.random.Generator) -> np.ndarray:
        half = image.width // 2
        side = int(min(rng.integers(*REGION), half, image.height))
        left = int(rng.integers(0, half - side + 1)) + (half if split == "test" else 0)
        top = int(rng.integers(0, image.height - side + 1))
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box, reducing_gap=None))

    def photograph(self, name: str) -> Image.Image:
        """The whole of one, 512 pixels high."""
        if name not in self._photographs:
            from skimage import data

            image = Image.fromarray(getattr(data, name)()).convert("RGB")
            width = round(image.width * 512 / image.height)
            self._photographs[name] = image.resize((width, 512), Image.Resampling.LANCZOS)
        return self._photographs[name]
