"""Windows on a scene, whose pixels may hold no value and whose last planes may tell of the scene as a whole."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop, WholeImage

METRES = 0  # the plane that says how far it is from pixel to pixel; others do not change with the size


@dataclass(frozen=True)
class SceneWindow:
    """A crop as of an image: where it has no values there are none in the view either, and none are mixed in."""

    crop: RandomCrop | FixedCrop | WholeImage
    planes: int = 0  # at the end of a scene, each of one value

    @property
    def size(self) -> tuple[int, int]:
        return self.crop.size

    def __call__(self, sample: Shaped[Tensor, "c h w"], generator: Generator | None = None) -> Shaped[Tensor, "c p q"]:
        """The same scene and generator state give the same view."""
        height, width = sample.shape[1:]
        flip = False
        if isinstance(self.crop, WholeImage) or generator is None:
            share = max(self.size[0] / height, self.size[1] / width)
            h, w = (min(side, max(1, round(out / share))) for side, out in zip((height, width), self.size))
            top, left = (height - h) // 2, (width - w) // 2
        elif isinstance(self.crop, FixedCrop):
            h, w = self.crop.window(height, width)
            top, left = (
                int(torch.randint(0, whole - side + 1, (1,), generator=generator))
                for whole, side in ((height, h), (width, w))
            )
        else:
            top, left, h, w = self.crop.box(height, width, generator)
        if generator is not None and self.crop.flip:
            flip = bool(torch.rand(1, generator=generator) < 0.5)
        bands = sample.shape[0] - self.planes
        view = resized(sample[:bands, top : top + h, left : left + w], self.size)
        view = view.flip(-1) if flip else view
        if not self.planes:
            return view
        told = at_size(sample[bands:, :1, :1], (h, w), self.size)
        return torch.cat([view, told.expand(-1, *self.size)])


def at_size(told: Float[Tensor, "k 1 1"], old: tuple[int, int], new: tuple[int, int]) -> Float[Tensor, "k 1 1"]:
    """What planes tell of a scene that is resized: its pixels become wider or narrower."""
    told = told.clone()
    told[METRES] *= (old[0] * old[1] / (new[0] * new[1])) ** 0.5
    return told


def resized(sample: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "c p q"]:
    """Antialiased bilinear over the values that there are; NaN where most of what a pixel is made of is NaN."""
    if tuple(sample.shape[1:]) == size:
        return sample.clone()
    missing = sample.isnan()
    options = {"mode": "bilinear", "antialias": True, "align_corners": False}
    if not missing.any():
        return interpolate(sample[None], size, **options)[0]
    sums = interpolate(sample.nan_to_num(nan=0.0)[None], size, **options)[0]
    shares = interpolate((~missing).to(sample.dtype)[None], size, **options)[0]
    return torch.where(shares >= 0.5, sums / shares.clamp(min=0.5), torch.nan)
