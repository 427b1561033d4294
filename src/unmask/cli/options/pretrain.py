"""`unmask pretrain DATA --out RUN`: learn from unlabeled images."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt
from tyro.conf import Positional

from unmask.cli.shared_options import EncoderOptions, RuntimeOptions, reading_of, settle_trackers
from unmask.errors import UserError
from unmask.plain import (
    Batch,
    Few,
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
    require,
    settle,
    sides,
    texts,
)

__all__ = ["Pretrain"]


@dataclass(frozen=True)
class Pretrain(RuntimeOptions, EncoderOptions):
    """Learn from unlabeled images by hiding patches and reconstructing them.

    What you leave open is chosen from the data and the machine, and printed as a plan.
    """

    # images: folders, archives, .npz or .npy files, lists of paths (.txt), shards ("s3://b/{00..99}.tar"), or demo
    data: Positional[ImagePlaces] = ()
    _: KW_ONLY
    out: Place = Path("run")  # folder for the run; repeat the command to continue it
    # a published recipe (docs/recipes.md); options given beside it take precedence; by default none
    recipe: str | None = None
    # a timm model, with options if you like: "vit_tiny_patch16_224(depth=6)"; by default chosen for the data and the
    # device
    model: ModelName = None
    # what the data is: image, video, audio, volume, bands, points, signal or multimodal, with options if you like,
    # "audio(seconds=2)"; by default what most files are
    modality: Annotated[str | None, PartOf("modality")] = None
    # pixels that the model sees: one number, or height and width (480 640, or 480x640); of other data its own axes,
    # such as frames, height and width; by default chosen from the data
    image_size: Annotated[Size, Gt(0)] = None
    # image sizes over the run, each with its share of the steps: "128:0.5,224"; auto: smaller crops early on; by
    # default one size
    resolutions: str | None = None
    patch_size: PositiveInt | None = None  # pixels along a side of a patch; by default chosen from the image size
    # input channels, 1 for grey and 3 for colour; by default as many as the data has
    channels: PositiveInt | None = None
    # how to learn without labels: mae, or any with its options, "mae(symmetric=True)"
    method: Annotated[str, PartOf("method")] = "mae"
    # which patches to hide: "random(ratio=0.75)", block, grid, blob, or a dotted name of your own; by default random,
    # three quarters
    mask: Annotated[str | None, PartOf("mask")] = None
    # masks drawn for each image of a batch (the batch size counts images); by default 1
    masks_per_image: Few | None = None
    # what to predict: pixels (normalised per patch), "pixels(normalize=False)", or pca; by default pixels
    target: Annotated[str | None, PartOf("target")] = None
    # network that predicts the hidden patches: "full(dim=512, depth=8)", partial, cross or windowed; by default full,
    # sized to the encoder
    decoder: Annotated[str | None, PartOf("decoder")] = None
    # weights to start from: a run, a file or folder of weights, or a timm model with its tag; none: random weights
    init: Annotated[Place, Weights(words=("none",))] = "none"
    # with --init: names of the data's channels, so that R, G and B keep their filters; by default filters are
    # averaged for other channels
    bands: Names | None = None
    # with --init: steps that train only a new decoder, before the encoder joins in; by default chosen where the
    # decoder is new
    decoder_warmup: NonNegativeInt | None = None
    epochs: PositiveFloat | None = None  # passes over the data; by default chosen from the data and the time it takes
    steps: PositiveInt | None = None  # optimizer steps, in place of --epochs
    hours: PositiveFloat | None = None  # time for the whole command, in place of --epochs
    # images per optimizer step, over all devices; by default chosen for the model and the memory
    batch: Batch | None = None
    # parts into which each device splits its batch, to save memory; by default as few as fit
    accumulate: PositiveInt | None = None
    # for methods that compare images: work off a batch in --accumulate parts, with the gradient of the whole
    grad_cache: bool = False
    # recompute activations in the backward pass, to save memory; auto: where the batch does not fit otherwise
    checkpoint_activations: Literal["auto", "on", "off"] = "auto"
    lr: PositiveFloat | None = None  # peak learning rate; by default chosen from the batch size
    blr: PositiveFloat | None = None  # peak learning rate per 256 images of the batch, in place of --lr
    warmup: NonNegativeFloat | None = None  # epochs over which the learning rate rises; by default a share of the run
    # weight decay of matrices; biases and norms have none; by default 0.05
    weight_decay: NonNegativeFloat | None = None
    clip: NonNegativeFloat | None = None  # largest gradient norm; by default gradients are not clipped
    # smallest share of an image's area that a random crop covers, 1 for whole images; by default chosen from the data
    crop: PositiveShare | None = None
    # random: of random size and shape; fixed: 7/8 of the image at a random position; whole: all of it, centred
    crop_kind: Literal["random", "fixed", "whole"] = "random"
    # what is seen of each image: crops, "crops(jitter=0.4)", simclr, byol, dino, beit, or several; by default what the
    # method needs
    views: Annotated[Names | None, PartOf("transform")] = None
    # flip images left to right at random; auto: on, but for scans, digits and text
    flip: Literal["auto", "on", "off"] = "auto"
    seed: NonNegativeInt = 0  # seed of weights, order, crops and masks
    # streams: samples that each reader shuffles among, 1 to keep their order; by default chosen for the memory
    shuffle_buffer: PositiveInt | None = None
    # several devices: ddp (each has a copy of the model) or fsdp2 (each has a shard of it); auto: ddp where it fits
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    # devices per machine; torchrun or srun starts a process for each, and this only checks it; by default not checked
    devices: PositiveInt | None = None
    nodes: PositiveInt | None = None  # machines; only checked, as --devices; by default not checked
    views_per_image: Few = 1  # crops taken of each decoded image, side by side in a batch
    # keep all images on the device; auto: small ones of one size that fit, and decoded clips in memory; off: neither
    in_memory: Literal["auto", "on", "off"] = "auto"
    # how crops are resized: exact is antialiased, fast uses OpenCV; auto: fast where crops hardly shrink
    resize: Literal["auto", "exact", "fast"] = "auto"
    log_every: PositiveInt | None = (
        None  # steps between records; by default about 200 records in all, and at most 100 steps
    )
    save_every: PositiveInt | None = None  # steps between checkpoints; by default about every two minutes
    # steps between whole checkpoints that are never deleted; by default four copies of the weights are kept
    keep_every: NonNegativeInt | None = None
    keep_last: Few | None = None  # number of newest checkpoints to keep, at the end too; by default 2
    # standard deviations above recent losses from which a step is skipped, or off; by default 10
    spike: float | str | None = None
    # times that a run may return to a good checkpoint after several bad steps in a row; by default 3
    rollbacks: NonNegativeInt | None = None
    deterministic: bool = False  # bitwise identical weights every time, on the same machine and versions; slower
    probe: ImagePlace | None = None  # labelled data to evaluate the encoder on during training; by default none
    # epochs between these evaluations; by default only with --probe, chosen from the length
    probe_every: PositiveFloat | None = None
    max_bad: Share = 0.05  # share of unreadable files above which training does not start
    dry_run: bool = False  # print the plan and stop

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        if not self.data:
            raise UserError("say on which images: unmask pretrain DATA (a folder, an archive, an .npz, or demo)")
        settle(self, "out", Path(self.out))
        if self.views is not None:
            settle(self, "views", texts(self.views))
        if self.image_size is not None:
            settle(self, "image_size", sides("image_size", self.image_size, most=3))
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
        for name in ("bands", "decoder_warmup", *reading_of(self)):
            if getattr(self, name) and str(self.init) in ("none", ""):
                raise UserError(f"--{name.replace('_', '-')} belongs to --init WEIGHTS, which is not given")
        if self.spike is not None and self.spike != "off":
            if not isinstance(self.spike, int | float):
                raise UserError(f"--spike is a number above 0, or off; got {self.spike!r}")
            require(self.spike, "--spike", lambda v: v > 0, "above 0, or off")
