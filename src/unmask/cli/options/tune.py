"""`unmask tune DATA --on LABELLED --axes ratio target --hours 2`: which settings suit these images?"""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import (
    Batch,
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
    settle,
    sides,
    texts,
)

__all__ = ["Tune"]


@dataclass(frozen=True)
class Tune(ConfigOption):
    """Find the mask ratio, and what else you ask for, that suits your data.

    Short runs, the better half of them longer, the best with several seeds; judged on validation images.
    """

    data: Positional[ImagePlaces] = ()  # images to pretrain on: whatever pretrain takes
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data to judge on; by default the data itself
    out: Place = Path("tuning")  # folder for the study; repeat the command to continue it
    # what to tune, one after the other: ratio, target, patch_size, crop, decoder, depth, image_size, lr,
    # views_per_image; or any option with its values, "mask.ratio=0.6,0.75,0.9"
    axes: Names = ("ratio",)
    hours: PositiveFloat | None = None  # time for the whole study; by default 1, unless --steps says how long a run is
    steps: PositiveInt | None = None  # optimizer steps of a whole run of the baseline, in place of --hours
    seeds: PositiveInt = 3  # runs of every value in the last round, each with its own seed
    evaluators: Annotated[Names, PartOf("evaluator")] = ("linear",)  # judge of frozen features: linear or knn
    labels: NonNegativeInt | None = 2000  # number of labelled images to judge with, 0 for all
    model: ModelName = None  # timm model of the baseline, with options if you like; by default chosen as by pretrain
    # pixels that the model sees: one number, or height and width (480 640, or 480x640); by default chosen from the
    # data
    image_size: Annotated[Size, Gt(0)] = None
    patch_size: PositiveInt | None = None  # pixels along a side of a patch; by default chosen from the image size
    channels: PositiveInt | None = None  # input channels; by default as many as the data has
    # of the baseline; by default what the method prefers
    method: Annotated[str, PartOf("method")] = "mae"
    mask: Annotated[str | None, PartOf("mask")] = None  # of the baseline; by default what the method prefers
    target: Annotated[str | None, PartOf("target")] = None  # of the baseline; by default what the method prefers
    decoder: Annotated[str | None, PartOf("decoder")] = None  # of the baseline; by default sized to the encoder
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
            raise UserError("say on which images: unmask tune DATA (and --on LABELLED, if they have no labels)")
        for name in ("on", "axes", "evaluators"):
            settle(self, name, texts(getattr(self, name)))
        if len(self.evaluators) != 1:
            raise UserError(
                f"--evaluators: tune has one judge, linear or knn; got {', '.join(self.evaluators) or 'none'}"
            )
        settle(self, "out", Path(self.out))
        if self.image_size is not None:
            settle(self, "image_size", sides("image_size", self.image_size))
        check_fields(self)
        if self.hours is not None and self.steps is not None:
            raise UserError("give one of --hours and --steps, not both")
