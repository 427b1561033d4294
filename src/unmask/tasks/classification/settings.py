"""What `--to classify` is called, what it makes, and what it alone takes as options."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unmask.plain import BelowOne, NotNegative, OneOf, Positive, PositiveShare, Share

__all__ = ["ClassifyOptions"]
NAME = "classify"
MODEL = "classifier"  # what transfer makes
PROTOCOLS = ("full", "partial", "linear", "attentive")
DERIVED = ("norm",)  # a setting in config.json that follows from others


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """A class, or several, for each image."""

    protocol: Annotated[str | None, OneOf(PROTOCOLS)] = None  # full, partial (last blocks), linear or attentive (head)
    blocks: Annotated[float | None, Positive] = None  # of partial: how many of the last blocks; 0.5: the last MLP
    pooling: str | None = None  # mean, cls or attentive
    ema: Annotated[float | None, BelowOne] = None  # decay of a moving average of weights that is kept as the result
    smoothing: Annotated[float | None, BelowOne] = None  # of labels
    mixup: Annotated[float | None, NotNegative] = None  # mixes images; 0: off
    cutmix: Annotated[float | None, NotNegative] = None  # pastes rectangles of other images; 0: off
    randaug: str | None = None  # RandAugment as timm writes it, or off
    erase: Annotated[float | None, Share] = None  # chance that a rectangle of an image becomes noise
    crop: Annotated[float | None, PositiveShare] = None  # least share of an image's area that a random crop takes
    eval_crop: Annotated[float | None, PositiveShare] = None  # share of an image's short side seen when judging: 0.875
    balanced: Literal["auto", "on", "off"] = "auto"  # draw every class equally often
    max_bad: Annotated[float, Share] = 0.05  # share of the files that may be left out as bad
