"""What `--to classify` is called, what it makes, and what it alone takes: as options, and when all is chosen."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unmask.plain import BelowOne, Few, NonNegativeFloat, OneOf, PositiveFloat, PositiveShare, Share
from unmask.tasks.training_settings import TaskSettings

__all__ = ["ClassifyOptions", "ClassifySettings"]
NAME = "classify"
MODEL = "classifier"  # what transfer makes
PROTOCOLS = ("full", "partial", "linear", "attentive")
DERIVED = ("norm",)  # a setting in config.json that follows from others


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """A class, or several, for each image."""

    # what is trained: full, partial (last blocks), linear or attentive (head alone); by default full
    protocol: Annotated[str | None, OneOf(PROTOCOLS)] = None
    # partial: how many of the last blocks are trained, 0.5 for the last MLP; by default 1
    blocks: PositiveFloat | None = None
    pooling: str | None = None  # what the head sees: mean, cls or attentive; by default chosen for the protocol
    ema: BelowOne | None = None  # decay of a moving average of the weights, kept as the result; by default none
    smoothing: BelowOne | None = None  # label smoothing; by default chosen for the protocol
    # strength with which images are mixed, 0 for off; by default chosen for the protocol
    mixup: NonNegativeFloat | None = None
    # strength with which rectangles of other images are pasted in, 0 for off; by default chosen for the protocol
    cutmix: NonNegativeFloat | None = None
    randaug: str | None = None  # RandAugment in timm's notation, or off; by default chosen for the protocol
    erase: Share | None = None  # chance that a rectangle of an image becomes noise; by default chosen for the protocol
    # smallest share of an image's area that a random crop covers; by default chosen for the protocol
    crop: PositiveShare | None = None
    eval_crop: PositiveShare | None = None  # share of an image's short side that is seen in tests; by default 0.875
    # clips of a video at even steps in time that are judged together in tests, their logits averaged; by default as
    # many as cover the median video, at most 5
    clips: Few | None = None
    balanced: Literal["auto", "on", "off"] = "auto"  # draw every class equally often; auto: off
    max_bad: Share = 0.05  # share of unreadable files above which training does not start


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(TaskSettings):
    """What fine-tuning a classifier needs, when everything has been chosen."""

    pooling: str
    norm: str  # between pooling and head: layer, batch or none
    smoothing: float
    mixup: float
    cutmix: float
    randaug: str
    erase: float
    crop: float
    balanced: str  # on or off
    blocks: float | None = None
    ema: float | None = None
    eval_crop: float = 1.0
    clips: int = 1
