"""The grid: how an input of any dimension is cut into the units that get masked.

A ViT image is a (14, 14) grid of (16, 16)-pixel units; a clip is (8, 14, 14) of (2, 16, 16); a spectrogram, a CT
volume or a 13-band satellite tile are grids too. Everything else in the package talks about units and never about
pixels, frames or voxels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from unmask.errors import UserError


@dataclass(frozen=True)
class Grid:
    shape: tuple[int, ...]  # units along each axis
    unit: tuple[int, ...]  # size of one unit along each axis, in input samples
    parts: tuple["Part", ...] = ()  # of a row of units of several kinds, such as those of an image and of its depth
    space: int = field(default=0, compare=False)  # axes of the units' own places, which differ from sample to sample,
    # where they have such: the first channels of the first value of a unit
    places: Float[Tensor, "b n space"] | None = field(default=None, compare=False, repr=False)  # of some samples

    def __post_init__(self):
        if len(self.shape) != len(self.unit) or min(*self.shape, *self.unit) < 1:
            raise ValueError(f"shape {self.shape} and unit {self.unit} must have as many axes, all of 1 or more")

    @property
    def num_units(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> tuple[int, ...]:
        """What the grid covers, in input samples along each axis."""
        return tuple(n * u for n, u in zip(self.shape, self.unit))

    def covering(self, size: Sequence[int]) -> "Grid":
        """The grid of the same units for another size, in input samples along each axis. Raises UserError, with the
        nearest sizes, for a size that is not a whole number of units."""
        size = tuple(int(side) for side in size)
        if size == self.size:
            return self
        if self.parts:
            raise UserError(f"inputs of the parts {', '.join(part.name for part in self.parts)} have one size")
        if len(size) != len(self.unit):
            raise UserError(f"units of {_text(self.unit)} are for inputs of {len(self.unit)} axes, not {len(size)}")
        if any(side < 1 or side % unit for side, unit in zip(size, self.unit)):
            below = (max(1, side // unit) * unit for side, unit in zip(size, self.unit))
            above = (-(-max(side, 1) // unit) * unit for side, unit in zip(size, self.unit))
            near = " and ".join(dict.fromkeys((_text(below), _text(above))))
            raise UserError(f"{_text(size)} is no whole number of units of {_text(self.unit)}; the nearest: {near}")
        return replace(self, shape=tuple(side // unit for side, unit in zip(size, self.unit)), places=None)

    def of(self, x: Shaped[Tensor, "b c *size"]) -> "Grid":
        """The same grid with the places of these samples, where units have places of their own."""
        if not self.space:
            return self
        first = x[(slice(None), slice(self.space), *(slice(None, None, side) for side in self.unit))]
        return replace(self, places=first.flatten(2).transpose(1, 2).float())

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The first unit of each part, and the one after its last; of a grid without parts, the whole."""
        counts = [part.grid.num_units for part in self.parts] or [self.num_units]
        return list(pairwise(accumulate(counts, initial=0)))

    def part_of(self, device: torch.device | str | None = None) -> Int[Tensor, "n"]:
        """The number of the part that each unit belongs to."""
        lengths = torch.tensor([end - first for first, end in self.spans], device=device)
        return torch.arange(len(lengths), device=device).repeat_interleave(lengths, output_size=self.num_units)

    def cut(self, x: Shaped[Tensor, "b c *size"]) -> Shaped[Tensor, "b n p"]:
        """Cuts an input into flattened units, row-major; p = prod(unit) * c, channel last (MAE's patchify order)."""
        b, c, *size = x.shape
        if tuple(size) != self.size:
            raise ValueError(f"input is {tuple(size)}; this grid, {self.shape} of {self.unit}, covers {self.size}")
        k = len(self.unit)
        x = x.reshape(b, c, *(n for pair in zip(self.shape, self.unit) for n in pair))
        grid_axes, unit_axes = range(2, 2 + 2 * k, 2), range(3, 3 + 2 * k, 2)
        return x.permute(0, *grid_axes, *unit_axes, 1).reshape(b, self.num_units, -1)  # b c h p w q -> b (h w) (p q c)

    def only(self, x: Shaped[Tensor, "b c n"], index: Int[Tensor, "b m"]) -> Shaped[Tensor, "b c k"]:
        """An input of some of its units, in the order of `index`; of one axis."""
        return replace(self, shape=(index.shape[1],), places=None).join(take(self.cut(x), index))

    def join(self, units: Shaped[Tensor, "b n p"]) -> Shaped[Tensor, "b c *size"]:
        """Undoes `cut`."""
        b, k = len(units), len(self.unit)
        x = units.reshape(b, *self.shape, *self.unit, -1)
        order = [0, x.ndim - 1] + [axis for i in range(k) for axis in (1 + i, 1 + k + i)]
        return x.permute(*order).reshape(b, -1, *self.size)  # b h w p q c -> b c (h p) (w q)

    @property
    def plane(self) -> "Grid":
        """The places that units lie at: the grid itself, unless several units lie at one place."""
        return self

    def width(self, channels: int) -> int:
        """Channels that a unit has of an input's."""
        return channels

    def mapped(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d *places"]:
        """Tokens of all units put where they lie; the mean of several at one place."""
        return tokens.transpose(1, 2).unflatten(2, self.shape)

    def spread(self, values: Shaped[Tensor, "b n"]) -> Shaped[Tensor, "b _ *size"]:
        """A value of each unit in all places of it: in one channel, or in each where units differ by channel."""
        return self.join(values[..., None].expand(-1, -1, math.prod(self.unit)))

    def finer(self, side: int) -> "Grid":
        """The grid of the cells of all units, `side` along each axis of a unit; they must go evenly into it."""
        return replace(self, shape=tuple(n * side for n in self.shape), unit=tuple(n // side for n in self.unit))

    def cells(self, index: Int[Tensor, "b m"], side: int) -> Int[Tensor, "b k"]:
        """Where the cells of units lie in `finer(side)`: the units in the order of `index`, cells in reading order."""
        places = torch.arange(self.num_units * side ** len(self.shape), device=index.device)
        split = places.view(*(n for length in self.shape for n in (length, side)))
        axes = range(2 * len(self.shape))
        table = split.permute(*axes[::2], *axes[1::2]).reshape(self.num_units, -1)  # h s w s -> (h w) (s s)
        return table[index].flatten(1)

    def split(self, units: Shaped[Tensor, "b m p"], side: int) -> Shaped[Tensor, "b k q"]:
        """Cuts units, as `cut` gives them, into their cells, each as `finer(side).cut` would give it."""
        k = len(self.unit)
        x = units.unflatten(2, (*(n for length in self.unit for n in (side, length // side)), -1))
        order = (*range(2, 2 + 2 * k, 2), *range(3, 3 + 2 * k, 2))
        return x.permute(0, 1, *order, 2 + 2 * k).flatten(1 + k + 1).flatten(1, 1 + k)

    def merge(self, cells: Shaped[Tensor, "b k q"], side: int) -> Shaped[Tensor, "b m p"]:
        """Undoes `split`."""
        k = len(self.unit)
        x = cells.unflatten(2, (*(length // side for length in self.unit), -1)).unflatten(1, (-1, *(side,) * k))
        order = (axis for i in range(k) for axis in (2 + i, 2 + k + i))
        return x.permute(0, 1, *order, 2 + 2 * k).flatten(2)

    def coordinates(self, device: torch.device | str | None = None) -> Float[Tensor, "n k"]:
        """Position of each unit, in units along each axis; used for distances and position tables."""
        axes = torch.meshgrid(*(torch.arange(float(n), device=device) for n in self.shape), indexing="ij")
        return torch.stack([axis.flatten() for axis in axes], dim=1)


@dataclass(frozen=True)
class Part:
    """Units of one kind among those of others: an input of its own, packed into a row of units with other ones. What a
    unit of its own lacks of the row's is filled up."""

    name: str
    grid: Grid  # of the part alone
    channels: int
    classes: int = 0  # its values are the numbers of so many classes, from 1 on, 0 for none; or 0: any values

    @property
    def num_values(self) -> int:
        """Of a unit."""
        return math.prod(self.grid.unit) * self.channels

    @property
    def num_predicted(self) -> int:
        """Numbers that say what a unit holds: its values, or a score of each class for each."""
        return self.num_values * max(1, self.classes)


def _text(size: Iterable[int]) -> str:
    return " x ".join(map(str, size))


def take(x: Shaped[Tensor, "b n d"], index: Int[Tensor, "b m"]) -> Shaped[Tensor, "b m d"]:
    """Picks units by index, per sample."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))
