"""What `--to detect` is called, what it makes, and what it alone takes: as options, and when all is chosen."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from unmask.plain import Exists, OneOf, PartOf, Place, PositiveFloat, PositiveInt, Share, Size, settle, sides
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

    # what is trained: full, or linear (the heads alone); by default full
    protocol: Annotated[str | None, OneOf(PROTOCOLS, "to detect ")] = None
    format: str = "auto"  # how boxes are written: coco, voc or yolo; by default recognised
    # folder of the images, where the boxes do not lead to them; by default it is looked for
    images: Annotated[Place | None, Exists()] = None
    masks: Literal["auto", "on", "off"] = "auto"  # learn masks too; auto: where nearly all objects have one
    # regions marked as crowds (iscrowd 1): ignore, or learn each as one object
    crowds: Literal["ignore", "learn"] = "ignore"
    # pixels of an input: one number, or height and width, turned for upright images; by default chosen from the
    # images
    input_size: Annotated[Size, Interval(gt=0, le=MAX_SIDE)] = None
    # what makes feature maps of several strides: simple, taps or stages; by default chosen for the encoder
    pyramid: Annotated[str | None, PartOf("pyramid")] = None
    width: PositiveInt | None = None  # channels of the pyramid and the heads; by default chosen for the device
    rois: PositiveInt | None = None  # boxes per image that the heads learn from; by default chosen for the device
    # sides of the first boxes in pixels, fine to coarse; by default chosen from the data
    anchors: tuple[PositiveFloat, ...] | None = None
    ratios: tuple[PositiveFloat, ...] | None = None  # height / width of these; by default chosen from the data
    # smallest and largest random factor on an image's size, 1 1 for off; by default chosen from the number of images
    jitter: tuple[PositiveFloat, PositiveFloat] | None = None
    max_bad: Share | None = None  # share of bad images or boxes that may be left out; by default a quarter, or five

    def __post_init__(self):
        if self.input_size is not None:
            settle(self, "input_size", sides("input_size", self.input_size))


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
