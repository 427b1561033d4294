"""`unmask transfer RUN --to TASK --on DATA`: from an encoder to a model that learnt with labels.

These are the options that all tasks share; what a task takes besides is in its `settings.py`.
"""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from unmask.cli.shared_options import RuntimeOptions, settle_trackers
from unmask.errors import UserError
from unmask.plain import (
    BelowOne,
    ImagePlaces,
    NonNegativeFloat,
    NonNegativeInt,
    Place,
    PositiveFloat,
    PositiveInt,
    PositiveShare,
    Weights,
    WeightsPlace,
    check_fields,
    settle,
    texts,
)

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer(RuntimeOptions):
    """Train a model on an encoder with labels, judge it, keep it. What is not given is chosen and said."""

    DERIVED = ("model", "image_size", "patch_size", "channels")  # settings that follow from the encoder
    BY_TASK: ClassVar[bool] = True  # the options of the task that `to` names belong to these
    run: Positional[WeightsPlace]  # folder of a run, or a timm name
    _: KW_ONLY
    on: ImagePlaces = ()  # labelled data: class folders, labels.csv, npz with labels; images with masks or boxes
    to: str = "classify"  # what to learn
    out: Place | None = None  # folder to write; by default RUN/TASK
    protocol: str | None = None  # what is trained
    recipe: str | None = None  # a published recipe by name (docs/recipes.md); other flags still count
    init: Annotated[Place | None, Weights(words=("none", "run"))] = (
        None  # weights: the run's own (run), none (from scratch), or another run like it
    )
    epochs: PositiveFloat | None = None  # passes over the labelled images
    batch: PositiveInt | None = None  # images per optimizer step
    accumulate: PositiveInt | None = None  # parts that a batch is worked off in, to save memory
    optimizer: str | None = None  # adamw, sgd or lars
    lr: PositiveFloat | None = None  # peak learning rate
    blr: PositiveFloat | None = None  # peak learning rate per 256 images of the batch, instead of lr
    floor: NonNegativeFloat | None = None  # learning rate at the end
    warmup: NonNegativeFloat | None = None  # epochs in which the rate rises
    layer_decay: PositiveShare | None = None  # factor on the rate from each layer to the one before
    weight_decay: NonNegativeFloat | None = None  # of matrices
    betas: tuple[BelowOne, BelowOne] | None = None  # of AdamW
    clip: NonNegativeFloat | None = None  # largest gradient norm; 0: off
    drop_path: BelowOne | None = None  # chance to skip a block, rising to this at the last
    flip: Literal["auto", "on", "off"] = "auto"  # mirror images left to right at random
    window: PositiveInt | None = None  # patches along a side of the windows in which most blocks attend
    global_blocks: PositiveInt | None = None  # of windowed attention: blocks that see everything; 4
    relative: bool = False  # relative positions in every block, zero at first, learnt here (ViTDet)
    patience: NonNegativeFloat | None = None  # epochs without a better val score that end it; 0: never
    most: PositiveInt | None = None  # training images to use at the most, drawn at random
    seed: NonNegativeInt = 0  # of the head, the order, augmentation, and splits where the data has none
    log_every: PositiveInt | None = None  # steps between records
    dry_run: bool = False  # print the plan and stop

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        settle(self, "out", Path(self.out) if self.out is not None else None)
        if not self.on:
            raise UserError(f"say on which labelled data: unmask transfer RUN --to {self.to} --on LABELLED")
        check_fields(self)
        settle_trackers(self)
        if self.relative and self.protocol in ("linear", "attentive"):
            raise UserError(
                f"--relative is learnt, and --protocol {self.protocol} leaves the encoder as it is: take one out"
            )
        if self.global_blocks is not None and self.window is None:
            raise UserError("--global-blocks is for windowed attention: give --window too, e.g. 14")
        if self.lr is not None and self.blr is not None:
            raise UserError("give --lr or --blr, not both")
