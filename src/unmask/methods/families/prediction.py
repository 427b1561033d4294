"""What methods share that predict a target of hidden units: it is fitted before training and moved after each step."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from unmask.data.batch import Batch
from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.mask import Context
from unmask.methods.families.guide import Guide
from unmask.methods.target import Target, UnitTarget
from unmask.models.ema import Teacher
from unmask.models.encoder import Encoder
from unmask.training.objective import Rebuilder, Symptom
from unmask.weights.frozen_teacher import FrozenTeacher

SAMPLER = 1e-4  # weight of a sampler's own loss, as in AdaMAE
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


def light_decoder(encoder: Encoder) -> str:
    """MAE's decoder, smaller beside a narrow encoder."""
    return "full(dim=128, depth=2, heads=4)" if encoder.dim < 384 else "full(dim=512, depth=8, heads=16)"


def without_holes(units: Float[Tensor, "b m p"], channels: int) -> Float[Tensor, "b m p"]:
    """Normalised units whose missing values are each channel's mean in the unit, so that they say nothing of it."""
    split = units.unflatten(2, (-1, channels))  # the channel is last in a unit
    return torch.where(split.isnan(), split.nanmean(dim=2, keepdim=True), split).nan_to_num(nan=0.0).flatten(2)


class Prediction(Rebuilder):
    """A rebuilder whose `target` is a part of `targets/`, or one from elsewhere that may define less."""

    guide: Guide | None  # tells the sampler what it needs

    def __init__(self):
        super().__init__()
        self.guide = None

    def guided(self, method: str, errors: bool = True, masks: int = 1) -> Guide:
        """What tells the sampler, once there are an encoder, a mask and a target: the target's teacher is asked where
        there is one. errors: of hidden units are told; masks: of each image in a step. Raises UserError where the parts
        do not go together."""
        if errors and "errors" in self.mask.needs and getattr(self.target, "loss_words", None):
            raise UserError(
                f"the mask {self.mask.name} learns from the squared error of each hidden patch, and this target has a"
                " loss of its own; use the target pixels or ema, or another mask"
            )
        taught = getattr(self.target, "teacher", None)
        teacher = taught.module if isinstance(taught, Teacher) else taught
        guiding = teacher if isinstance(teacher, Encoder | FrozenTeacher) else None
        return Guide(self.mask, self.encoder, method, guiding, errors, masks=masks)

    def told(self, x: Shaped[Tensor, "b c *size"]) -> Context:
        return super().told(x) if self.guide is None else self.with_gaps(x, self.guide(x, self.progress))

    def without_gaps(
        self,
        x: Shaped[Tensor, "b c *size"],
        index: Int[Tensor, "b m"],
        prediction: Float[Tensor, "b m p"],
        wanted: Shaped[Tensor, "b m q"],
    ) -> tuple[Float[Tensor, "b m p"], Float[Tensor, ""] | float]:
        """Predictions that are right where there is no value, so that these add nothing to a mean; and the share of
        what is left, by which a mean over all is to be divided. Of targets that are no pixels, whole units count."""
        if not self.encoder.gaps or prediction.shape != wanted.shape:
            return prediction, 1.0
        empty = take(self.encoder.grid_of(x).cut(self.encoder.values(x).isnan()), index)
        if not getattr(self.target, "per_pixel", False) or empty.shape != wanted.shape:
            empty = empty.all(dim=2, keepdim=True)
        share = 1 - empty.float().mean()
        return torch.where(empty, wanted.to(prediction.dtype), prediction), share.clamp(min=1e-6)

    def with_sampler(
        self,
        outputs: dict[str, Tensor],
        batch: Batch,
        x: Shaped[Tensor, "b c *size"],
        index: Int[Tensor, "b m"],
        prediction: Float[Tensor, "b m p"],
        wanted: Shaped[Tensor, "b m q"],
        power: int = 2,
    ) -> dict[str, Tensor]:
        """Adds what belongs to the sampler: the ratio that is hidden, where it moves; and the gradient of its own loss,
        where it learns, without changing the value of the method's.

        x: the samples; index: their predicted units; power: of differences in the method's loss.
        """
        if "mask" in batch:
            return outputs
        if self.mask.changes:
            outputs["mask_ratio"] = torch.full((), self.mask.ratio_at(self.progress), device=x.device)
        if "errors" in self.mask.needs:
            errors = (prediction.detach().float() - wanted).abs().pow(power).mean(dim=2)
            own = self.mask.loss(index, errors, self.encoder.grid_of(x), self.told(x))
            outputs |= {"loss": outputs["loss"] + SAMPLER * (own - own.detach()), "sampler": own.detach()}
        return outputs

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Fits the target to the data, if it needs that."""
        if isinstance(self.target, Target):
            self.target.fit(
                batch["views"][0] if self.target.raw else self.encoder.normalize(batch["views"][0]) for batch in batches
            )

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        if isinstance(self.target, Target):
            self.target.after_step(progress, good)
        if self.guide is not None:
            self.guide.after_step(progress, good)

    @torch.no_grad()
    def targets(self, x: Shaped[Tensor, "b c *size"], index: Int[Tensor, "b m"]) -> Shaped[Tensor, "b m p"]:
        """Targets of the units in `index`. Where the target allows it, the other units are not even normalised."""
        encoder, grid = self.encoder, self.encoder.grid_of(x)
        if isinstance(self.target, UnitTarget) and (encoder.gaps or grid.plane is not grid):
            units = take(grid.cut(encoder.normalize(x, fill=False)), index)
            return self.target.of(without_holes(units, grid.width(encoder.channels)))
        if isinstance(self.target, UnitTarget):
            return self.target.of(encoder.normalize_units(take(grid.cut(x), index)))
        return take(self.target(x if getattr(self.target, "raw", False) else self.encoder.normalize(x)), index)
