"""Windows on an image: a crop for learning, the whole for judging. Any number of channels."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.codecs.opencv import cv2
from unmask.errors import UserError

RESIZES = ("exact", "fast")  # antialiased bicubic as Pillow's; OpenCV's bicubic where that aliases little or nothing
MILD = 1.5  # times that a crop may be as high and wide as the view and still be resized by OpenCV, if that is allowed
FIXED = 224 / 256  # sides of a fixed-size crop, as a share of the largest window that fits
TINY = 40  # pixels: below this, images are seen at their own size
LARGEST = 224  # pixels of views that nobody chose, as in MAE


def fill_for(values: tuple[float, ...], kind: torch.dtype) -> list[float]:
    """What lies beyond an image, per channel, as its dtype can hold it: encoders of deeper images may have a mean above
    255."""
    return [min(255.0, max(0.0, value)) for value in values] if kind == torch.uint8 else list(values)


def usual_square(short: int, patch: int | None, small: bool, things: str, large: str) -> Choice:
    """Height and width of views. short: pixels of the median short side; small: without a CUDA GPU; things: what it is
    said of, such as images; large: the reason where the machine bears their own size."""
    if short <= TINY:
        edge, why = max(8, round(short / 4) * 4), f"the {things}' own size (median short side {short} px)"
    elif small:
        edge, why = 64, f"without a CUDA GPU: small enough to see many {things} in the time"
    else:
        edge, why = min(LARGEST, max(32, short // 16 * 16)), large
    if patch and edge % patch:
        edge, why = max(2, round(edge / patch)) * patch, f"{why}, and a multiple of the patch"
    return Choice([edge, edge], why)


@dataclass(frozen=True)
class RandomCrop:
    """Random resized crop as torchvision's (Szegedy et al. 2014), with all chance from one generator.

    Values keep their dtype: uint8 stays within 0..255, floats may ring a little beyond the image's own range.
    """

    size: tuple[int, int]  # height, width of the result in pixels
    scale: tuple[float, float] = (0.2, 1.0)  # smallest and largest share of the image's area
    flip: bool = True  # mirror left and right half of the time
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop, as a share of the result's own
    resize: str = "exact"  # one of RESIZES

    def __post_init__(self):
        _check_size(self.size)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"crop shares must be 0 < smallest <= largest <= 1; got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(f"crop ratios must be 0 < smallest <= largest; got {self.ratio}")

    def __call__(self, image: Shaped[Tensor, "c h w"], generator: Generator) -> Shaped[Tensor, "c p q"]:
        """The same image and generator state give the same view."""
        box = self.box(image.shape[-2], image.shape[-1], generator)
        return _finished(_cut(image, box, self.size, self.resize), self.flip, generator)

    def box(self, height: int, width: int, generator: Generator) -> tuple[int, int, int, int]:
        """Top, left, height and width of the crop in pixels: ten tries, then the largest centred crop allowed."""
        target = self.size[1] / self.size[0]
        low, high = (r * target for r in self.ratio)
        for _ in range(10):
            area = height * width * _uniform(*self.scale, generator)
            aspect = math.exp(_uniform(math.log(low), math.log(high), generator))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(0, height - h + 1, (1,), generator=generator))
                return top, int(torch.randint(0, width - w + 1, (1,), generator=generator)), h, w
        h, w = self.largest(height, width)
        return (height - h) // 2, (width - w) // 2, h, w

    def largest(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the largest crop of an allowed shape."""
        low, high = (r * self.size[1] / self.size[0] for r in self.ratio)
        return min(height, max(1, round(width / low))), min(width, max(1, round(height * high)))


@dataclass(frozen=True)
class FixedCrop:
    """A window of fixed size and shape at a random place: 7/8 of the largest that fits into the image, which is 224
    pixels of a short side of 256, the usual crop of that kind. He et al. 2021, table 1e, "crop, fixed size"."""

    size: tuple[int, int]  # height, width of the result in pixels
    flip: bool = True  # mirror left and right half of the time
    resize: str = "exact"  # one of RESIZES

    def __post_init__(self):
        _check_size(self.size)

    def __call__(self, image: Shaped[Tensor, "c h w"], generator: Generator) -> Shaped[Tensor, "c p q"]:
        """The same image and generator state give the same view."""
        height, width = image.shape[-2:]
        h, w = self.window(height, width)
        top = int(torch.randint(0, height - h + 1, (1,), generator=generator))
        left = int(torch.randint(0, width - w + 1, (1,), generator=generator))
        return _finished(_cut(image, (top, left, h, w), self.size, self.resize), self.flip, generator)

    def window(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the crop in pixels."""
        share = FIXED * min(height / self.size[0], width / self.size[1])
        return max(1, round(self.size[0] * share)), max(1, round(self.size[1] * share))


@dataclass(frozen=True)
class WholeImage:
    """The image resized so that it covers `size`, then its centre: no chance unless asked for, and as little cut off
    as can be.

    A smaller `crop` resizes it to cover more and cuts more off: 224 / 256 is the usual test of ImageNet's classifiers.
    """

    size: tuple[int, int]  # height, width of the result in pixels
    crop: float = 1.0  # share of the side that fits first (the shorter, for square views) that is seen
    flip: bool = False  # mirror left and right half of the time

    def __post_init__(self):
        _check_size(self.size)
        if not 0 < self.crop <= 1:
            raise UserError(f"the share of an image that is seen must be above 0 and at most 1; got {self.crop}")

    def __call__(self, image: Shaped[Tensor, "c h w"], generator: Generator | None = None) -> Shaped[Tensor, "c p q"]:
        """generator: needed to mirror; else it is there so that views can stand in for each other."""
        height, width = image.shape[-2:]
        share = max(self.size[0] / height, self.size[1] / width) / self.crop
        covering = (max(self.size[0], round(height * share)), max(self.size[1], round(width * share)))
        whole = resized(image, covering)
        top, left = (covering[0] - self.size[0]) // 2, (covering[1] - self.size[1]) // 2
        view = whole[..., top : top + self.size[0], left : left + self.size[1]].contiguous()
        if generator is None:
            return view
        return _finished(view, self.flip, generator)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()


def _cut(image: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], resize: str) -> Tensor:
    top, left, height, width = box
    crop = image[..., top : top + height, left : left + width]
    if resize == "fast" and max(height / size[0], width / size[1]) <= MILD and _is_plain(crop):
        return _resize_mildly(crop, size)
    return resized(crop, size)


def _is_plain(crop: Tensor) -> bool:
    """8-bit colour that lies in memory as OpenCV wants it, or 8-bit grey."""
    return crop.dtype == torch.uint8 and (crop.shape[0] == 1 or (crop.shape[0] == 3 and crop.stride()[::2] == (1, 3)))


def _resize_mildly(crop: Tensor, size: tuple[int, int]) -> Tensor:
    """OpenCV's bicubic: a third of the time of the exact one, a little sharper (a = -0.75 instead of -0.5), and without
    antialiasing, so it is for crops that grow or hardly shrink."""
    pixels = crop.permute(1, 2, 0).numpy()
    result = torch.from_numpy(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC))
    return result[None] if result.ndim == 2 else result.permute(2, 0, 1)


def _finished(view: Tensor, flip: bool, generator: Generator) -> Tensor:
    """Draws nothing for what is not asked for, so that a new option changes no chance of the old ones."""
    return view.flip(-1) if flip and torch.rand(1, generator=generator) < 0.5 else view


def resized(image: Shaped[Tensor, "c h w"], size: tuple[int, int]) -> Shaped[Tensor, "c p q"]:
    """Antialiased bicubic, as torchvision's and Pillow's; always a new tensor."""
    if image.shape[-2:] == size:
        return image.clone()  # never a window on a cached image
    return torch.nn.functional.interpolate(  # what torchvision's resize comes to, without what it asks on the way
        image[None], size, mode="bicubic", antialias=True, align_corners=False
    )[0]


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 2:  # PyTorch cannot resize three 8-bit channels to a single pixel
        raise UserError(f"a view's size is height, width in pixels, each at least 2; got {size}")
