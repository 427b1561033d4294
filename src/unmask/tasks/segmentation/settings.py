"""What `--to segment` is called, what it makes, and what it alone takes: as options, and when all is chosen."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from unmask.errors import UserError
from unmask.plain import (
    Exists,
    Names,
    NonNegativeFloat,
    OneOf,
    PartOf,
    Place,
    PositiveFloat,
    PositiveShare,
    Share,
    Size,
    numbers,
    settle,
    texts,
)
from unmask.tasks.training_settings import TaskSettings

__all__ = ["SegmentOptions", "SegmentSettings"]
NAME = "segment"
MODEL = "segmenter"  # what transfer makes
PROTOCOLS = ("full", "linear")
DERIVED = ()


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """A class for every pixel, learnt from images with masks."""

    protocol: Annotated[str | None, OneOf(PROTOCOLS, "to segment ")] = None  # what is trained: full; linear: the head
    head: Annotated[str | None, PartOf("head")] = (
        None  # linear, light or upernet, with options, e.g. upernet(channels=256)
    )
    images: Annotated[Place | None, Exists()] = None  # folder of the images, where masks do not lead to them
    classes: Annotated[Place | None, Exists()] = None  # file that names the classes, where none lies by the masks
    void: Names | None = None  # names or numbers of what is no class; none: every number is one
    crop_size: Annotated[Size, Ge(8)] = None  # pixels of a crop, and of a window when judging: one side, or two
    side: Annotated[int | None, Ge(8)] = None  # pixels that an image's shorter side is resized to first
    scale: tuple[PositiveFloat, PositiveFloat] | None = None  # smallest and largest random factor on that
    class_limit: PositiveShare | None = None  # most that one class may take of a crop; 1: any
    distort: Literal["auto", "on", "off"] = "auto"  # distort brightness, contrast, saturation and hue
    dice: NonNegativeFloat | None = None  # weight of the dice loss beside cross-entropy; 0: off
    balanced: Literal["auto", "on", "off"] = "auto"  # weigh pixels of rare classes more
    max_bad: Share | None = None  # share of bad images that may be left out; by default a quarter, or five

    def __post_init__(self):
        if self.crop_size is not None:
            size = numbers(self.crop_size)
            if len(size) > 2:
                raise UserError(f"--crop-size is one number of pixels, or height and width; got {len(size)} numbers")
            settle(self, "crop_size", tuple(size) * (3 - len(size)))
        if self.void is not None:
            settle(self, "void", texts(self.void))
        if self.scale and self.scale[0] > self.scale[1]:
            raise UserError(f"--scale {self.scale[0]:g} {self.scale[1]:g}: it takes smallest <= largest")


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(TaskSettings):
    """What a segmenter and its batches are made from, when everything has been chosen."""

    head: str
    crop_size: tuple[int, int]  # height, width in pixels
    side: int  # pixels of the shorter side of an image
    scale: tuple[float, float]
    class_limit: float
    distort: str  # on or off
    dice: float
    balanced: str  # on or off
