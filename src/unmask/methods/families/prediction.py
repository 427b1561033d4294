"""What methods share that predict a target of hidden units: it is fitted before training and moved after each step."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from unmask.data.batch import Batch
from unmask.masking.grid import take
from unmask.methods.target import Target, UnitTarget
from unmask.training.objective import Rebuilder, Symptom

SAME_EVERYWHERE = Symptom(
    "contrast",
    below=0.005,
    says="the prediction is the same for all patches of all images: nothing of them has been learnt",
    remedy="a lower --lr if it is high, else a longer run; and look at the images: unmask doctor DATA",
)


def contrast(prediction: Float[Tensor, "b m p"], wanted: Shaped[Tensor, "b m q"]) -> dict[str, Tensor]:
    """How much predictions differ from patch to patch, as a share of how much targets do, for the log; nothing for
    targets that are no values, such as ids."""
    if prediction.shape != wanted.shape or not wanted.is_floating_point():
        return {}
    ours, theirs = (x.detach().float().flatten(0, 1).std(dim=0, correction=0).mean() for x in (prediction, wanted))
    return {"contrast": ours / theirs.clamp(min=1e-6)}


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
