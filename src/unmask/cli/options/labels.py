"""`unmask labels RUN --on DATA`: how many labels does pretraining save?"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval
from tyro.conf import Positional, arg

from unmask.cli.shared_options import EncoderOptions
from unmask.errors import UserError, closest
from unmask.plain import (
    Few,
    ImagePlaces,
    Names,
    NonNegativeInt,
    Numbers,
    Place,
    PositiveFloat,
    PositiveInt,
    Share,
    Size,
    WeightsPlace,
    WeightsPlaces,
    check_fields,
    numbers,
    require,
    settle,
    sides,
    texts,
)

__all__ = ["Labels"]

PROTOCOLS = ("knn", "linear", "attentive", "full")
USUAL = ("knn", "linear", "full")
DENSE_OPTIONS = ("head", "images", "classes", "void", "max_bad", "crop_size", "side")  # of segment alone
DENSE, DENSE_FRACTIONS = ("full", "linear"), (0.05, 0.1, 0.25, 0.5)  # of segment
ALL = "all"
Sizes = Annotated[int | str | Sequence[int | str], arg(constructor=tuple[str, ...])]


@dataclass(frozen=True)
class Labels(EncoderOptions):
    """Draw accuracy against the number of labels: is pretraining worth it?

    Compared are this run, the same network from scratch and at random weights, and others.
    """

    run: Positional[WeightsPlace]  # folder of a run, a file of weights, or a timm model
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data, required: class folders, labels.csv, or npz with labels
    to: str = "classify"  # the task: classify, or segment, where shares of the images are drawn
    # numbers of labels per class to try; those that some class does not have are left out
    labels_per_class: Sizes = ("1", "2", "5", "10", "25", "50", "100", ALL)
    # shares of the training images to try besides, e.g. 0.01 0.1; by default none, or 0.05 to 0.5 for segment
    fractions: Annotated[Numbers, Interval(gt=0, lt=1)] = ()
    # how to learn from them: knn, linear, attentive (frozen encoder), full (fine-tuning); for segment full and linear
    protocols: Names = USUAL
    # further encoders to compare with: timm models with their weights, or runs; by default none
    against: WeightsPlaces = ()
    draws: Few = 3  # random choices of the labelled images for each number, the same for every competitor
    epochs: PositiveFloat | None = None  # passes of every fine-tuning; by default more, the fewer the labels
    most: PositiveInt | None = None  # number of training images to choose from; by default all
    most_test: PositiveInt | None = None  # number of test images, drawn at random; by default all
    jobs: PositiveInt | None = None  # trainings side by side; by default as many as cores and memory allow
    # segment: linear, light or upernet, of volumes linear or unetr, of clouds linear or pointwise; by default chosen
    # for the encoder
    head: str | None = None
    # segment: folder of the images, where they do not lie beside the masks; by default it is looked for
    images: Place | None = None
    classes: Place | None = None  # segment: file that names the classes; by default one that lies by the masks
    # segment: names or numbers that are no class, or none if every number is one; by default what the masks' format
    # says
    void: Names | None = None
    # segment: share of bad images that may be left out; by default a quarter, or five images
    max_bad: Share | None = None
    # segment: pixels of crops and windows: one number, or height and width (of volumes depth, height and width; of
    # clouds the points of all groups); by default the encoder's size
    crop_size: Size = None
    # segment: pixels that an image's shorter side (or that of the median volume) is resized to first; by default chosen
    side: int | None = None
    out: Place | None = None  # folder for labels.json and labels.png; by default the run's
    seed: NonNegativeInt = 0  # seed of draws, of trainings, and of splits where the data has none
    precision: str = "auto"  # number format of training: bf16 or 32; by default bf16 where the hardware gains from it
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        if not self.on:
            raise UserError("say on which labelled data: unmask labels RUN --on LABELLED")
        settle(self, "against", texts(self.against))
        settle(self, "protocols", texts(self.protocols))
        settle(self, "fractions", tuple(float(f) for f in numbers(self.fractions)))
        given = self.labels_per_class
        sizes = (given,) if isinstance(given, int | str) else tuple(given)
        settle(self, "labels_per_class", tuple(ALL if str(size) == ALL else _number(size) for size in sizes))
        self._settle_task()
        if not self.protocols:
            raise UserError(f"give a protocol or more: {', '.join(PROTOCOLS)}")
        if not self.labels_per_class and not self.fractions:
            raise UserError("give --labels-per-class or --fractions: how many labels to draw")
        for name in texts(self.protocols):
            if name not in PROTOCOLS:
                raise UserError(
                    f"--protocols {name}: none of these{closest(name, PROTOCOLS)} There are: {', '.join(PROTOCOLS)}"
                )
        check_fields(self)
        if self.out is not None:
            settle(self, "out", Path(self.out))

    def _settle_task(self) -> None:
        if self.to not in ("classify", "segment"):
            raise UserError(f"--to {self.to}: label curves are drawn for classify and segment")
        dense = [name for name in DENSE_OPTIONS if getattr(self, name) is not None]
        if self.to == "classify":
            if dense:
                raise UserError(f"--{dense[0].replace('_', '-')} is for --to segment; take it out")
            return
        if self.protocols == USUAL:
            settle(self, "protocols", DENSE)
        for name in texts(self.protocols):
            if name not in DENSE:
                raise UserError(f"--protocols {name} is not for --to segment; there are: {', '.join(DENSE)}")
        if not self.fractions:
            settle(self, "fractions", DENSE_FRACTIONS)
        if self.against or self.most_test is not None:
            raise UserError("--against and --most-test are for --to classify")
        if self.void is not None:
            settle(self, "void", texts(self.void))
        if self.crop_size is not None:
            settle(self, "crop_size", sides("crop_size", self.crop_size, most=3))


def _number(size: int | str) -> int:
    try:
        number = int(size)
    except ValueError:
        raise UserError(f"--labels-per-class {size}: give whole numbers, or {ALL}") from None
    require(number, "--labels-per-class", lambda v: v > 0, "above 0")
    return number
