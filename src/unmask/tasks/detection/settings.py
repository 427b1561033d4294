"""What `--to detect` is called, what it makes, and what it alone takes: as options, and when all is chosen."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from unmask.errors import UserError
from unmask.plain import Exists, OneOf, PartOf, Place, PositiveFloat, PositiveInt, Share, Size, numbers, settle
from unmask.tasks.training_settings import TaskSettings

__all__ = ["DetectOptions", "DetectSettings"]
NAME = "detect"
MODEL = "detector"  # what transfer makes
PROTOCOLS = ("full", "linear")
DERIVED = ("standardize",)
MAX_SIDE = 8192  # along a side of an input: more fits into no memory


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Boxes around objects, and their masks where the data has some."""

    protocol: Annotated[str | None, OneOf(PROTOCOLS, "to detect ")] = None  # what is trained: full; linear: the heads
    format: str = "auto"  # of boxes: coco, voc, yolo, or auto: what lies there
    images: Annotated[Place | None, Exists()] = None  # folder of the images, where boxes do not lead to them
    masks: Literal["auto", "on", "off"] = "auto"  # learn masks too; auto: where nearly all objects have one
    input_size: Annotated[Size, Interval(gt=0, le=MAX_SIDE)] = None  # pixels: one side or two; upright images turn it
    pyramid: Annotated[str | None, PartOf("pyramid")] = (
        None  # what makes maps of several strides: simple, taps or stages
    )
    width: PositiveInt | None = None  # channels of the pyramid and the heads
    rois: PositiveInt | None = None  # boxes per image that the heads learn from
    anchors: tuple[PositiveFloat, ...] | None = None  # sides of first boxes in pixels, fine to coarse
    ratios: tuple[PositiveFloat, ...] | None = None  # height / width of these
    jitter: tuple[PositiveFloat, PositiveFloat] | None = None  # random factors on an image's size; 1 1: off
    max_bad: Share | None = None  # share of bad images or boxes that may be left out; by default a quarter, or five

    def __post_init__(self):
        if self.input_size is not None:
            size = numbers(self.input_size)
            settle(self, "input_size", size)
            if len(size) not in (1, 2):
                raise UserError(f"--input-size takes one side, or height and width; got {len(size)} numbers")


@dataclass(frozen=True, kw_only=True)
class DetectSettings(TaskSettings):
    """What a detector and its batches are made from, when everything has been chosen."""

    input_size: tuple[int, int]  # height, width in pixels
    jitter: tuple[float, float]
    anchors: tuple[float, ...]
    ratios: tuple[float, ...]
    width: int
    rois: int
    pyramid: str
    masks: str  # on or off
    standardize: bool
