"""DINO, Caron et al. 2021: small crops predict a teacher's soft assignment of large ones, without labels or negatives.
https://arxiv.org/abs/2104.14294"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.methods.families.distillation import LARGE, Distillation, collapsed, uniform
from unmask.methods.families.views import distillation_defaults, of_views
from unmask.methods.losses.clustering import Centre, entropy, sharpness, sinkhorn, swapped, usage
from unmask.models.ema import Teacher
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeInt, PositiveFloat, SeveralInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Symptom

__all__ = ["DINO"]


class DINO(Distillation):
    words: Mapping[str, str] = {
        "loss": "cross-entropy with the teacher",
        "entropy": "share of prototypes in use",
        "sharpness": "sharpness of assignments, 0 if uniform",
    }
    symptoms: Sequence[Symptom] = (
        collapsed("a lower teacher temperature, dino(teacher_temperature=0.04), or a lower --lr"),
        uniform("a lower teacher temperature, dino(teacher_temperature=0.04)"),
    )

    def __init__(
        self,
        encoder: Encoder,
        local: NonNegativeInt = 8,
        prototypes: SeveralInt = 4096,
        momentum: Share = 0.996,
        temperature: PositiveFloat = 0.1,
        teacher_temperature: PositiveFloat = 0.07,
        freeze_last: Share = 0.01,
        balance: Literal["centre", "sinkhorn"] = "centre",
        head: object = None,
    ):
        """local: small views; prototypes: 65,536 in the paper, for ImageNet; momentum: of the teacher at first.

        teacher_temperature: rises to this from 0.04. freeze_last: share of the training in which the last layer stays
        as it is (the paper's first epoch). balance: "centre", as in DINO, or "sinkhorn", as in SwAV.
        """
        super().__init__(encoder, momentum, temperature, teacher_temperature, freeze_last)
        self.balance = balance
        self.views = (f"dino(local={local})",)
        self.head = build("projection", head or f"prototypes(prototypes={prototypes})", in_dim=encoder.dim)
        self.teacher = Teacher(nn.ModuleDict({"encoder": encoder, "head": self.head}))
        self.centre = Centre(self.head.out_dim)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Gradients clipped tensor by tensor, weight decay that grows."""
        return distillation_defaults(encoder, crop=0.25, name="DINO")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        temperature = self.sharpening
        student = [self.head(tokens.pooled) for tokens in of_views(self.encoder, batch["views"])]
        with torch.no_grad():
            seen = of_views(self.teacher.module["encoder"], batch["views"][:LARGE])
            outputs = [self.teacher.module["head"](tokens.pooled).float() for tokens in seen]
            if self.balance == "sinkhorn":
                targets = [sinkhorn(view, temperature) for view in outputs]
            else:
                targets = [((view - self.centre.centre) / temperature).softmax(dim=1) for view in outputs]
                if self.training:
                    self.centre.note(torch.cat(outputs))
        loss = swapped([view / self.temperature for view in student], targets)
        used = usage(targets[0]) if self.balance == "sinkhorn" else entropy(targets[0])
        return {"loss": loss, "entropy": used, "sharpness": sharpness(targets[0])}
