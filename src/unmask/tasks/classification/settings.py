"""What `--to classify` is called, what it makes, and what it alone takes: as options, and when all is chosen."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unmask.plain import BelowOne, NonNegativeFloat, OneOf, PositiveFloat, PositiveShare, Share
from unmask.tasks.training_settings import TaskSettings

__all__ = ["ClassifyOptions", "ClassifySettings"]
NAME = "classify"
MODEL = "classifier"  # what transfer makes
PROTOCOLS = ("full", "partial", "linear", "attentive")
DERIVED = ("norm",)  # a setting in config.json that follows from others


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """A class, or several, for each image."""

    protocol: Annotated[str | None, OneOf(PROTOCOLS)] = None  # full, partial (last blocks), linear or attentive (head)
    blocks: PositiveFloat | None = None  # of partial: how many of the last blocks; 0.5: the last MLP
    pooling: str | None = None  # mean, cls or attentive
    ema: BelowOne | None = None  # decay of a moving average of weights that is kept as the result
    smoothing: BelowOne | None = None  # of labels
    mixup: NonNegativeFloat | None = None  # mixes images; 0: off
    cutmix: NonNegativeFloat | None = None  # pastes rectangles of other images; 0: off
    randaug: str | None = None  # RandAugment as timm writes it, or off
    erase: Share | None = None  # chance that a rectangle of an image becomes noise
    crop: PositiveShare | None = None  # least share of an image's area that a random crop takes
    eval_crop: PositiveShare | None = None  # share of an image's short side seen when judging: 0.875
    balanced: Literal["auto", "on", "off"] = "auto"  # draw every class equally often
    max_bad: Share = 0.05  # share of the files that may be left out as bad


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
