"""`unmask show RUN IMAGE...`: draw what a run rebuilds, what its features tell apart, where its encoder looks, or what
masks hide."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from annotated_types import Ge, Interval
from tyro.conf import Positional

from unmask.cli.shared_options import EncoderOptions, reading_of
from unmask.errors import UserError, closest
from unmask.plain import (
    ImagePlaces,
    Names,
    NonNegativeInt,
    Numbers,
    PartOf,
    Place,
    PositiveInt,
    Share,
    Weights,
    check_fields,
    numbers,
    settle,
    texts,
)

__all__ = ["Show"]

KINDS = ("rebuild", "features", "attention", "masks")


@dataclass(frozen=True)
class Show(EncoderOptions):
    """Draw reconstructions, patch features as colours, attention maps, or masks."""

    # folder of a run; for features, attention and masks also a file of weights or a timm model; for masks images alone
    run: Positional[Annotated[Place, Weights(or_images=True)]]
    images: Positional[ImagePlaces] = ()  # images: whatever pretrain takes
    _: KW_ONLY
    what: str = "rebuild"  # rebuild, features (first three principal components as colours), attention or masks
    out: Place | None = None  # image to write; by default panel.png, features.png, ... in RUN/show
    # rebuild, masks: shares of patches to hide, a row or column for each; by default the run's
    ratio: Annotated[Numbers, Interval(gt=0, lt=1)] = ()
    mask: Annotated[Names, PartOf("mask")] = ()  # rebuild, masks: a row or column for each; by default the run's
    progress: Share = 1.0  # rebuild, masks: share of a training behind, for masks that change over it
    most: PositiveInt = 8  # number of images to draw
    seed: NonNegativeInt = 0  # seed of the masks
    true_statistics: bool = True  # rebuild: leave out the column that uses each hidden patch's true mean and deviation
    block: int = -1  # features, attention: which block (for Hiera, which stage), from 0, or from -1 backwards
    # pixels of the shorter side; by default the model's size. rebuild: in tiles of that size, each masked by itself
    size: Annotated[int, Ge(2)] | None = None
    background: bool = True  # features: leave out the background, which the first component tells apart
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "images", texts(self.images))
        settle(self, "mask", texts(self.mask))
        settle(self, "ratio", numbers(self.ratio))
        if not self.images and self.what == "masks":
            settle(self, "images", texts(self.run))  # drawn without a model
        if not self.images:
            raise UserError("name at least one image: unmask show RUN IMAGE...")
        if self.what not in KINDS:
            raise UserError(f"--what {self.what!r} is none of {', '.join(KINDS)}{closest(self.what, KINDS)}")
        hides = self.what in ("rebuild", "masks")
        if not hides and (self.ratio or self.mask or self.progress != 1.0):
            raise UserError(
                f"--ratio, --mask and --progress are of --what rebuild and --what masks; for {self.what} nothing is"
                " hidden"
            )
        if hides and self.block != -1:
            raise UserError("--block is of --what features and --what attention")
        if self.what == "masks" and self.size is not None:
            raise UserError("--size is of --what rebuild, features and attention")
        if self.what == "rebuild" and (given := reading_of(self)):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UserError(f"{flags}: of --what features and --what attention; a decoder rebuilds what it was made on")
        if self.what != "features" and not self.background:
            raise UserError("--no-background is of --what features")
        check_fields(self)
