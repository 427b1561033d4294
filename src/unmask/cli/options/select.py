"""`unmask select RUN DATA --on LABELLED --most 50`: which images to label next."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from unmask.cli.shared_options import IndexOptions
from unmask.errors import UserError
from unmask.plain import (
    ImagePlaces,
    NonNegativeInt,
    Place,
    PositiveInt,
    PositiveShare,
    WeightsPlace,
    check_fields,
    settle,
    texts,
)

__all__ = ["Select"]


@dataclass(frozen=True)
class Select(IndexOptions):
    """Choose the images to label next: diverse and uncertain ones."""

    run: Positional[WeightsPlace]  # folder of a run or of a classifier, a file of weights, or a timm model
    data: Positional[ImagePlaces]  # images to choose from: whatever pretrain takes, streams excepted
    _: KW_ONLY
    on: ImagePlaces = ()  # what is labelled already: class folders, labels.csv, or npz; required unless --by diverse
    most: PositiveInt = 50  # number of images to choose
    # how to choose: mix, diverse (far from what is labelled or chosen), or uncertain (where the classifier's first two
    # classes are close)
    by: Literal["mix", "diverse", "uncertain"] = "mix"
    # likeness, up to 1, from which two images are near copies, of which one is labelled; by default 0.98
    threshold: PositiveShare | None = None
    out: Place | None = None  # folder for select.csv, the gallery and select.json; by default RUN/select
    seed: NonNegativeInt = 0  # seed of what is drawn

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        settle(self, "on", texts(self.on))
        settle(self, "out", None if self.out is None else Path(self.out))
        if not self.data:
            raise UserError("name the images to choose from: unmask select RUN DATA --on LABELLED")
        check_fields(self)
        if not self.on and self.by != "diverse":
            raise UserError(
                "say what is labelled already: unmask select RUN DATA --on LABELLED; --by diverse needs nothing"
            )
