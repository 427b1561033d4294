"""`unmask ablate DATA`: the MAE paper's table 1, at small scale, on the user's own data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from unmask.cli.shared_options import BaselineOptions
from unmask.plain import (
    Names,
    NonNegativeInt,
    Numbers,
    PartOf,
    Place,
    PositiveFloat,
    PositiveInt,
    numbers,
    settle,
    texts,
)

__all__ = ["Ablate"]


@dataclass(frozen=True, kw_only=True)
class Ablate(BaselineOptions):
    """Rerun the MAE paper's ablations on your data.

    Shows what each choice does to accuracy, and what it costs; --axis does so for any option of pretrain
    """

    out: Place = Path("ablation")  # folder for the study; repeat the command to continue it
    # what to vary: ratio, sampling, depth, width, tokens, target, augmentation, schedule; by default all
    axes: Names = ()
    # any option in place of these, with its values: "mask.ratio=0.5,0.75,0.9" or "target=pixels,ema"; may be repeated
    axis: Names = ()
    # what every pretraining gets as much of as the baseline, where models or sizes differ
    equal: Literal["images", "flops"] = "images"
    # image sizes at which every encoder is judged too, as factors on that of pretraining: 0.5 1.5 2; by default none
    sizes: Annotated[Numbers, Interval(gt=0, le=8)] = ()
    seeds: PositiveInt = 3  # runs of every value, each with its own seed
    test: NonNegativeInt | None = 2000  # number of test images, 0 for all
    # passes of fine-tuning over the labelled images; by default what fits into a third of the time
    finetune_epochs: PositiveFloat | None = None
    # decoder of the baseline, of the kind "full(...)", since its depth and width are varied; by default sized to the
    # encoder
    decoder: Annotated[str | None, PartOf("decoder")] = None

    def __post_init__(self):
        for name in ("axes", "axis"):
            settle(self, name, texts(getattr(self, name)))
        settle(self, "sizes", numbers(self.sizes))
        super().__post_init__()
