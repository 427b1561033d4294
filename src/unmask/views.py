"""What the model sees of a picture: a random crop for learning, the whole for judging. Any number of channels."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from unmask.errors import UserError


@dataclass(frozen=True)
class RandomCrop:
    """Random resized crop as torchvision's (Szegedy et al. 2014), with all chance from one generator.

    Values keep their dtype: uint8 stays within 0..255, floats may ring a little beyond the picture's own range.
    """

    size: tuple[int, int]  # height, width of the result in pixels
    scale: tuple[float, float] = (0.2, 1.0)  # smallest and largest share of the picture's area
    flip: bool = True  # mirror left and right half of the time
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the crop, as a share of the result's own

    def __post_init__(self):
        _check_size(self.size)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"crop shares must be 0 < smallest <= largest <= 1; got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(f"crop ratios must be 0 < smallest <= largest; got {self.ratio}")

    def __call__(self, picture: Shaped[Tensor, "c h w"], generator: Generator) -> Shaped[Tensor, "c p q"]:
        """The same picture and generator state give the same view."""
        top, left, height, width = self.box(picture.shape[-2], picture.shape[-1], generator)
        view = _resize(picture[..., top : top + height, left : left + width], self.size)
        if self.flip and torch.rand(1, generator=generator) < 0.5:
            view = view.flip(-1)
        return view

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
        w = min(width, max(1, round(height * high)))
        h = min(height, max(1, round(width / low)))
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class WholePicture:
    """The picture resized so that it covers `size`, then its centre: no chance, and as little cut off as can be.

    A smaller `crop` resizes it to cover more and cuts more off: 224 / 256 is the usual test of ImageNet's classifiers.
    """

    size: tuple[int, int]  # height, width of the result in pixels
    crop: float = 1.0  # share of the side that fits first (the shorter, for square views) that is seen

    def __post_init__(self):
        _check_size(self.size)
        if not 0 < self.crop <= 1:
            raise UserError(f"the share of a picture that is seen must be above 0 and at most 1; got {self.crop}")

    def __call__(self, picture: Shaped[Tensor, "c h w"], generator: Generator | None = None) -> Shaped[Tensor, "c p q"]:
        """generator: not used; it is there so that views can stand in for each other."""
        height, width = picture.shape[-2:]
        share = max(self.size[0] / height, self.size[1] / width) / self.crop
        covering = (max(self.size[0], round(height * share)), max(self.size[1], round(width * share)))
        whole = _resize(picture, covering)
        top, left = (covering[0] - self.size[0]) // 2, (covering[1] - self.size[1]) // 2
        return whole[..., top : top + self.size[0], left : left + self.size[1]].contiguous()


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if picture.shape[-2:] == size:
        return picture.clone()  # never a window on a cached picture
    return F.resize(picture, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()


def _check_size(size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 2:  # PyTorch cannot resize three 8-bit channels to a single pixel
        raise UserError(f"a view's size is height, width in pixels, each at least 2; got {size}")
