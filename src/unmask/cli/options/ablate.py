"""`unmask ablate DATA`: the MAE paper's table 1, at small scale, on the user's own data."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import (
    ImagePlaces,
    ModelName,
    Names,
    NonNegativeInt,
    PartOf,
    Place,
    PositiveFloat,
    PositiveInt,
    Share,
    Size,
    check_fields,
    numbers,
    settle,
    texts,
)

__all__ = ["Ablate"]


@dataclass(frozen=True)
class Ablate(ConfigOption):
    """Rerun the MAE paper's ablations on your data: what each choice does to accuracy, and what it costs."""

    data: Positional[ImagePlaces] = ()  # images to pretrain on: whatever pretrain takes
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data to judge on; by default the data itself
    out: Place = Path("ablation")  # folder of the study; the same command again continues there
    axes: Names = ()  # ratio, sampling, depth, width, tokens, target, augmentation, schedule; by default all
    seeds: PositiveInt = 3  # runs of every value, each with a seed of its own
    hours: PositiveFloat | None = None  # time for the whole study; by default 1, unless steps say how long a run is
    steps: PositiveInt | None = None  # optimizer steps of the baseline's pretraining, instead of hours
    labels: NonNegativeInt | None = 2000  # labelled training images at the most, for probe and fine-tuning; 0: all
    test: NonNegativeInt | None = 2000  # test images at the most; 0: all
    finetune_epochs: PositiveFloat | None = None  # passes over them; by default what fits into a third of the hours
    model: ModelName = None  # a timm name, also with options; these are the baseline's, and chosen as by pretrain
    image_size: Annotated[Size, Gt(0)] = None  # pixels: one number, or height and width
    patch_size: PositiveInt | None = None  # pixels along a side of a patch
    channels: PositiveInt | None = None  # of the input
    decoder: Annotated[str | None, PartOf("decoder")] = (
        None  # of the kind full(...), since its depth and width are varied
    )
    batch: PositiveInt | None = None  # images per optimizer step
    lr: PositiveFloat | None = None  # peak learning rate of pretraining
    seed: NonNegativeInt = 0  # the first one
    precision: str = "auto"  # bf16, 32, or auto
    device: str = "auto"  # cuda, mps, cpu, or auto
    workers: NonNegativeInt | None = None  # processes that load images; 0: the main one
    max_bad: Share = 0.05  # share of bad files above which the study does not start
    dry_run: bool = False  # print the plan and the forecast, and stop

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        if not self.data:
            raise UserError("say on which images: unmask ablate DATA (and --on LABELLED, if they have no labels)")
        settle(self, "on", texts(self.on))
        settle(self, "axes", texts(self.axes))
        settle(self, "out", Path(self.out))
        if self.image_size is not None:
            size = numbers(self.image_size)
            if len(size) not in (1, 2):
                raise UserError(f"image size is one number or height and width, got {size}")
            settle(self, "image_size", tuple(size) * (3 - len(size)))
        check_fields(self)
        if self.hours is not None and self.steps is not None:
            raise UserError("give one of --hours and --steps, not both")
