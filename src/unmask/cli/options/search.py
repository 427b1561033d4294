"""`unmask search RUN DATA --query IMAGE...`: the nearest images; `--duplicates`: copies and near copies."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import ImagePlaces, Place, PositiveInt, PositiveShare, WeightsPlace, check_fields, settle, texts

__all__ = ["Search"]

KINDS = ("pixels", "features")


@dataclass(frozen=True)
class Search(ConfigOption):
    """Find the images nearest to others by an encoder's features, or images that are copies of each other."""

    run: Positional[WeightsPlace]  # folder of a run, or a timm name
    data: Positional[ImagePlaces]  # images to search in: anything that pretrain takes, but streams
    _: KW_ONLY
    query: ImagePlaces = ()  # images to search for, inside or outside the data; files, folders, ...
    duplicates: bool = False  # report groups of copies and near copies in the data, and leaks between its splits
    out: Place | None = None  # folder for results.csv, gallery and duplicates; by default RUN/search
    top: PositiveInt = 12  # images shown and listed for each query
    pooling: str = "mean"  # mean of the patches, cls, or mean4: of the last four layers, concatenated
    standardize: bool = True  # bring every feature to mean 0 and deviation 1 over the data before the cosine
    by: str = "pixels"  # what tells near copies: pixels (16 x 16 colours) or features (of the encoder, less their mean)
    threshold: PositiveShare | None = None  # likeness from which two are near copies, up to 1; by default 0.98
    compare: bool = False  # where images have labels, also ask the same encoder with random weights
    index: Place | None = None  # folder that keeps the features; by default in the run's folder, else in OUT
    batch: PositiveInt = 64  # images at a time
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        settle(self, "query", texts(self.query))
        settle(self, "out", None if self.out is None else Path(self.out))
        if not self.data:
            raise UserError("name the images to search in: unmask search RUN DATA --query IMAGE...")
        if not self.query and not self.duplicates:
            raise UserError("say what to search for: --query IMAGE..., or --duplicates for copies within the data")
        if self.by not in KINDS:
            raise UserError(f"--by {self.by!r} is none of {', '.join(KINDS)}{closest(self.by, KINDS)}")
        check_fields(self)
