"""`unmask audit RUN --on LABELLED --groups labels.csv`: does the model treat groups differently, and did the data?"""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import IndexOptions
from unmask.errors import UserError
from unmask.plain import (
    ImagePlaces,
    NonNegativeInt,
    Place,
    Places,
    WeightsPlace,
    check_fields,
    settle,
    texts,
)

__all__ = ["Audit"]


@dataclass(frozen=True)
class Audit(IndexOptions):
    """Compare groups of images: does the model treat them differently?"""

    run: Positional[WeightsPlace]  # folder of a run or of a classifier, a file of weights, or a timm model
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data, required; its test split is judged
    # a table with a column path and a column for each kind of group, or columns of the data's labels.csv; by default
    # all of the latter with 2 to 20 different values
    groups: Places = ()
    unlabelled: ImagePlaces = ()  # the data that the run learnt from, to count its groups; by default not counted
    out: Place | None = None  # folder for audit.html, audit.json and audit.csv; by default RUN/audit
    seed: NonNegativeInt = 0  # seed of permutations, and of the split where the data has none

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        settle(self, "groups", texts(self.groups))
        settle(self, "unlabelled", texts(self.unlabelled))
        settle(self, "out", None if self.out is None else Path(self.out))
        if not self.on:
            raise UserError("say on which labelled data: unmask audit RUN --on LABELLED --groups labels.csv")
        check_fields(self)
