"""`unmask ablate DATA`: the MAE paper's table 1, at small scale, on the user's own data."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Interval
from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import (
    Batch,
    ImagePlaces,
    ModelName,
    Names,
    NonNegativeInt,
    Numbers,
    PartOf,
    Place,
    PositiveFloat,
    PositiveInt,
    Share,
    Size,
    check_fields,
    numbers,
    settle,
    sides,
    texts,
)

__all__ = ["Ablate"]


@dataclass(frozen=True)
class Ablate(ConfigOption):
    """Rerun the MAE paper's ablations on your data.

    Shows what each choice does to accuracy, and what it costs; --axis does so for any option of pretrain
    """

    data: Positional[ImagePlaces] = ()  # images to pretrain on: whatever pretrain takes
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data to judge on; by default the data itself
    out: Place = Path("ablation")  # folder for the study; repeat the command to continue it
    # what to vary: ratio, sampling, depth, width, tokens, target, augmentation, schedule; by default all
    axes: Names = ()
    # any option in place of these, with its values: "mask.ratio=0.5,0.75,0.9" or "target=pixels,ema"; may be repeated
    axis: Names = ()
    # what every pretraining gets as much of as the baseline, where models or sizes differ
    equal: Literal["images", "flops"] = "images"
    # image sizes at which every encoder is judged too, as factors on that of pretraining: 0.5 1.5 2; by default none
    sizes: Annotated[Numbers, Interval(gt=0, le=8)] = ()
    seeds: PositiveInt = 3  # runs of every value, each with its own seed
    hours: PositiveFloat | None = None  # time for the whole study; by default 1, unless --steps says how long a run is
    steps: PositiveInt | None = None  # optimizer steps of the baseline's pretraining, in place of --hours
    labels: NonNegativeInt | None = 2000  # number of labelled training images for probe and fine-tuning, 0 for all
    test: NonNegativeInt | None = 2000  # number of test images, 0 for all
    # passes of fine-tuning over the labelled images; by default what fits into a third of the time
    finetune_epochs: PositiveFloat | None = None
    model: ModelName = None  # timm model of the baseline, with options if you like; by default chosen as by pretrain
    # pixels that the model sees: one number, or height and width (480 640, or 480x640); by default chosen from the
    # data
    image_size: Annotated[Size, Gt(0)] = None
    patch_size: PositiveInt | None = None  # pixels along a side of a patch; by default chosen from the image size
    channels: PositiveInt | None = None  # input channels; by default as many as the data has
    # decoder of the baseline, of the kind "full(...)", since its depth and width are varied; by default sized to the
    # encoder
    decoder: Annotated[str | None, PartOf("decoder")] = None
    batch: Batch | None = None  # images per optimizer step; by default chosen for the model and the memory
    lr: PositiveFloat | None = None  # peak learning rate of pretraining; by default chosen from the batch size
    seed: NonNegativeInt = 0  # the first of the seeds
    precision: str = "auto"  # number format of training: bf16 or 32; by default bf16 where the hardware gains from it
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has
    # processes that load images; 0: the main process loads them; by default as many as measuring shows to be needed
    workers: NonNegativeInt | None = None
    max_bad: Share = 0.05  # share of unreadable files above which the study does not start
    jobs: PositiveInt = 1  # runs side by side, each in a process of its own
    dry_run: bool = False  # print the plan and the forecast, and stop

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        if not self.data:
            raise UserError("say on which images: unmask ablate DATA (and --on LABELLED, if they have no labels)")
        settle(self, "on", texts(self.on))
        settle(self, "axes", texts(self.axes))
        settle(self, "axis", texts(self.axis))
        settle(self, "sizes", numbers(self.sizes))
        settle(self, "out", Path(self.out))
        if self.image_size is not None:
            settle(self, "image_size", sides("image_size", self.image_size))
        check_fields(self)
        if self.hours is not None and self.steps is not None:
            raise UserError("give one of --hours and --steps, not both")
