"""`unmask tune DATA --on LABELLED --axes ratio target --hours 2`: which settings suit these images?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from unmask.cli.shared_options import BaselineOptions
from unmask.errors import UserError
from unmask.plain import (
    Names,
    NonNegativeInt,
    PartOf,
    Place,
    PositiveInt,
    settle,
    texts,
)

__all__ = ["Tune"]


@dataclass(frozen=True, kw_only=True)
class Tune(BaselineOptions):
    """Find the mask ratio, and what else you ask for, that suits your data.

    Short runs, the better half of them longer, the best with several seeds; judged on validation images.
    """

    out: Place = Path("tuning")  # folder for the study; repeat the command to continue it
    # what to tune, one after the other: ratio, target, patch_size, crop, decoder, depth, image_size, lr,
    # views_per_image; or any option with its values, "mask.ratio=0.6,0.75,0.9"
    axes: Names = ("ratio",)
    seeds: PositiveInt = 3  # runs of every value in the last round, each with its own seed
    evaluators: Annotated[Names, PartOf("evaluator")] = ("linear",)  # judge of frozen features: linear or knn
    labels: NonNegativeInt | None = 2000  # number of labelled images to judge with, 0 for all
    # of the baseline; by default what the method prefers
    method: Annotated[str, PartOf("method")] = "mae"
    mask: Annotated[str | None, PartOf("mask")] = None  # of the baseline; by default what the method prefers
    target: Annotated[str | None, PartOf("target")] = None  # of the baseline; by default what the method prefers
    decoder: Annotated[str | None, PartOf("decoder")] = None  # of the baseline; by default sized to the encoder

    def __post_init__(self):
        for name in ("axes", "evaluators"):
            settle(self, name, texts(getattr(self, name)))
        if len(self.evaluators) != 1:
            raise UserError(
                f"--evaluators: tune has one judge, linear or knn; got {', '.join(self.evaluators) or 'none'}"
            )
        super().__post_init__()
