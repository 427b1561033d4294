"""Training a segmenter on an encoder. He et al. 2021, section 5 (ADE20K).

`full` trains everything, with a rate that falls towards the input; `linear` leaves the encoder frozen and trains the
head, whichever it is. Void pixels have no loss.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from unmask.data.annotations.legend import VOID
from unmask.errors import UserError, closest
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.tasks.segmentation.settings import PROTOCOLS
from unmask.training.objective import Batch, Task

__all__ = ["Segment"]


class Segment(Task):
    prefix = "segmenter.encoder."
    weights: Tensor | None  # of each class

    def __init__(
        self,
        segmenter: Segmenter,
        protocol: str = "full",
        layer_decay: float = 1.0,  # factor on the learning rate from each layer to the one before
        dice: float = 0.0,  # weight of the dice loss beside cross-entropy; 0: off
        weights: Sequence[float] | None = None,  # of each class in cross-entropy; None: all equal
    ):
        super().__init__()
        if protocol not in PROTOCOLS:
            raise UserError(
                f"no protocol {protocol!r} for segmentation{closest(protocol, PROTOCOLS)} There are:"
                f" {', '.join(PROTOCOLS)}"
            )
        self.segmenter, self.protocol, self.layer_decay, self.dice = segmenter, protocol, layer_decay, dice
        self.frozen = protocol == "linear"
        self.register_buffer("weights", None if weights is None else torch.tensor(weights, dtype=torch.float32))
        position = getattr(segmenter.encoder.net, "pos_embed", None)
        if self.frozen:
            segmenter.encoder.requires_grad_(False)
        elif position is not None:
            position.requires_grad_(True)  # fixed in pretraining, learned here, as in MAE's reference code
        _freeze_unused(segmenter)

    @property
    def encoder(self) -> Encoder:
        return self.segmenter.encoder

    @property
    def result(self) -> Segmenter:
        return self.segmenter

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The last channel of each view is the map: a class number, or 255."""
        x, truth = self.segmenter.parted(batch["views"])
        with torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()):
            features = self.segmenter.features(*x)
        main, *aside = self.segmenter.read(features, tuple(truth.shape[1:]))
        loss = self._loss(main, truth)
        if aside:
            loss = loss + self.segmenter.head.auxiliary_weight * self._loss(aside[0], truth)
        valid = truth != VOID
        right = ((main.argmax(dim=1) == truth) & valid).sum()
        return {"loss": loss, "train_accuracy": right / valid.sum().clamp(min=1)}

    def _loss(self, logits: Float[Tensor, "b k *size"], truth: Int[Tensor, "b *size"]) -> Float[Tensor, ""]:
        each = cross_entropy(logits, truth, weight=self.weights, ignore_index=VOID, reduction="none")
        valid = truth != VOID
        counted = valid.float() if self.weights is None else self.weights[truth.where(valid, 0)] * valid
        loss = each.sum() / counted.sum().clamp(min=1e-6)  # of a batch that is all void it is 0, not 0 / 0
        return loss + self.dice * dice_loss(logits, truth) if self.dice else loss


def dice_loss(logits: Float[Tensor, "b k *size"], truth: Int[Tensor, "b *size"]) -> Float[Tensor, ""]:
    """1 - 2 |P T| / (|P| + |T|), mean over the classes in the batch; void pixels are ignored. Milletari et al. 2016
    (V-Net), without their squares."""
    valid = (truth != VOID)[:, None].float()
    target = one_hot(truth.where(truth != VOID, 0), logits.shape[1]).movedim(-1, 1) * valid
    share = logits.softmax(dim=1) * valid
    axes = [axis for axis in range(logits.ndim) if axis != 1]
    both, total = (share * target).sum(axes), share.sum(axes) + target.sum(axes)
    seen = (target.sum(axes) > 0).float()
    return ((1 - (2 * both + 1e-6) / (total + 1e-6)) * seen).sum() / seen.sum().clamp(min=1)


def _freeze_unused(segmenter: Segmenter) -> None:
    """Freezes parameters that no map depends on, since several processes would wait for their gradients: the last norm,
    if the head takes maps without it."""
    net = segmenter.encoder.net
    if not segmenter.head.norm:
        for name in ("norm", "fc_norm"):
            part = getattr(net, name, None)
            if isinstance(part, nn.Module):
                part.requires_grad_(False)
