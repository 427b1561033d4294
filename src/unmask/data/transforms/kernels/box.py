"""Windows on a volume: a box for learning, the whole for judging."""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from unmask.data.transforms.kernels.volume import foreground_places, resample
from unmask.errors import UserError


@dataclass(frozen=True)
class RandomBox:
    """A box of random size and place, resized: the crop of an image, along three axes. Its sides are the same share of
    the volume's, so that shapes are kept."""

    size: tuple[int, ...]  # depth, height, width of the result in voxels
    scale: tuple[float, float] = (0.5, 1.0)  # smallest and largest share of the volume
    flip: bool = False  # mirror the last axis half of the time
    foreground: bool = False  # a voxel of the foreground, each as likely, lies in the box, where there is any

    def __post_init__(self):
        _check_size(self.size)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"crop shares must be 0 < smallest <= largest <= 1; got {self.scale}")

    def __call__(self, sample: Shaped[Tensor, "c d h w"], generator: Generator) -> Shaped[Tensor, "c p q r"]:
        """The same volume and generator state give the same view."""
        chance = torch.rand(5, generator=generator).tolist()
        share = (self.scale[0] + (self.scale[1] - self.scale[0]) * chance[0]) ** (1 / 3)
        sides = [max(1, round(share * side)) for side in sample.shape[1:]]
        ends = [(0, whole - side) for whole, side in zip(sample.shape[1:], sides)]  # of where it may start
        if self.foreground and len(places := foreground_places(sample.float())):
            place = places[int(torch.randint(len(places), (1,), generator=generator))].tolist()
            ends = [(max(low, at - side + 1), min(high, at)) for (low, high), at, side in zip(ends, place, sides)]
        starts = [low + int(c * (high - low + 1)) for c, (low, high) in zip(chance[1:], ends)]
        (d, h, w), (p, q, r) = starts, sides
        view = resized(sample[:, d : d + p, h : h + q, w : w + r], self.size)
        return view.flip(-1) if self.flip and chance[4] < 0.5 else view


@dataclass(frozen=True)
class WholeBox:
    """The whole volume, resized so that it covers `size`, then its centre: as little is cut off as can be."""

    size: tuple[int, ...]  # depth, height, width of the result in voxels

    def __post_init__(self):
        _check_size(self.size)

    def __call__(
        self, sample: Shaped[Tensor, "c d h w"], generator: Generator | None = None
    ) -> Shaped[Tensor, "c p q r"]:
        share = max(side / whole for side, whole in zip(self.size, sample.shape[1:]))
        covering = tuple(max(side, round(share * whole)) for side, whole in zip(self.size, sample.shape[1:]))
        whole = resized(sample, covering)
        d, h, w = ((large - side) // 2 for large, side in zip(covering, self.size))
        p, q, r = self.size
        return whole[:, d : d + p, h : h + q, w : w + r].contiguous()


def resized(sample: Shaped[Tensor, "c d h w"], size: tuple[int, ...]) -> Shaped[Tensor, "c p q r"]:
    """Trilinear, after averaging where it shrinks; always a new tensor."""
    p, q, r = size
    if tuple(sample.shape[1:]) == (p, q, r):
        return sample.clone()
    less = [min(new, old) for new, old in zip(size, sample.shape[1:])]
    sample = sample.float()
    if less != list(sample.shape[1:]):  # averaged first, lest fine structures be skipped
        sample = interpolate(sample[None], less, mode="area")[0]
    return resample(sample, (p, q, r))


def _check_size(size: tuple[int, ...]) -> None:
    if len(size) != 3 or min(size) < 2:
        raise UserError(f"the size of a volume is depth, height, width in voxels, each at least 2; got {size}")
