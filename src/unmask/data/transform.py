"""The contract of transforms: an image in, the views that a method trains on out.

A part in `transforms/` is a recipe: a list of `View`s. Methods name the parts that they need (`Objective.views`), and
every loader makes exactly these: one sample at a time, or whole batches on the device.
"""

import inspect
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor

from unmask.data.modality import Modality, Window
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop, WholeImage, resized
from unmask.errors import UserError
from unmask.registry import build, find, parse


@dataclass(frozen=True)
class View:
    """One crop of an image, mirrored and recoloured by chance, at one or several sizes."""

    window: Window
    colours: Colours = Colours()
    also: tuple[tuple[int, int], ...] = ()  # of images: further sizes of the same crop, none larger than the first

    def __post_init__(self):
        for size in self.also:
            if size[0] > self.window.size[0] or size[1] > self.window.size[1]:
                raise UserError(f"a second size of a view must not exceed the first, {self.window.size}; got {size}")

    def __call__(self, image: Any, generator: Generator) -> list[Tensor]:
        """The same sample and generator state give the same views, one per size."""
        return self.finished(self.window(image, generator), generator)

    def finished(self, crop: Shaped[Tensor, "c *size"], generator: Generator) -> list[Tensor]:
        """The crop, recoloured, at each size."""
        view = self.colours(crop, generator) if self.colours else crop
        return [view, *(resized(view, size) for size in self.also)]

    @property
    def chancy(self) -> bool:
        """True if finishing a crop draws random numbers."""
        return bool(self.colours)

    @property
    def variants(self) -> int | None:
        """Different views that there can be of an image; None if chance makes countless ones."""
        return None if self.chancy or not isinstance(self.window, WholeImage) else 1 + self.window.flip

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        return [self.window.size, *self.also]


@dataclass(frozen=True)
class Shifted(View):
    """Two views of one crop that is a few pixels larger: its corner, and a part that is moved by chance, recoloured."""

    shift: int = 0  # pixels by which the crop is larger than the views

    def finished(self, crop: Shaped[Tensor, "c p q"], generator: Generator) -> list[Tensor]:
        height, width = self.sizes[0]
        down, right = torch.randint(0, self.shift + 1, (2,), generator=generator).tolist()
        moved = crop[..., down : down + height, right : right + width].contiguous()
        return [crop[..., :height, :width].contiguous(), self.colours(moved, generator)]

    @property
    def chancy(self) -> bool:
        return True

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        height, width = self.window.size
        return [(height - self.shift, width - self.shift)] * 2


class Transform:
    """Parts in `transforms/` pass their views to `__init__`. They are given, as far as they have parameters for it:
    size (height, width in pixels; other sides for other data), modality, channels, patch (pixels), crop (smallest share
    of the area that a random crop takes), crop_kind ("random", "fixed", "whole"), flip (bool) and resize ("exact" or
    "fast")."""

    def __init__(self, *views: View, notes: tuple[str, ...] = ()):
        """notes: what is left out or replaced for such images, as sentences for the user."""
        self.views, self.notes = views, notes

    def __call__(self, image: Any, generator: Generator) -> list[Tensor]:
        """All views of a sample, one after the other from one generator."""
        return [made for view in self.views for made in view(image, generator)]

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """The sides, such as height and width, of each tensor that a call returns."""
        return [size for view in self.views for size in view.sizes]

    @property
    def variants(self) -> int | None:
        """Different views that there can be of an image, all together; None if chance makes countless ones."""
        counts = [view.variants for view in self.views]
        return None if None in counts else sum(count for count in counts if count)

    @property
    def resize(self) -> str:
        """How crops are resized: "fast" if any by OpenCV."""
        return "fast" if any(getattr(v.window, "resize", "exact") == "fast" for v in self.views) else "exact"

    @property
    def batched(self) -> bool:
        """True if crops can be cut for whole batches at once."""
        return all(isinstance(view.window, RandomCrop | FixedCrop) for view in self.views)


def make_transform(texts: tuple[str, ...], **context: object) -> Transform:
    """All views that the registry texts name, in order. context: see `Transform`; what a text gives, wins."""
    parts: list[Transform] = []
    modality = context.get("modality")
    for text in texts:
        name, given = parse(text)
        if isinstance(modality, Modality) and not modality.colour and "modality" not in takes(name):
            raise UserError(f"the views {text} are made of images; of {modality.word}s there are crops")
        parts.append(build("transform", text, **{key: value for key, value in context.items() if key not in given}))
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Transform(*(view for part in parts for view in part.views), notes=tuple(notes))


def takes(name: str) -> Collection[str]:
    """Names of a transform's parameters."""
    return inspect.signature(find("transform", name)).parameters


def notes_on(colours: Colours, channels: int, size: tuple[int, ...]) -> tuple[str, ...]:
    """What of these changes is left out for such images, as a sentence."""
    lost = colours.lost(channels, min(size))
    channel = [name for name in lost if name != "blur"]
    notes = [f"{', '.join(channel)}: left out, images of {channels} channels have no colours"] if channel else []
    return (*notes, f"blur: left out for views of {min(size)} pixels") if "blur" in lost else tuple(notes)


def smaller(size: tuple[int, int], share: float, patch: int) -> tuple[int, int]:
    """A share of a size, in whole patches, at least two of them along a side that has two."""
    height, width = (min(side, max(2 * patch, patch * math.floor(share * side / patch + 0.5))) for side in size)
    return height, width
