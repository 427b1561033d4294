"""Training a classifier on an encoder. He et al. 2021, section 4 and tables 9 to 11.

Four protocols: `full` trains everything, with a rate that falls towards the input (layer decay); `partial` the last
blocks, 0.5 meaning the last block's MLP (figure 9); `linear` and `attentive` the head alone, on a frozen encoder.
"""

import re
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms.v2 import CutMix, MixUp

from unmask.errors import UserError, closest
from unmask.models.classifier import Classifier
from unmask.models.ema import warmed
from unmask.models.encoder import Encoder
from unmask.tasks.classification.settings import PROTOCOLS
from unmask.training.objective import Batch, Task

__all__ = ["Classify"]
FROZEN = ("linear", "attentive")


class Classify(Task):
    prefix = "classifier.encoder."
    undecayed = (*Task.undecayed, "query")

    def __init__(
        self,
        classifier: Classifier,
        protocol: str = "full",
        blocks: float | None = None,  # of `partial`: how many of the last blocks, by default 1; 0.5: the last MLP
        layer_decay: float = 1.0,  # factor on the learning rate from each layer to the one before
        smoothing: float = 0.0,  # of labels
        mixup: float = 0.0,  # Beta(mixup, mixup) mixes images; 0: off
        cutmix: float = 0.0,  # Beta(cutmix, cutmix) pastes rectangles; with both, each batch draws one of them
        ema: float | None = None,  # decay of the moving average of weights that is kept as the result; None: off
    ):
        super().__init__()
        if protocol not in PROTOCOLS:
            raise UserError(f"no protocol {protocol!r}{closest(protocol, PROTOCOLS)} There are: {', '.join(PROTOCOLS)}")
        self.classifier = classifier
        self.protocol, self.layer_decay, self.smoothing = protocol, layer_decay, smoothing
        self.frozen = protocol in FROZEN
        self.mixers = [
            kind(alpha=a, num_classes=len(classifier.classes)) for kind, a in ((MixUp, mixup), (CutMix, cutmix)) if a
        ]
        freeze(classifier, protocol, blocks or 1)
        average = None if ema is None else AveragedModel(classifier, multi_avg_fn=_warming(ema), use_buffers=True)
        self.average = average
        if average is not None:
            average.requires_grad_(False)

    @property
    def encoder(self) -> Encoder:
        return self.classifier.encoder

    @property
    def result(self) -> Classifier:
        """The classifier to keep: the moving average of weights if there is one."""
        return self.classifier if self.average is None else cast(Classifier, self.average.module)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of batch["label"]: b class numbers, or b k zeros and ones for several labels per image."""
        (x,), label = batch["views"], batch["label"]
        target = self._target(label)
        if self.mixers:
            mixer = self.mixers[int(torch.randint(len(self.mixers), ()))]
            x, target = mixer(x.float(), target)
        logits = self._logits(x)
        if self.classifier.multi_label:
            return {"loss": binary_cross_entropy_with_logits(logits, target)}
        outputs = {"loss": cross_entropy(logits, target)}
        return outputs if self.mixers else outputs | {"train_accuracy": (logits.argmax(dim=1) == label).float().mean()}

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        if self.average is not None and (good is None or good):  # looks; so does the average, at its count of steps
            self.average.update_parameters(self.classifier)

    def _logits(self, x: Tensor) -> Float[Tensor, "b k"]:
        if self.frozen:
            with torch.no_grad():
                tokens = self.encoder(x)
            return self.classifier.judge(tokens)
        return self.classifier(x)

    def _target(self, label: Tensor) -> Float[Tensor, "b k"]:
        number = len(self.classifier.classes)
        if self.classifier.multi_label:
            return label.float() * (1 - self.smoothing) + self.smoothing / 2
        return one_hot(label, number).float() * (1 - self.smoothing) + self.smoothing / number


def freeze(classifier: Classifier, protocol: str, blocks: float) -> None:
    """Freezes everything that the protocol does not train. Raises UserError for more blocks than the encoder has."""
    encoder, net = classifier.encoder, classifier.encoder.net
    if protocol == "full":
        if getattr(net, "pos_embed", None) is not None:
            net.pos_embed.requires_grad_(True)  # fixed in pretraining, learned here, as in MAE's reference code
        return
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    if protocol != "partial":
        return
    if blocks != 0.5 and (blocks != int(blocks) or not 1 <= blocks <= encoder.num_blocks):
        raise UserError(f"--blocks must be 0.5 or a whole number from 1 to {encoder.num_blocks} here, got {blocks:g}")
    if blocks == 0.5 and encoder.staged:
        raise UserError("--blocks 0.5 is the last block's MLP, which this network has not; give 1 or more")
    first = encoder.num_blocks + 1 - blocks  # depth of the first block that is trained
    for name, parameter in net.named_parameters():
        half = blocks == 0.5 and name.startswith(f"blocks.{encoder.num_blocks - 1}.")
        inside = re.search(r"\.(norm2|mlp)\.", name) is not None if half else encoder.depth_of(name) >= first
        parameter.requires_grad_(inside)


def _warming(decay: float) -> Any:
    """An average whose decay rises to `decay`."""

    def update(averages: list[Tensor], values: list[Tensor], number: Tensor) -> None:
        weight = 1 - warmed(decay, int(number))
        for average, value in zip(averages, values):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)

    return update
