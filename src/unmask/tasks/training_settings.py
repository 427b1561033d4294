"""Settings of a training with labels when everything has been chosen, typed; config.json holds them as `settings`."""

from dataclasses import dataclass
from typing import TypedDict

from unmask.runtime.settings import RuntimeSettings
from unmask.training.settings import Fit


class LoaderOptions(TypedDict):
    batch: int
    seed: int
    workers: int
    pin: bool


@dataclass(frozen=True, kw_only=True)
class TaskSettings(RuntimeSettings):
    """What every task needs for its model, its batches and the loop; each adds its own in its `settings.py`."""

    protocol: str
    epochs: float  # passes over the training images
    warmup: float  # epochs
    batch: int  # images per optimizer step
    accumulate: int  # equal parts that a batch is worked off in
    optimizer: str
    lr: float  # peak learning rate
    weight_decay: float
    betas: tuple[float, float]
    layer_decay: float  # factor on the learning rate from each layer to the one before
    drop_path: float
    flip: str  # on or off
    workers: int
    floor: float = 1e-6  # learning rate at the end
    clip: float | None = None  # largest gradient norm
    patience: float = 0.0  # epochs without a better val score that end training; 0: never
    log_every: int = 10  # steps
    seed: int = 0

    def fit(self, count: int, save_every: int = 1000) -> Fit:
        """What the loop needs to know, for `count` training images."""
        steps = max(1, round(self.epochs * count / self.batch))
        return Fit(
            steps=steps,
            warmup=min(round(self.warmup * count / self.batch), steps // 2),
            batch=self.batch,
            accumulate=self.accumulate,
            optimizer=self.optimizer,
            fused=self.fused != "off",
            lr=self.lr,
            weight_decay=self.weight_decay,
            betas=self.betas,
            floor=self.floor,
            clip=self.clip,
            seed=self.seed,
            log_every=self.log_every,
            save_every=save_every,
            tidy=True,
        )

    def loading(self, micro: int | None = None) -> LoaderOptions:
        """What the loaders of all tasks share. micro: images at a time, where it is not what the settings say."""
        batch = micro or self.batch // self.accumulate
        return {"batch": batch, "seed": self.seed, "workers": self.workers, "pin": self.device == "cuda"}
