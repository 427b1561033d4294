"""Samples of several parts: what a person's files hold, and the row of units that a model sees of it.

Each part is normalised by its own mean and deviation, cut into units on its own grid, and laid into the row after the
part before it. Units have as many values as those of the part with the largest; what others lack is NaN, and so is the
whole of a part that a sample does not have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from unmask.data.modality import Window
from unmask.errors import UserError
from unmask.masking.grid import Grid, Part


@dataclass(frozen=True)
class Joint:
    """A sample: the contents of its parts by name, each as its own kind decodes it, of those that it has."""

    contents: Mapping[str, Any]
    nbytes: int


@dataclass(frozen=True)
class PartAlone:
    """A part of two axes by itself, in its own units, as a network for such data alone sees it."""

    size: tuple[int, ...]
    means: tuple[float, ...]  # per channel
    stds: tuple[float, ...]

    @property
    def channels(self) -> int:
        return len(self.means)

    @property
    def grid(self) -> Grid:
        """Of one unit: all of it."""
        return Grid((1,) * len(self.size), self.size)

    @property
    def mean(self) -> Float[Tensor, "c"]:
        return torch.tensor(self.means, device="cpu")

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        return list(self.means), list(self.stds)


@dataclass(frozen=True)
class Layout:
    """How parts are packed into a row."""

    parts: tuple[Part, ...]
    means: tuple[tuple[float, ...], ...]  # of each part, per channel, in its own units
    stds: tuple[tuple[float, ...], ...]

    @property
    def width(self) -> int:
        """Values of a unit."""
        return max(part.num_values for part in self.parts)

    @property
    def length(self) -> int:
        return self.width * sum(part.grid.num_units for part in self.parts)

    def alone(self, number: int) -> PartAlone:
        return PartAlone(self.parts[number].grid.size, self.means[number], self.stds[number])

    def normalised(self, number: int, x: Shaped[Tensor, "c *size"]) -> Float[Tensor, "c *size"]:
        """Values of a part in its own deviations; numbers of classes stay as they are."""
        mean, std = (torch.tensor(values[number]).view(-1, *(1,) * (x.ndim - 1)) for values in (self.means, self.stds))
        return (x.float() - mean) / std

    def raw(self, number: int, x: Shaped[Tensor, "c *size"]) -> Float[Tensor, "c *size"]:
        """Undoes `normalised`."""
        shape = (-1, *(1,) * (x.ndim - 1))
        mean, std = (torch.tensor(values[number], device=x.device).view(shape) for values in (self.means, self.stds))
        return x.float() * std + mean

    def pack(self, views: Sequence[Shaped[Tensor, "_ *_"] | None]) -> Float[Tensor, "1 length"]:
        """The row of views that are normalised already."""
        device = next((view.device for view in views if view is not None), None)
        rows = []
        for part, view in zip(self.parts, views):
            row = torch.full((part.grid.num_units, self.width), torch.nan, device=device)
            if view is not None:
                row[:, : part.num_values] = part.grid.cut(view[None].float())[0]
            rows.append(row)
        return torch.cat(rows).view(1, -1)

    def unpack(self, x: Shaped[Tensor, "_ length"]) -> list[Shaped[Tensor, "_ *_"]]:
        """The views in a row, of any type; of several channels, the first counts."""
        units, views, first = x[0].view(-1, self.width), [], 0
        for part in self.parts:
            own = units[first : first + part.grid.num_units, : part.num_values]
            views.append(part.grid.join(own[None])[0])
            first += part.grid.num_units
        return views


@dataclass(frozen=True)
class JointWindow:
    """Cuts every part by its own window, all with the same random numbers, so that crops of images lie in one place."""

    layout: Layout
    windows: tuple[Window, ...]

    @property
    def size(self) -> tuple[int, ...]:
        return (self.layout.length,)

    def __call__(self, sample: Joint, generator: Generator | None = None) -> Float[Tensor, "1 length"]:
        """The same sample and generator state give the same view."""
        seed = None if generator is None else int(torch.randint(2**62, (1,), generator=generator))
        views: list[Tensor | None] = []
        for number, (part, window) in enumerate(zip(self.layout.parts, self.windows)):
            content = sample.contents.get(part.name)
            if content is None:
                views.append(None)
                continue
            own: Any = window
            view = own(content) if seed is None else own(content, Generator().manual_seed(seed))
            views.append(self.layout.normalised(number, view))
        return self.layout.pack(views)


@dataclass(frozen=True)
class NoWindow:
    """Stands in for the window of samples of which nothing was looked at yet."""

    size: tuple[int, ...]

    def __call__(self, sample: Joint, generator: Generator | None = None) -> Float[Tensor, "1 length"]:
        raise UserError("the sizes of the parts are chosen once data is opened")


def stacked(images: Sequence[Shaped[Tensor, "_ _ _"]]) -> Shaped[Tensor, "3 h w"]:
    """Images below each other, small ones enlarged by a whole number, filled up with zeros."""
    width = max(image.shape[2] for image in images)
    rows = []
    for image in images:
        image = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
        factor = width // image.shape[2]
        image = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
        page = image.new_zeros(3, image.shape[1], width)
        page[:, :, : image.shape[2]] = image
        rows += [page, image.new_zeros(3, max(1, width // 64), width)]
    return torch.cat(rows[:-1], dim=1)
