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
    settle,
    sides,
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
    """A class for every pixel, voxel of volumes or point of clouds."""

    # what is trained: full, or linear (the head alone); by default full
    protocol: Annotated[str | None, OneOf(PROTOCOLS, "to segment ")] = None
    # linear, light or upernet; of volumes linear or unetr, of clouds linear or pointwise; with options if you like:
    # "upernet(channels=256)"; by default chosen for the encoder
    head: Annotated[str | None, PartOf("head")] = None
    # folder of the images, where the masks do not lead to them; by default it is looked for
    images: Annotated[Place | None, Exists()] = None
    # file that names the classes; by default one that lies by the masks
    classes: Annotated[Place | None, Exists()] = None
    # names or numbers that are no class, or none if every number is one; by default what the masks' format says
    void: Names | None = None
    # pixels of a crop, and of a window in tests: one number, or height and width (of volumes also depth, height and
    # width, of clouds the points of all groups); by default the encoder's size
    crop_size: Annotated[Size, Ge(8)] = None
    # pixels that an image's shorter side (or that of the median volume) is resized to first; by default chosen from the
    # data
    side: Annotated[int | None, Ge(8)] = None
    # smallest and largest random factor on that size; by default 0.5 2, and 0.8 1.25 for volumes
    scale: tuple[PositiveFloat, PositiveFloat] | None = None
    # largest share of a crop that one class may take, 1 for no limit; by default 0.75
    class_limit: PositiveShare | None = None
    # distort brightness, contrast, saturation and hue; auto: for 8-bit images
    distort: Literal["auto", "on", "off"] = "auto"
    # weight of the Dice loss beside cross-entropy; by default 0, which is off, and 1 for volumes
    dice: NonNegativeFloat | None = None
    balanced: Literal["auto", "on", "off"] = "auto"  # give rare classes more weight; auto: off
    max_bad: Share | None = None  # share of bad images that may be left out; by default a quarter, or five images

    def __post_init__(self):
        if self.crop_size is not None:
            settle(self, "crop_size", sides("crop_size", self.crop_size, most=3))
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
