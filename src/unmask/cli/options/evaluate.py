"""`unmask evaluate RUN --on LABELLED`: does pretraining help?"""

from dataclasses import KW_ONLY, dataclass

from tyro.conf import Positional

from unmask.errors import UserError
from unmask.plain import Counts, Names, Place, Places, numbers, require, settle, texts

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """Judge an encoder on labelled images, beside the same encoder at random initialisation and raw pixels."""

    run: Positional[Place]  # folder of a run, or a timm name
    _: KW_ONLY
    on: Places = ()  # labelled data: class folders, labels.csv or npz with labels
    against: Names = ()  # further rivals: timm names, loaded with their weights, or run folders
    labels_per_class: Counts = (1, 5, 10, 50)  # few-label settings, where there are enough
    draws: int = 5  # random choices of the labelled images per setting
    most: int | None = None  # training images to use at the most, drawn at random
    out: Place | None = None  # folder for evaluation.json and .png; by default the run's
    batch: int = 256  # images at a time
    seed: int = 0  # of draws and of splits where the data has none
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "on", texts(self.on))
        if not self.on:
            raise UserError("say on which labelled data: unmask evaluate RUN --on LABELLED")
        settle(self, "against", texts(self.against))
        settle(self, "labels_per_class", numbers(self.labels_per_class))
        require(self.seed, "seed", lambda v: v >= 0, "0 or more")
        for name in ("draws", "batch", "most"):
            require(getattr(self, name), name, lambda v: v > 0, "above 0")
        for count in numbers(self.labels_per_class):
            require(count, "labels_per_class", lambda v: v > 0, "above 0")
