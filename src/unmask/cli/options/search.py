"""`unmask search RUN DATA --query IMAGE...`: the nearest images; `--duplicates`: copies and near copies."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import IndexOptions
from unmask.errors import UserError, closest
from unmask.plain import (
    ImagePlaces,
    Names,
    Place,
    PositiveInt,
    PositiveShare,
    Queries,
    WeightsPlace,
    check_fields,
    settle,
    texts,
)

__all__ = ["Search"]

KINDS = ("pixels", "features")


@dataclass(frozen=True)
class Search(IndexOptions):
    """Find similar images, or copies and near copies."""

    run: Positional[WeightsPlace]  # folder of a run, a file of weights, or a timm model
    data: Positional[ImagePlaces]  # images to search in: whatever pretrain takes, streams excepted
    _: KW_ONLY
    # images to search for, from the data or elsewhere; words too ("a red shirt") where the run was trained with
    # captions; required without --duplicates or --recall
    query: Queries = ()
    duplicates: bool = False  # report groups of copies and near copies in the data, and leaks between its splits
    out: Place | None = None  # folder for results.csv, gallery and duplicates; by default RUN/search
    top: PositiveInt = 12  # images shown and listed for each query
    # of encoders that were aligned with images: the parts that are searched, such as sound, by the other parts or by
    # words; by default all but the image
    among: Names = ()
    # of such encoders: how often an image finds what it came with, and the other way round, with the samples of DATA
    recall: bool = False
    # compare raw features; by default each is first brought to mean 0 and standard deviation 1 over the data
    standardize: bool = True
    # what near copies are compared by: pixels (16 x 16 colours) or features (of the encoder, minus their mean)
    by: str = "pixels"
    threshold: PositiveShare | None = None  # likeness, up to 1, from which two images are near copies; by default 0.98
    compare: bool = False  # where images have labels, also search with the same encoder at random weights

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        settle(self, "query", texts(self.query))
        settle(self, "among", texts(self.among))
        settle(self, "out", None if self.out is None else Path(self.out))
        if not self.data:
            raise UserError("name the images to search in: unmask search RUN DATA --query IMAGE...")
        if not self.query and not self.duplicates and not self.recall:
            raise UserError("say what to search for: --query IMAGE..., or --duplicates for copies within the data")
        if self.by not in KINDS:
            raise UserError(f"--by {self.by!r} is none of {', '.join(KINDS)}{closest(self.by, KINDS)}")
        check_fields(self)
