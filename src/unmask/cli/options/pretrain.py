"""`unmask pretrain DATA --out RUN`: learn from unlabeled images."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import RuntimeOptions, settle_trackers
from unmask.errors import UserError
from unmask.plain import (
    ImagePlace,
    ImagePlaces,
    ModelName,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    PartOf,
    Place,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Share,
    Size,
    Weights,
    check_fields,
    numbers,
    require,
    settle,
    texts,
)

__all__ = ["Pretrain"]


@dataclass(frozen=True)
class Pretrain(RuntimeOptions):
    """Learn from unlabeled images by hiding most of each and reconstructing it. What is left open is chosen."""

    data: Positional[
        ImagePlaces
    ] = ()  # folders, archives, .npz/.npy, lists of paths (.txt), shards (s3://b/{00..99}.tar)
    _: KW_ONLY
    out: Place = Path("run")  # folder of the run; repeat the command to resume it
    recipe: str | None = None  # a published recipe by name (docs/recipes.md); other flags override it
    model: ModelName = None  # a timm name, also with options: "vit_tiny_patch16_224(depth=6)"
    image_size: Annotated[Size, Gt(0)] = None  # pixels: one number, or height and width
    resolutions: str | None = None  # sizes with shares of the steps: "128:0.5,224", or auto: smaller crops early on
    patch_size: PositiveInt | None = None  # pixels along a side of a patch
    channels: PositiveInt | None = None  # input channels: 1 grey, 3 colour, or as many as the data has
    method: Annotated[str, PartOf("method")] = "mae"  # how to learn without labels
    mask: Annotated[str | None, PartOf("mask")] = (
        None  # which patches to hide: random(ratio=0.75), block, grid, blob, or a dotted name of your own
    )
    masks_per_image: PositiveInt | None = (
        None  # masks drawn for each image of a batch; the batch size still counts images
    )
    target: Annotated[str | None, PartOf("target")] = (
        None  # what to predict: pixels (normalised per patch), "pixels(normalize=False)", or pca
    )
    decoder: Annotated[str | None, PartOf("decoder")] = (
        None  # what predicts hidden patches: "full(dim=512, depth=8)", partial, cross or windowed
    )
    init: Annotated[Place, Weights(words=("none",))] = (
        "none"  # weights to start from: a run, a file or folder of weights, or a timm name with its tag
    )
    bands: Names | None = None  # with --init: names of the data's channels; R, G and B keep their filters
    decoder_warmup: NonNegativeInt | None = None  # with --init: steps in which only a new decoder is trained
    epochs: PositiveFloat | None = None  # passes over the data
    steps: PositiveInt | None = None  # optimizer steps, instead of epochs
    hours: PositiveFloat | None = None  # time budget of the whole run, instead of epochs
    batch: PositiveInt | None = None  # images per optimizer step, over all devices
    accumulate: PositiveInt | None = (
        None  # parts into which each device splits its batch, to save memory (gradient accumulation)
    )
    checkpoint_activations: Literal["auto", "on", "off"] = (
        "auto"  # recompute activations in the backward pass, to save memory
    )
    lr: PositiveFloat | None = None  # peak learning rate
    blr: PositiveFloat | None = None  # peak learning rate per 256 images of the batch, instead of lr
    warmup: NonNegativeFloat | None = None  # epochs over which the learning rate rises
    weight_decay: NonNegativeFloat | None = None  # weight decay of matrices; biases and norms have none
    clip: NonNegativeFloat | None = None  # largest gradient norm; MAE does not clip
    crop: PositiveShare | None = None  # smallest share of an image's area that a random crop covers; 1: whole images
    crop_kind: Literal["random", "fixed", "whole"] = (
        "random"  # random size and shape; 7/8 of the image at a random position; or all of it, centred
    )
    jitter: Share = 0.0  # strength of colour jitter, 0 to 1; MAE does better without
    flip: Literal["auto", "on", "off"] = "auto"  # flip images left to right at random
    seed: NonNegativeInt = 0  # of weights, order, crops and masks
    shuffle_buffer: PositiveInt | None = None  # of streams: samples among which each reader shuffles; 1: in order
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"  # on several devices: copies of the model, or shards of it
    devices: PositiveInt | None = (
        None  # devices per machine; only checked, since torchrun or srun starts one process for each
    )
    nodes: PositiveInt | None = None  # machines; only checked, likewise
    views_per_image: PositiveInt = 1  # crops taken of each decoded image, side by side in a batch
    in_memory: Literal["auto", "on", "off"] = "auto"  # keep images on the device: for small ones of one size
    resize: Literal["auto", "exact", "fast"] = (
        "auto"  # of crops: antialiased, or OpenCV's faster one where they hardly shrink
    )
    log_every: PositiveInt | None = None  # steps between records
    save_every: PositiveInt | None = None  # steps between checkpoints
    keep_every: NonNegativeInt | None = None  # steps between whole checkpoints that are never deleted
    keep_last: PositiveInt | None = None  # newest checkpoints to keep, also at the end
    spike: float | str | None = None  # standard deviations above recent losses beyond which a step is skipped, or off
    rollbacks: NonNegativeInt | None = (
        None  # times that a run may return to a good checkpoint after several bad steps in a row
    )
    deterministic: bool = False  # bitwise identical weights every time, on the same machine and versions
    probe: ImagePlace | None = None  # labelled data on which the encoder is evaluated during training
    probe_every: PositiveFloat | None = None  # epochs between probes
    max_bad: Share = 0.05  # share of unreadable files above which training does not start
    dry_run: bool = False  # print the plan and stop

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        settle(self, "out", Path(self.out))
        if self.image_size is not None:
            size = numbers(self.image_size)
            if len(size) not in (1, 2):
                raise UserError(f"image size is one number or height and width, got {size}")
            settle(self, "image_size", tuple(size) * (3 - len(size)))
        if self.lr is not None and self.blr is not None:
            raise UserError("give --lr or --blr, not both")
        budgets = {n: getattr(self, n) for n in ("epochs", "steps", "hours") if getattr(self, n) is not None}
        if len(budgets) > 1:
            raise UserError(f"give one of --epochs, --steps and --hours, not {' and '.join(budgets)}")
        for name, allowed in (("in_memory", ("auto", "on", "off")), ("resize", ("auto", "exact", "fast"))):
            if getattr(self, name) not in allowed:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        check_fields(self)
        settle_trackers(self)
        if self.bands is not None:
            settle(self, "bands", tuple(part.strip() for text in texts(self.bands) for part in text.split(",") if part))
        for name in ("bands", "decoder_warmup"):
            if getattr(self, name) and str(self.init) in ("none", ""):
                raise UserError(f"--{name.replace('_', '-')} belongs to --init WEIGHTS, which is not given")
        if self.spike is not None and self.spike != "off":
            if not isinstance(self.spike, int | float):
                raise UserError(f"--spike is a number above 0, or off; got {self.spike!r}")
            require(self.spike, "spike", lambda v: v > 0, "above 0, or off")
