"""`unmask evaluate RUN --on LABELLED`: does pretraining help?"""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import (
    Counts,
    ImagePlaces,
    NonNegativeInt,
    Place,
    PositiveInt,
    WeightsPlace,
    WeightsPlaces,
    check_fields,
    numbers,
    settle,
    texts,
)

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate(ConfigOption):
    """Judge an encoder on labelled images, beside the same encoder at random initialisation and raw pixels."""

    run: Positional[WeightsPlace]  # folder of a run, or a timm name
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data: class folders, labels.csv or npz with labels
    against: WeightsPlaces = ()  # further rivals: timm names, loaded with their weights, or run folders
    labels_per_class: Annotated[Counts, Gt(0)] = (1, 5, 10, 50)  # few-label settings, where there are enough
    draws: PositiveInt = 5  # random choices of the labelled images per setting
    most: PositiveInt | None = None  # training images to use at the most, drawn at random
    out: Place | None = None  # folder for evaluation.json and .png; by default the run's
    batch: PositiveInt = 256  # images at a time
    seed: NonNegativeInt = 0  # of draws and of splits where the data has none
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        if not self.on:
            raise UserError("say on which labelled data: unmask evaluate RUN --on LABELLED")
        settle(self, "against", texts(self.against))
        settle(self, "labels_per_class", numbers(self.labels_per_class))
        check_fields(self)
