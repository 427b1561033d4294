"""Joint augmentation of a volume and its labels: a box at random, larger or smaller, turned a little, other contrast.

What matters of nnU-Net's (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z): a third of the boxes is
centred on a structure, and values change by contrast, brightness and gamma.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from unmask.data.annotations.legend import VOID
from unmask.data.transforms.kernels.box import resized
from unmask.data.transforms.kernels.volume import resample_labels
from unmask.errors import UserError

CENTRED = 1 / 3  # of the boxes: on a voxel of a structure
CONTRAST, BRIGHTNESS, GAMMA = (0.75, 1.25), 0.1, (0.7, 1.5)


@dataclass(frozen=True)
class BoxView:
    """The last channel holds the labels: they are never mixed, and VOID beyond the volume. The same input and generator
    state give the same view."""

    size: tuple[int, ...]  # depth, height, width of the result in voxels
    share: float  # by which volumes are resized first, all alike
    fill: tuple[float, ...]  # per channel: what lies beyond a volume
    background: int = 0  # the class that is no structure
    scale: tuple[float, float] = (0.8, 1.25)  # smallest and largest random factor on that size
    turn: float = 15.0  # degrees, at most, around each axis
    flip: bool = False  # mirror the last axis half of the time
    distort: bool = True  # contrast, brightness and gamma of values from 0 to 1

    def __post_init__(self):
        if len(self.size) != 3 or min(self.size) < 2:
            raise UserError(f"a box has depth, height, width of 2 voxels or more; got {self.size}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"--scale must be 0 < smallest <= largest; got {self.scale[0]:g} {self.scale[1]:g}")

    def __call__(self, both: Float[Tensor, "c d h w"], generator: Generator) -> Float[Tensor, "c p q r"]:
        volume, labels = at_share(both[:-1], self.share), both[-1]
        if labels.shape != volume.shape[1:]:
            labels = resample_labels(labels, tuple(volume.shape[1:]))  # type: ignore[arg-type]
        chance = torch.rand(12, generator=generator)
        low, high = (math.log(factor) for factor in self.scale)
        step = math.exp(-(low + (high - low) * float(chance[0])))  # voxels of the volume for one of the box
        turn = rotation((2 * chance[1:4] - 1) * math.radians(self.turn)) * step
        if self.flip and chance[4] < 0.5:
            turn[:, 2] *= -1
        where = self._places(self._centre(labels, step, chance[5:9], generator), turn, volume.shape[1:])
        fill = torch.tensor(self.fill).view(-1, 1, 1, 1)
        options = {"padding_mode": "zeros", "align_corners": False}
        values = grid_sample((volume.float() - fill)[None], where, mode="bilinear", **options)[0] + fill
        truth = grid_sample((labels.float() - VOID)[None, None], where, mode="nearest", **options)[0] + VOID
        if self.distort:
            values = distorted(values, chance[9:], generator)
        return torch.cat([values, truth])

    def _centre(self, labels: Tensor, step: float, chance: Tensor, generator: Generator) -> Tensor:
        """Where the box's centre lies, in voxels: so that the box is within the volume, or the volume within it."""
        size = torch.tensor([float(side) for side in labels.shape])
        half = torch.tensor([float(side) for side in self.size]) * step / 2
        low, high = torch.minimum(half, size - half), torch.maximum(half, size - half)
        if chance[3] < CENTRED:
            structure = torch.nonzero((labels != self.background) & (labels != VOID))
            if len(structure):
                place = int(torch.randint(0, len(structure), (1,), generator=generator))
                return torch.minimum(torch.maximum(structure[place] + 0.5, low), high)
        return low + (high - low) * chance[:3]

    def _places(self, centre: Tensor, turn: Tensor, size: torch.Size) -> Tensor:
        """For each voxel of the box where it lies in the volume, as `grid_sample` takes it: 1 p q r 3."""
        axes = [torch.arange(float(side)) - (side - 1) / 2 for side in self.size]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        places = offsets @ turn.T + centre
        return (2 * places / torch.tensor(size) - 1).flip(-1)[None]


def at_share(volume: Float[Tensor, "c d h w"], share: float) -> Float[Tensor, "c p q r"]:
    """A volume whose sides are multiplied by `share`."""
    size = tuple(max(1, round(share * side)) for side in volume.shape[1:])
    return volume if size == tuple(volume.shape[1:]) else resized(volume, size)


def rotation(angles: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Around each axis in turn, radians."""
    result = torch.eye(3)
    for axis, angle in enumerate(angles):
        first, second = ((1, 2), (0, 2), (0, 1))[axis]
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = torch.cos(angle)
        turn[first, second], turn[second, first] = -torch.sin(angle), torch.sin(angle)
        result = result @ turn
    return result


def distorted(values: Float[Tensor, "c d h w"], chance: Float[Tensor, "3"], generator: Generator) -> Tensor:
    """Contrast, brightness and gamma, each half of the time."""
    amount = torch.rand(3, generator=generator)
    if chance[0] < 0.5:
        mean = values.mean(dim=(1, 2, 3), keepdim=True)
        values = mean + (values - mean) * (CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * amount[0])
    if chance[1] < 0.5:
        values = values + BRIGHTNESS * (2 * amount[1] - 1)
    values = values.clamp(0, 1)
    if chance[2] < 0.5:
        values = values ** (GAMMA[0] + (GAMMA[1] - GAMMA[0]) * amount[2])
    return values
