"""Joint augmentation of an image and its class map for segmentation.

As public recipes on ADE20K have it: resized by a random factor, a crop that is not nearly all of one class, mirrored,
colours distorted (reference implementation implus/mae_segmentation, whose last step follows Liu et al. 2016, SSD).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from unmask.data.annotations.legend import VOID
from unmask.data.transforms.kernels.crop import fill_for
from unmask.data.transforms.kernels.scene import at_size, resized
from unmask.errors import UserError

TRIES = 10  # crops that are drawn where one class fills too much
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18 / 360


@dataclass(frozen=True)
class SceneView:
    """The last channel is the map: it is resized without mixing values, and its colours stay. The same input and
    generator state give the same view."""

    size: tuple[int, int]  # height, width of the result in pixels
    side: int  # pixels of the image's shorter side before the random factor
    fill: tuple[float, ...]  # per channel, raw units: what lies beyond the image
    scale: tuple[float, float] = (0.5, 2.0)  # smallest and largest random factor
    limit: float = 0.75  # most that one class may take of a crop's labelled pixels; 1: any
    flip: bool = True  # mirror left and right half of the time
    distort: bool = True  # colours, of 8-bit images with one or three channels

    def __post_init__(self):
        if min(self.size) < 2 or self.side < 2:
            raise UserError(
                f"a crop has two numbers of pixels of 2 or more, and so has a side; got {self.size}, {self.side}"
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"--scale must be 0 < smallest <= largest; got {self.scale[0]:g} {self.scale[1]:g}")

    def __call__(self, both: Shaped[Tensor, "c h w"], generator: Generator) -> Shaped[Tensor, "c p q"]:
        height, width = both.shape[1:]
        factor = _uniform(*self.scale, generator) * self.side / min(height, width)
        scaled = max(1, round(height * factor)), max(1, round(width * factor))
        crop = min(self.size[0], scaled[0]), min(self.size[1], scaled[1])
        box = self._box(both[-1], scaled, crop, generator)
        part = both[:, box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
        image = self._resized(part[:-1], crop)
        truth = interpolate(part[None, -1:].contiguous(), crop, mode="nearest-exact")[0]
        if self.distort:
            image = distorted(image, generator)
        view = both.new_empty(both.shape[0], *self.size)
        view[:-1] = torch.tensor(fill_for(self.fill, view.dtype), dtype=view.dtype).view(-1, 1, 1)
        view[-1] = VOID
        view[:-1, : crop[0], : crop[1]], view[-1:, : crop[0], : crop[1]] = image, truth
        return view.flip(-1) if self.flip and torch.rand(1, generator=generator) < 0.5 else view

    def _resized(self, image: Shaped[Tensor, "c h w"], size: tuple[int, int]) -> Shaped[Tensor, "c p q"]:
        options = {"mode": "bilinear", "antialias": True, "align_corners": False}
        return interpolate(image[None].contiguous(), size, **options)[0]

    def _box(
        self, truth: Tensor, scaled: tuple[int, int], crop: tuple[int, int], generator: Generator
    ) -> tuple[int, int, int, int]:
        """Top, left, height, width in the image as it is: cut out first and resized then, it is the same crop, and
        costs less than resizing the whole."""
        height, width = truth.shape
        box = (0, 0, height, width)
        for _ in range(TRIES):
            top, left = (int(torch.randint(0, a - b + 1, (1,), generator=generator)) for a, b in zip(scaled, crop))
            h, w = max(1, round(crop[0] * height / scaled[0])), max(1, round(crop[1] * width / scaled[1]))
            y = min(height - h, round(top * height / scaled[0]))
            x = min(width - w, round(left * width / scaled[1]))
            box = (y, x, h, w)
            if self.limit >= 1 or _varied(truth[y : y + h, x : x + w], self.limit):
                break
        return box


@dataclass(frozen=True)
class NoDataView(SceneView):
    """Of scenes, which may hold NaN: nothing of it is mixed into the values around."""

    planes: int = 0  # before the map, each of one value; the first is the width of a pixel

    def _resized(self, image: Shaped[Tensor, "c h w"], size: tuple[int, int]) -> Shaped[Tensor, "c p q"]:
        bands = image.shape[0] - self.planes
        values = resized(image[:bands], size)
        if not self.planes:
            return values
        told = at_size(image[bands:, :1, :1], (image.shape[1], image.shape[2]), size)
        return torch.cat([values, told.expand(-1, *size)])


def distorted(image: Shaped[Tensor, "c h w"], generator: Generator) -> Shaped[Tensor, "c h w"]:
    """Brightness, contrast, saturation and hue, each half of the time; contrast before or after the other two."""
    chances = (torch.rand(5, generator=generator) < 0.5).tolist()
    shift = _uniform(-BRIGHTNESS, BRIGHTNESS, generator)
    contrast, saturation = _uniform(*CONTRAST, generator), _uniform(*SATURATION, generator)
    hue = _uniform(-HUE, HUE, generator)
    values = image.float()
    if chances[0]:
        values = values + shift
    if chances[1] and chances[4]:
        values = values * contrast
    values = values.clamp(0, 255).round().to(torch.uint8)
    if image.shape[0] == 3 and chances[2]:
        values = F.adjust_saturation(values, saturation)
    if image.shape[0] == 3 and chances[3]:
        values = F.adjust_hue(values, hue)
    if chances[1] and not chances[4]:
        values = (values.float() * contrast).clamp(0, 255).round()
    return values.to(image.dtype)


def _varied(truth: Tensor, limit: float) -> bool:
    counts = torch.bincount(truth.flatten().long(), minlength=VOID + 1)[:VOID]
    total = int(counts.sum())
    return total > 0 and int((counts > 0).sum()) > 1 and int(counts.max()) <= limit * total


def _uniform(low: float, high: float, generator: Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()
