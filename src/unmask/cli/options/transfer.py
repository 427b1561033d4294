"""`unmask transfer RUN --to TASK --on DATA`: from an encoder to a model that learnt with labels."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from unmask import registry
from unmask.cli.shared_options import RuntimeOptions
from unmask.errors import UserError, closest, closest_place
from unmask.plain import Place, Places, Size, numbers, require, settle, texts
from unmask.planning.recipe_book import find_recipe

__all__ = ["Transfer"]
if TYPE_CHECKING:
    pass

ONLY = {  # options that some tasks alone have
    "classify": ("pooling", "eval_crop", "ema", "smoothing", "mixup", "cutmix", "randaug", "erase", "crop", "blocks"),
    "segment": ("head", "images", "classes", "void", "crop_size", "side", "scale", "class_limit", "distort", "dice"),
    "detect": ("format", "images", "masks", "input_size", "pyramid", "width", "rois", "anchors", "ratios", "jitter"),
}
Words = Annotated[str | Sequence[str] | None, arg(constructor=tuple[str, ...] | None)]
MOST_PIXELS = 8192  # along a side of what a detector sees: more fits into no memory
MAX_BAD = 0.05  # dense tasks have a rule of their own
PROTOCOLS = ("full", "partial", "linear", "attentive")


@dataclass(frozen=True)
class Transfer(RuntimeOptions):
    """Train a model on an encoder with labels, judge it, keep it. What is not given is chosen and said."""

    DERIVED = ("model", "image_size", "patch_size", "channels", "norm")  # settings that follow from the encoder
    run: Positional[Place]  # folder of a run, or a timm name
    _: KW_ONLY
    on: Places = ()  # labelled data: class folders, labels.csv, npz with labels; to segment, images and masks
    to: str = "classify"  # what to learn: classify, segment or detect
    out: Place | None = None  # folder to write; by default RUN/TASK
    protocol: str | None = None  # what is trained: full, partial (last blocks), linear or attentive (the head alone)
    recipe: str | None = None  # a published recipe by name (docs/recipes.md); other flags still count
    init: Place | None = None  # weights: the run's own (run), none (from scratch), or another run like it
    blocks: float | None = None  # of partial: how many of the last blocks; 0.5: the last MLP
    pooling: str | None = None  # mean, cls or attentive
    epochs: float | None = None  # passes over the labelled images
    batch: int | None = None  # images per optimizer step
    accumulate: int | None = None  # parts that a batch is worked off in, to save memory
    optimizer: str | None = None  # adamw, sgd or lars
    lr: float | None = None  # peak learning rate
    blr: float | None = None  # peak learning rate per 256 images of the batch, instead of lr
    floor: float | None = None  # learning rate at the end
    warmup: float | None = None  # epochs in which the rate rises
    layer_decay: float | None = None  # factor on the rate from each layer to the one before
    weight_decay: float | None = None  # of matrices
    betas: tuple[float, float] | None = None  # of AdamW
    clip: float | None = None  # largest gradient norm; 0: off
    drop_path: float | None = None  # chance to skip a block, rising to this at the last
    ema: float | None = None  # decay of a moving average of weights that is kept as the result
    smoothing: float | None = None  # of labels
    mixup: float | None = None  # mixes images; 0: off
    cutmix: float | None = None  # pastes rectangles of other images; 0: off
    randaug: str | None = None  # RandAugment as timm writes it, or off
    erase: float | None = None  # chance that a rectangle of an image becomes noise
    crop: float | None = None  # least share of an image's area that a random crop takes
    flip: Literal["auto", "on", "off"] = "auto"  # mirror images left to right at random
    eval_crop: float | None = None  # share of an image's short side that is seen when judging: 0.875, or 1 for all
    balanced: Literal["auto", "on", "off"] = "auto"  # draw every class equally often; of pixels: weigh rare ones more
    head: str | None = None  # segment: linear, light or upernet, with options, e.g. upernet(channels=256)
    classes: Place | None = None  # segment: file that names the classes, where none lies by the masks
    void: Words = None  # segment: names or numbers of what is no class; none: every number is one
    crop_size: Size = None  # segment: pixels of a crop, and of a window when judging; one number, or height and width
    side: int | None = None  # segment: pixels that an image's shorter side is resized to first
    scale: tuple[float, float] | None = None  # segment: smallest and largest random factor on that
    class_limit: float | None = None  # segment: most that one class may take of a crop; 1: any
    distort: Literal["auto", "on", "off"] = "auto"  # segment: distort brightness, contrast, saturation and hue
    dice: float | None = None  # segment: weight of the dice loss beside cross-entropy; 0: off
    format: str = "auto"  # of boxes: coco, voc, yolo, or auto: what lies there
    images: Place | None = None  # folder of the images, where masks or boxes do not lead to them
    masks: Literal["auto", "on", "off"] = "auto"  # learn masks too; auto: where nearly all objects have one
    input_size: Size = None  # pixels that a detector sees: one side, or height and width; upright images turn it
    pyramid: str | None = None  # what makes maps of several strides: simple, taps or stages
    width: int | None = None  # channels of a detector's pyramid and heads
    rois: int | None = None  # boxes per image that a detector's heads learn from
    anchors: tuple[float, ...] | None = None  # sides of the boxes that proposals start from, fine to coarse, in pixels
    ratios: tuple[float, ...] | None = None  # height / width of these
    jitter: tuple[float, float] | None = None  # images are scaled by chance between these; 1 1: not
    window: int | None = None  # patches along a side of the windows in which most blocks attend, for large images
    global_blocks: int | None = None  # of windowed attention: blocks that see everything; 4
    relative: bool = False  # relative positions in every block, zero at first, learnt here (ViTDet)
    patience: float | None = None  # epochs without a better validation score that end training; 0: never
    most: int | None = None  # training images to use at the most, drawn at random
    max_bad: float | None = None  # share of bad files, or boxes, that may be left out; 0.05, of dense tasks 0.25 or 5
    seed: int = 0  # of the head, the order, augmentation, and splits where the data has none
    log_every: int | None = None  # steps between records
    config: Place | None = None  # config.json of a transfer whose settings are taken over; other flags still count
    dry_run: bool = False  # print the plan and stop

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        if not self.on:
            raise UserError(f"say on which labelled data: unmask transfer RUN --to {self.to} --on LABELLED")
        if self.to not in ONLY:
            raise UserError(f"--to {self.to}: no such task{closest(self.to, ONLY)} There are: {', '.join(ONLY)}")
        for task, names in ONLY.items():
            given = [name for name in names if getattr(self, name) not in (None, "auto", ())]
            if given and given[0] not in ONLY.get(self.to, ()):
                flag = given[0].replace("_", "-")
                raise UserError(f"--{flag} is for --to {task}; with --to {self.to} it has no effect: take it out")
        if self.max_bad is None and self.to == "classify":
            settle(self, "max_bad", MAX_BAD)
        self._check_segment()
        if self.protocol not in (None, *PROTOCOLS):
            raise UserError(
                f"--protocol {self.protocol}: no such protocol{closest(str(self.protocol), PROTOCOLS)}"
                f" There are: {', '.join(PROTOCOLS)}"
            )
        settled = self.protocol or ("full" if self.recipe is None and self.config is None else "partial")
        if self.blocks is not None and settled != "partial":
            raise UserError(f"--blocks is for --protocol partial; with {settled} it has no effect: take it out")
        if self.relative and self.protocol in ("linear", "attentive"):
            raise UserError(
                f"--relative is learnt, and --protocol {self.protocol} leaves the encoder as it is: take one out"
            )
        if self.global_blocks is not None and self.window is None:
            raise UserError("--global-blocks is for windowed attention: give --window too, e.g. 14")
        require(self.global_blocks, "global_blocks", lambda v: v > 0, "above 0")
        if self.recipe is not None:
            find_recipe(self.recipe, "transfer")
        if self.lr is not None and self.blr is not None:
            raise UserError("give --lr or --blr, not both")
        settle(self, "out", Path(self.out) if self.out is not None else None)
        for name in (
            "epochs",
            "batch",
            "accumulate",
            "lr",
            "blr",
            "layer_decay",
            "blocks",
            "most",
            "log_every",
            "window",
        ):
            require(getattr(self, name), name, lambda v: v > 0, "above 0")
        zero = ("floor", "warmup", "weight_decay", "clip", "mixup", "cutmix", "patience", "workers", "seed")
        for name in zero:
            require(getattr(self, name), name, lambda v: v >= 0, "0 or more")
        for name in ("drop_path", "smoothing", "ema"):
            require(getattr(self, name), name, lambda v: 0 <= v < 1, "0 or more and below 1")
        for name in ("erase", "max_bad"):
            require(getattr(self, name), name, lambda v: 0 <= v <= 1, "between 0 and 1")
        require(self.layer_decay, "layer_decay", lambda v: v <= 1, "at most 1")
        for name in ("crop", "eval_crop"):
            require(getattr(self, name), name, lambda v: 0 < v <= 1, "above 0 and at most 1")
        settle(self, "input_size", None if self.input_size is None else numbers(self.input_size))
        if self.input_size is not None and len(numbers(self.input_size)) not in (1, 2):
            raise UserError("--input-size takes one side, or height and width")
        for name in ("input_size", "anchors", "ratios", "jitter"):
            for value in getattr(self, name) or ():
                require(value, name, lambda v: v > 0, "above 0")
        for name in ("width", "rois"):
            require(getattr(self, name), name, lambda v: v > 0, "above 0")
        for beta in self.betas or ():
            require(beta, "betas", lambda v: 0 <= v < 1, "0 or more and below 1")

    def _check_segment(self) -> None:
        for side in (sides := numbers(self.input_size or ())):
            require(side, "input_size", lambda v: 0 < v <= MOST_PIXELS, f"above 0 and at most {MOST_PIXELS:,}")
        if len(sides) > 2:
            raise UserError(f"--input-size takes one side, or height and width; got {len(sides)} numbers")
        if self.crop_size is not None:
            size: tuple = numbers(self.crop_size)
            if len(size) > 2:
                raise UserError(f"--crop-size is one number of pixels, or height and width; got {len(size)} numbers")
            settle(self, "crop_size", tuple(size) * (3 - len(size)))
        if self.void is not None:
            settle(self, "void", texts(self.void))
        for name in ("images", "classes"):
            if (place := getattr(self, name)) is not None and not Path(place).exists():
                raise UserError(f"--{name} {place} does not exist{closest_place(Path(place))}")
        for side in (*numbers(self.crop_size or ()), self.side):
            require(side, "crop_size and --side", lambda v: v >= 8, "8 pixels or more")
        for name, factor in zip(("smallest", "largest"), self.scale or ()):
            require(factor, "scale", lambda v: v > 0, f"above 0, the {name} too")
        if self.scale and self.scale[0] > self.scale[1]:
            raise UserError(f"--scale {self.scale[0]:g} {self.scale[1]:g}: it takes smallest <= largest")
        require(self.class_limit, "class_limit", lambda v: 0 < v <= 1, "above 0 and at most 1")
        require(self.dice, "dice", lambda v: v >= 0, "0 or more")
        if self.to == "segment" and self.protocol in ("partial", "attentive"):
            raise UserError(
                f"--protocol {self.protocol} is for --to classify; segment has full, and linear: frozen encoder"
            )
        if self.head is not None:
            registry.find("head", registry.parse(self.head)[0])
