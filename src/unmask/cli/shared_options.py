"""Options that commands share: a file of options, how weights are read, features, studies; and where commands train,
the machine (`runtime/machine.py` chooses) and records."""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt
from tyro.conf import Positional

from unmask import registry
from unmask.errors import UserError, closest
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
    settle,
    sides,
    texts,
)
from unmask.version import install_line

ATTENTIVE = "attentive"  # the probe that learns its own pooling; no part, since it looks at all tokens
JUDGES = ("knn", "linear", ATTENTIVE)  # of frozen features


@dataclass(frozen=True, kw_only=True)
class ConfigOption:
    # YAML file of options (--print-config writes one), or config.json of an earlier run; options given beside it take
    # precedence; by default none
    config: Place | None = None
    # parts from outside of the package that a run was made with, to be run here: my_lab.comb, or ./comb.py; by default
    # none
    parts: Names = ()


@dataclass(frozen=True, kw_only=True)
class WeightOptions(ConfigOption):
    """How weights are read, where their file does not tell or holds several networks."""

    # mean of each channel that the weights expect, on a scale of 0..255 or 0..1; by default the published one, which is
    # printed
    mean: Numbers = ()
    # standard deviation of each channel, on the same scale; by default the published one, which is printed
    std: Numbers = ()
    # height and width in pixels of the images that the weights were made for; by default read from the file
    weights_size: Size = None
    student: bool = False  # where a file holds a student and its teacher, take the student; by default the teacher


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(WeightOptions):
    ema: bool = False  # take the moving average of the weights; by default the online ones, where a file holds both


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(EncoderOptions):
    """Of commands that use one feature vector per image."""

    # how a feature vector is made: mean of the patches, cls, mean4 (of the last four layers, concatenated) or mean@2
    # to mean@4 (of an earlier layer), or attentive (as evaluate learnt it); auto: the best that evaluate found for
    # this run, else mean
    pooling: str = "auto"
    batch: Batch = 64  # images at a time
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has


@dataclass(frozen=True, kw_only=True)
class IndexOptions(FeatureOptions):
    """Of commands that keep these vectors in an index."""

    # folder that keeps the features for the next time; by default in the run's folder, else in that of the results
    index: Place | None = None


def reading_of(options: WeightOptions) -> dict[str, Any]:
    """The options of `WeightOptions` that are given, as `unmask.load` takes them."""
    names = ("mean", "std", "weights_size", "student")
    given = {name: value for name in names if (value := getattr(options, name))}
    ema = getattr(options, "weights_ema", False) or (isinstance(options, EncoderOptions) and options.ema)
    return given | ({"ema": True} if ema else {})


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions(ConfigOption):
    # number format of training: bf16, bf16-weights (weights too, with fp32 master copies) or 32; by default bf16
    # where the hardware gains from it, else 32
    precision: str = "auto"
    # how fp32 matrices are multiplied: default, onednn (CPUs) or tf32 (CUDA); by default tf32 on a GPU, on CPUs the
    # fastest that is exact
    matmul: str = "auto"
    # how attention is computed: sdpa, matmul or by-length; by default the fastest on this device
    attention: str = "auto"
    # memory freed by a step: keep it for the next one, or return it to the system; by default kept where that works
    allocator: str = "auto"
    fused: str = "auto"  # optimizer that updates all weights in one pass: on or off; by default on
    # compile the blocks with torch.compile: on, off, or graphs (with CUDA graphs); by default on for CUDA, else off
    compile: str = "auto"
    # channels-last memory order in the patch embedding: on or off; by default on for CUDA, else off
    channels_last: str = "auto"
    threads: int | None = None  # CPU threads that compute; by default one per core
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has
    # processes that load images; 0: the main process loads them; by default as many as measuring shows to be needed
    workers: NonNegativeInt | None = None
    # also send records to tensorboard, wandb or mlflow, or e.g. "wandb(offline=True)"; several with commas; by
    # default metrics.jsonl alone
    log_to: Names = ()


def require_judges(evaluators: Sequence[str]) -> None:
    """Raises UserError for an evaluator that there is none of."""
    names = sorted({*registry.names("evaluator"), ATTENTIVE})
    for text in evaluators:
        name = registry.parse(text)[0]
        if name not in names and not registry.is_foreign(name):
            raise UserError(f"--evaluators {text}: none of these{closest(name, names)} There are: {', '.join(names)}")


def settle_trackers(options: RuntimeOptions) -> None:
    """Splits what `log_to` names; UserError for a tool that there is none of or that is not installed."""
    named = [part.strip() for text in texts(options.log_to) for part in re.split(r",(?![^(]*\))", text)]
    settle(options, "log_to", tuple(dict.fromkeys(part for part in named if part)))
    for text in texts(options.log_to):
        registry.build("tracker", text)
        package = registry.parse(text)[0]
        if "." not in package and importlib.util.find_spec(package) is None:
            raise UserError(f"--log-to {package} needs a package that is not installed: {install_line(package)}")


@dataclass(frozen=True)
class StudyOptions(ConfigOption):
    """Of studies, which pretrain again and again on the same images and judge each encoder on labelled ones."""

    data: Positional[ImagePlaces] = ()  # images to pretrain on: whatever pretrain takes
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data to judge on; by default the data itself
    out: Place = Path("study")  # folder for the study; repeat the command to continue it
    labels: NonNegativeInt | None = 2000  # number of labelled training images to judge with, 0 for all
    model: ModelName = None  # timm model of the baseline, with options if you like; by default chosen as by pretrain
    modality: Annotated[str | None, PartOf("modality")] = None  # what the data is; by default what most files are
    # pixels that the model sees: one number, or height and width (480 640, or 480x640); by default chosen from the
    # data
    image_size: Annotated[Size, Gt(0)] = None
    patch_size: PositiveInt | None = None  # pixels along a side of a patch; by default chosen from the image size
    channels: PositiveInt | None = None  # input channels; by default as many as the data has
    batch: Batch | None = None  # images per optimizer step; by default chosen for the model and the memory
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
            name = type(self).__name__.lower()
            raise UserError(f"say on which images: unmask {name} DATA (and --on LABELLED, if they have no labels)")
        settle(self, "on", texts(self.on))
        settle(self, "out", Path(self.out))
        if self.image_size is not None:
            settle(self, "image_size", sides("image_size", self.image_size))
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(StudyOptions):
    """Of studies that vary the settings of one baseline."""

    hours: PositiveFloat | None = None  # time for the whole study; by default 1, unless --steps says how long a run is
    steps: PositiveInt | None = None  # optimizer steps of a whole run of the baseline, in place of --hours
    lr: PositiveFloat | None = None  # peak learning rate of pretraining; by default chosen from the batch size

    def __post_init__(self):
        super().__post_init__()
        if self.hours is not None and self.steps is not None:
            raise UserError("give one of --hours and --steps, not both")
