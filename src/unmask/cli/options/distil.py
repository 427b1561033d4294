"""`unmask distil RUN --into STUDENT --on DATA`: an encoder's knowledge into another network."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import RuntimeOptions, settle_trackers
from unmask.errors import UserError
from unmask.plain import (
    Batch,
    Counts,
    ImagePlace,
    ImagePlaces,
    ModelName,
    NonNegativeFloat,
    NonNegativeInt,
    Place,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Share,
    Size,
    WeightsPlace,
    check_fields,
    numbers,
    settle,
    sides,
    texts,
)

__all__ = ["Distil"]


@dataclass(frozen=True)
class Distil(RuntimeOptions):
    """Teach a network of any kind what an encoder knows.

    It may be a convolutional network of timm or torchvision, or your own. It learns the encoder's features and feature
    maps from images without labels. Its folder is a run's, which evaluate, transfer, export and all other commands
    take.
    """

    run: Positional[WeightsPlace]  # the teacher: folder of a run, a file or folder of weights, or a timm model
    _: KW_ONLY
    # the student: mobilenetv3_small_100, "resnet18(drop_rate=0.1)", torchvision:resnet18, or your own nn.Module,
    # "./net.py:Net(width=32)" or my_lab.nets.Net; required
    into: str = ""
    on: ImagePlaces = ()  # images to learn from, without labels: whatever pretrain takes; required
    out: Place = Path("student")  # folder for the student; repeat the command to continue it
    image_size: Annotated[Size, Gt(0)] = None  # pixels that the student sees; by default the teacher's
    patch_size: PositiveInt | None = None  # pixels, of a student that is a ViT; by default chosen from the image size
    channels: PositiveInt | None = None  # input channels; by default as many as the data has
    model: ModelName = None  # the teacher's timm model, where its file does not tell; by default read from the file
    teacher_size: Annotated[Size, Gt(0)] = None  # pixels at which the teacher sees an image; by default its own
    loss: Literal["cosine", "smooth_l1"] = "cosine"  # how far features are apart: 1 - cosine, or smooth_l1
    features: NonNegativeFloat = 1.0  # weight of the distance between features
    maps: NonNegativeFloat = 1.0  # weight of the distance between feature maps
    strides: Counts | None = None  # of the student's maps that learn: 8 16 32; by default the teacher's and larger ones
    # the teacher's features: the mean of its patches, or its class token
    pooling: Literal["mean", "cls"] = "mean"
    epochs: PositiveFloat | None = None  # passes over the data; by default chosen from the data and the time it takes
    steps: PositiveInt | None = None  # optimizer steps, in place of --epochs
    hours: PositiveFloat | None = None  # time for the whole command, in place of --epochs
    batch: Batch | None = None  # images per optimizer step; by default chosen for the device and the data
    accumulate: PositiveInt | None = None  # parts into which a batch is split; by default as few as fit
    lr: PositiveFloat | None = None  # peak learning rate; by default chosen from the batch size
    warmup: NonNegativeFloat | None = None  # epochs over which the learning rate rises; by default a share of the run
    weight_decay: NonNegativeFloat | None = None  # of matrices; biases and norms have none; by default 0.05
    crop: PositiveShare | None = None  # smallest share of an image's area that a random crop covers; by default 0.25
    # random: of random size and shape; fixed: 7/8 of the image at a random position; whole: all of it, centred
    crop_kind: Literal["random", "fixed", "whole"] = "random"
    flip: Literal["auto", "on", "off"] = "auto"  # flip images left to right at random; auto: on, but for scans and text
    seed: NonNegativeInt = 0  # seed of weights, order and crops
    probe: ImagePlace | None = None  # labelled data to evaluate the student on during training; by default none
    # epochs between these evaluations; by default only with --probe, chosen from the length
    probe_every: PositiveFloat | None = None
    log_every: PositiveInt | None = None  # steps between records; by default about 200 records in all
    save_every: PositiveInt | None = None  # steps between checkpoints; by default about every two minutes
    deterministic: bool = False  # bitwise identical weights every time, on the same machine and versions; slower
    max_bad: Share = 0.05  # share of unreadable files above which training does not start
    dry_run: bool = False  # print the plan and stop

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        settle(self, "out", Path(self.out))
        for name in ("image_size", "teacher_size"):
            if getattr(self, name) is not None:
                settle(self, name, sides(name, getattr(self, name)))
        if self.strides is not None:
            settle(self, "strides", tuple(numbers(self.strides)))
        example = "unmask distil RUN --into mobilenetv3_small_100 --on DATA"
        if not self.into:
            raise UserError(f"say which network is to learn: {example}")
        if not self.on:
            raise UserError(f"say on which images it learns: {example}")
        budgets = [f"--{name}" for name in ("epochs", "steps", "hours") if getattr(self, name) is not None]
        if len(budgets) > 1:
            raise UserError(f"give one of --epochs, --steps and --hours, not {' and '.join(budgets)}")
        check_fields(self)
        settle_trackers(self)
