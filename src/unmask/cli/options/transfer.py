"""`unmask transfer RUN --to TASK --on DATA`: from an encoder to a model that learnt with labels.

These are the options that all tasks share; what a task takes besides is in its `settings.py`.
"""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional

from unmask.cli.shared_options import RuntimeOptions, WeightOptions, settle_trackers
from unmask.errors import UserError
from unmask.plain import (
    Batch,
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
class Transfer(RuntimeOptions, WeightOptions):
    """Train a classifier, segmenter or detector on an encoder, with labels.

    What you leave open is chosen from the data and the machine, and printed as a plan.
    """

    DERIVED = ("model", "image_size", "patch_size", "channels")  # settings that follow from the encoder
    BY_TASK: ClassVar[bool] = True  # the options of the task that `to` names belong to these
    run: Positional[WeightsPlace]  # folder of a run, a file of weights, or a timm model
    _: KW_ONLY
    # labelled data, required: class folders, labels.csv, npz with labels; or images with masks or boxes
    on: ImagePlaces = ()
    to: str = "classify"  # the task to learn
    out: Place | None = None  # folder to write; by default RUN/TASK
    protocol: str | None = None  # what is trained; by default everything
    # a published recipe (docs/recipes.md); options given beside it take precedence; by default none
    recipe: str | None = None
    # weights to start from: run (those of RUN), none (random ones), or another run like it; by default run
    init: Annotated[Place | None, Weights(words=("none", "run"))] = None
    # take the moving average of the weights; by default the online ones, where a file holds both
    weights_ema: bool = False
    epochs: PositiveFloat | None = None  # passes over the labelled images; by default chosen from their number
    batch: Batch | None = None  # images per optimizer step; by default chosen from the number of images
    accumulate: PositiveInt | None = None  # parts into which a batch is split, to save memory; by default as few as fit
    optimizer: str | None = None  # adamw, sgd or lars; by default adamw
    lr: PositiveFloat | None = None  # peak learning rate; by default chosen for the protocol and the batch size
    blr: PositiveFloat | None = None  # peak learning rate per 256 images of the batch, in place of --lr
    floor: NonNegativeFloat | None = None  # learning rate at the end; by default chosen for the protocol
    warmup: NonNegativeFloat | None = None  # epochs over which the learning rate rises; by default a share of the run
    # factor on the learning rate from each layer to the one before it; by default chosen for the protocol
    layer_decay: PositiveShare | None = None
    weight_decay: NonNegativeFloat | None = None  # weight decay of matrices; by default chosen for the protocol
    betas: tuple[BelowOne, BelowOne] | None = None  # AdamW's two decay rates; by default chosen for the protocol
    clip: NonNegativeFloat | None = None  # largest gradient norm, 0 for no clipping; by default chosen for the task
    # chance of skipping a block, which rises to this at the last one; by default chosen for the protocol
    drop_path: BelowOne | None = None
    flip: Literal["auto", "on", "off"] = "auto"  # flip images left to right at random; auto: as the data suggests
    # patches along a side of the windows in which most blocks attend; by default all patches see each other
    window: PositiveInt | None = None
    global_blocks: PositiveInt | None = None  # with --window: blocks in which all patches see each other; by default 4
    relative: bool = False  # add relative positions to every block, zero at first and learned here (ViTDet)
    # epochs without a better val score after which training ends, 0 for never; by default a quarter of the epochs
    patience: NonNegativeFloat | None = None
    most: PositiveInt | None = None  # number of training images to use, drawn at random; by default all
    seed: NonNegativeInt = 0  # seed of the head, order, augmentation, and of splits where the data has none
    log_every: PositiveInt | None = (
        None  # steps between records; by default about 200 records in all, and at most 100 steps
    )
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
