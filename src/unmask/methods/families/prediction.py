"""What methods share that predict a target of hidden units: it is fitted before training and moved after each step."""

from collections.abc import Iterator

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from unmask.data.batch import Batch
from unmask.masking.grid import take
from unmask.methods.target import Target, UnitTarget
from unmask.training.objective import Rebuilder


class Prediction(Rebuilder):
    """A rebuilder whose `target` is a part of `targets/`, or one from elsewhere that may define less."""

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Fits the target to the data, if it needs that."""
        if isinstance(self.target, Target):
            self.target.fit(
                batch["views"][0] if self.target.raw else self.encoder.normalize(batch["views"][0]) for batch in batches
            )

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        if isinstance(self.target, Target):
            self.target.after_step(progress, good)

    @torch.no_grad()
    def targets(self, x: Shaped[Tensor, "b c *size"], index: Int[Tensor, "b m"]) -> Shaped[Tensor, "b m p"]:
        """Targets of the units in `index`. Where the target allows it, the other units are not even normalised."""
        if isinstance(self.target, UnitTarget):
            return self.target.of(self.encoder.normalize_units(take(self.encoder.grid_of(x).cut(x), index)))
        return take(self.target(x if getattr(self.target, "raw", False) else self.encoder.normalize(x)), index)
