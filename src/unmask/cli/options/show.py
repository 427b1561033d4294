"""`unmask show RUN IMAGE...`: draw what a run rebuilds, what its features tell apart, or where its encoder looks."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from annotated_types import Ge, Interval
from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import (
    ImagePlaces,
    Names,
    NonNegativeInt,
    Numbers,
    PartOf,
    Place,
    PositiveInt,
    WeightsPlace,
    check_fields,
    numbers,
    settle,
    texts,
)

__all__ = ["Show"]

KINDS = ("rebuild", "features", "attention")


@dataclass(frozen=True)
class Show(ConfigOption):
    """Draw what a run rebuilds from what it sees; or its patch features as colours; or its attention as maps."""

    run: Positional[WeightsPlace]  # folder of a run; for features and attention also a timm name or weights
    images: Positional[ImagePlaces] = ()  # images, or anything that pretrain takes as data
    _: KW_ONLY
    what: str = "rebuild"  # rebuild, features (first three principal components as colours) or attention
    out: Place | None = None  # image to write; by default panel.png, features.png or attention.png in RUN/show
    ratio: Annotated[Numbers, Interval(gt=0, lt=1)] = ()  # of rebuild: shares to hide, a row each; by default the run's
    mask: Annotated[Names, PartOf("mask")] = ()  # of rebuild: masks, one row each per image; by default the run's
    most: PositiveInt = 8  # images at the most
    seed: NonNegativeInt = 0  # of the masks
    true_statistics: bool = True  # add a column that uses each hidden unit's true mean and deviation, marked as such
    block: int = -1  # of features and attention: which block (stage of a Hiera), from 0, or from -1 backwards
    size: Annotated[int, Ge(2)] | None = None  # of features and attention: pixels of the shorter side
    background: bool = True  # of features: False takes the background off, told by the first component
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "images", texts(self.images))
        settle(self, "mask", texts(self.mask))
        settle(self, "ratio", numbers(self.ratio))
        if not self.images:
            raise UserError("name at least one image: unmask show RUN IMAGE...")
        if self.what not in KINDS:
            raise UserError(f"--what {self.what!r} is none of {', '.join(KINDS)}{closest(self.what, KINDS)}")
        if self.what != "rebuild" and (self.ratio or self.mask):
            raise UserError(f"--ratio and --mask are of --what rebuild; for {self.what} nothing is hidden")
        if self.what == "rebuild" and (self.size is not None or self.block != -1):
            raise UserError("--size and --block are of --what features and --what attention")
        if self.what != "features" and not self.background:
            raise UserError("--no-background is of --what features")
        check_fields(self)
