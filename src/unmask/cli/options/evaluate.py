"""`unmask evaluate RUN --on LABELLED`: does pretraining help?"""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import ATTENTIVE, JUDGES, EncoderOptions, require_judges
from unmask.errors import UserError
from unmask.plain import (
    Batch,
    Counts,
    Few,
    ImagePlaces,
    Names,
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
class Evaluate(EncoderOptions):
    """Judge an encoder on labelled images, beside baselines.

    Baselines are the same encoder at random initialisation and raw pixels.
    """

    run: Positional[WeightsPlace]  # folder of a run, a file of weights, or a timm model
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data, required: class folders, labels.csv, or npz with labels
    # further encoders to compare with: timm models with their weights, or runs; by default none
    against: WeightsPlaces = ()
    # numbers of labels per class to try; those that the data does not have are left out
    labels_per_class: Annotated[Counts, Gt(0)] = (1, 5, 10, 50)
    # how features are judged: knn, linear, or evaluators of your own; attentive: which pooling could be learnt besides
    evaluators: Names = JUDGES
    # sentences with {} for the name of a class, for encoders that were trained with captions: each image is also judged
    # by words alone
    templates: Names = ("{}", "a photo of a {}")
    draws: Few = 5  # random choices of the labelled images for each of these numbers
    # clips of a video at even steps in time whose features are averaged; by default as many as cover the median video,
    # at most 5
    clips: Few | None = None
    most: PositiveInt | None = None  # number of training images to use, drawn at random; by default all
    out: Place | None = None  # folder for evaluation.json and evaluation.png; by default the run's
    batch: Batch = 256  # images at a time
    seed: NonNegativeInt = 0  # seed of the draws, and of splits where the data has none
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        if not self.on:
            raise UserError("say on which labelled data: unmask evaluate RUN --on LABELLED")
        settle(self, "against", texts(self.against))
        settle(self, "evaluators", tuple(dict.fromkeys(texts(self.evaluators))))
        require_judges(texts(self.evaluators))
        if set(self.evaluators) <= {ATTENTIVE}:
            raise UserError("--evaluators: give knn, linear or both, with or without attentive beside them")
        settle(self, "templates", texts(self.templates))
        if strange := next((text for text in self.templates if "{}" not in text), None if self.templates else ""):
            raise UserError(f'--templates {strange!r} has no {{}} for the name of a class; e.g. "a photo of a {{}}"')
        settle(self, "labels_per_class", numbers(self.labels_per_class))
        check_fields(self)
