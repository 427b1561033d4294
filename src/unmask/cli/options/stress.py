"""`unmask stress CLASSIFIER --on DATA`: how much does a classifier lose on damaged images?"""

from dataclasses import KW_ONLY, dataclass

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import (
    Batch,
    Counts,
    ImagePlaces,
    Names,
    NonNegativeInt,
    Place,
    PositiveInt,
    WeightsPlace,
    check_fields,
    numbers,
    require,
    settle,
    texts,
)

__all__ = ["StressTest"]


@dataclass(frozen=True)
class StressTest(ConfigOption):
    """Test a classifier on corrupted images.

    The corruptions are those of ImageNet-C; audit compares groups of images, under corruption too.
    """

    run: Positional[WeightsPlace]  # folder of a classifier, as transfer writes it
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data, required; its test split is used
    corruptions: Names = ()  # corruptions to apply, e.g. fog snow; by default all fifteen
    severities: Counts = (1, 2, 3, 4, 5)  # how strong, 1 to 5
    most: PositiveInt | None = 1000  # number of test images to use, drawn at random
    out: Place | None = None  # folder for stress.json and images; by default the classifier's
    batch: Batch = 64  # images at a time
    seed: NonNegativeInt = 0  # seed of the corruptions, and of the draw of images
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        if not self.on:
            raise UserError("say on which labelled data: unmask stress CLASSIFIER --on DATA")
        settle(self, "corruptions", texts(self.corruptions))
        settle(self, "severities", tuple(sorted(set(numbers(self.severities)))))
        if not self.severities:
            raise UserError("give a severity or more, 1 (least) to 5")
        for severity in numbers(self.severities):
            require(severity, "--severities", lambda v: v in (1, 2, 3, 4, 5), "1 (least) to 5")
        check_fields(self)
