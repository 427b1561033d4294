"""BYOL, Grill et al. 2020: one view predicts a teacher's projection of the other; no negatives.
https://arxiv.org/abs/2006.07733"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.methods.families.views import joint_defaults, pooled_views
from unmask.methods.losses.spread import deviation
from unmask.models.ema import Teacher, cosine
from unmask.models.encoder import Encoder
from unmask.plain import Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Symptom

__all__ = ["BYOL"]


class BYOL(Comparing):
    views: Sequence[str] = ("byol",)
    words: Mapping[str, str] = {"loss": "squared distance to the teacher's view", "spread": "spread of projections"}
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.03,
            says="all images get the same projection: the features have collapsed",
            remedy="a lower --lr, or a larger momentum: byol(momentum=0.996)",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        momentum: Share = 0.99,
        head: object = "mlp(hidden=4096, out=256)",
        predictor: object = "mlp(hidden=4096, out=256)",
    ):
        """momentum: of the teacher at first; it rises to 1 (0.996 in the paper, over 1,000 epochs)."""
        super().__init__()
        self.encoder, self.momentum = encoder, momentum
        self.head = build("projection", head, in_dim=encoder.dim)
        self.predictor = build("projection", predictor, in_dim=self.head.out_dim)
        self.teacher = Teacher(nn.ModuleDict({"encoder": encoder, "head": self.head}))

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """A large batch and small crops."""
        return joint_defaults(encoder, sheet, crop=0.08, weight_decay=0.1, blr=1.5e-4, name="BYOL")

    def schedules(self, progress: float) -> Mapping[str, float]:
        return {"momentum": cosine(self.momentum, 1.0, progress)}

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        online = pooled_views(self.encoder, batch["views"])
        with torch.no_grad():
            teacher = self.teacher.module["encoder"]
            targets = pooled_views(teacher, batch["views"])
        return {"online": online, "targets": targets}

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        projections = self.head(_one_after_the_other(embeddings["online"]))
        predictions = self.predictor(projections).float().chunk(2)
        with torch.no_grad():
            targets = self.teacher.module["head"](_one_after_the_other(embeddings["targets"])).float().chunk(2)
        cosines = torch.stack([cosine_similarity(predictions[i], targets[1 - i], dim=1).mean() for i in (0, 1)])
        return {"loss": (2 - 2 * cosines).mean(), "spread": deviation(projections)}

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.teacher.update(self.scheduled.get("momentum", self.momentum), good)


def _one_after_the_other(views: Tensor) -> Tensor:
    return views.transpose(0, 1).flatten(0, 1)  # b 2 d -> (2 b) d
