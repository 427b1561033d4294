"""How a run trains: batch size, learning rate, length, checkpoints."""

import math
from dataclasses import dataclass

from unmask.errors import UserError, closest

OPTIMIZERS = ("adamw", "sgd", "lars")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Settings of the loop."""

    steps: int  # optimizer steps in total
    batch: int  # samples per optimizer step, over all devices
    lr: float  # peak learning rate
    warmup: int = 0  # steps
    weight_decay: float = 0.05
    fixed_weight_decay: bool = False  # the method's own schedule of it is not followed
    betas: tuple[float, float] = (0.9, 0.95)
    optimizer: str = "adamw"  # or sgd, lars
    fused: bool = True  # the optimizer in one pass over the weights
    floor: float = 0.0  # learning rate at the end of the cosine
    clip: float | None = None  # gradient norm; None: off, as in MAE
    grad_cache: bool = False  # methods that compare samples: a batch in parts, with the gradient of the whole
    accumulate: int = 1  # micro-batches per optimizer step
    seed: int = 0
    seconds: float | None = None  # time budget; the number of steps follows the speed, to end in time
    begins: tuple[int, ...] = (0,)  # steps at which the cost of a step changes, for time budgets
    costs: tuple[float, ...] = (1.0,)  # of a step from there on
    log_every: int = 10  # steps
    save_every: int = 1000  # steps between writing last.ckpt
    lasting_copies: int = 0  # of the weights alone, in all, instead of whole checkpoints every keep_every steps
    tidy: bool = False  # at the end only the last whole checkpoint is kept, and the lasting ones
    keep_every: int = 0  # steps between lasting copies; 0: none
    keep_last: int = 2  # newest checkpoints that are kept
    spike: float | None = None  # deviations above recent losses that skip a step; None: only non-finite losses do
    patience: int = 10  # skipped steps in a row after which the run rolls back to a good state
    rollbacks: int = 3  # rollbacks at the same point before the run gives up

    def __post_init__(self):
        for name in ("steps", "batch", "accumulate", "log_every", "save_every", "keep_last", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.lr <= 0 or not math.isfinite(self.lr):
            raise UserError(f"the learning rate must be a positive number, got {self.lr}")
        if self.optimizer not in OPTIMIZERS:
            near = closest(self.optimizer, OPTIMIZERS)
            raise UserError(f"no optimizer {self.optimizer!r}{near} There are: {', '.join(OPTIMIZERS)}")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Fit):
    """Settings of the loop, and further settings of a pretraining run."""

    epochs: float | None = None  # as the length was given or chosen: passes over the data ...
    hours: float | None = None  # ... or a time; None for both: in steps
    warmup_epochs: float = 0.0  # in which the learning rate rises
    resolutions: str = "none"  # sizes with shares of the steps
    recipe: str | None = None  # that filled in what was left open
    probe: str | None = None  # labelled data on which the encoder is judged meanwhile
    probe_every: float | None = None  # epochs
