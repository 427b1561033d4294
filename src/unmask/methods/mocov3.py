"""MoCo v3, Chen et al. 2021: contrastive learning with a momentum encoder, made stable for ViTs.
https://arxiv.org/abs/2104.02057"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.methods.families.views import joint_defaults, pooled_views
from unmask.methods.losses.contrastive import accuracy, against_guessing, info_nce
from unmask.methods.losses.spread import deviation
from unmask.models.ema import Teacher, cosine
from unmask.models.encoder import Encoder
from unmask.plain import PositiveFloat, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Symptom

__all__ = ["MoCoV3"]


class MoCoV3(Comparing):
    views: Sequence[str] = ("byol",)
    words: Mapping[str, str] = {
        "loss": "InfoNCE",
        "accuracy": "views that find their partner",
        "spread": "spread of predictions",
        "guessing": "loss as a share of that of guessing",
    }
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.03,
            says="all images get the same prediction: the features have collapsed",
            remedy="a lower --lr, more --warmup, or a slower teacher: mocov3(momentum=0.996)",
        ),
        Symptom(
            "guessing",
            above=1.5,
            says="views find their partners less well than by guessing",
            remedy="a higher temperature, mocov3(temperature=0.2), or a lower --lr",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        temperature: PositiveFloat = 0.2,
        momentum: Share = 0.99,
        head: object = "mlp(hidden=4096, out=256, layers=3, last_norm=True, last_affine=False)",
        predictor: object = "mlp(hidden=4096, out=256, layers=2, last_norm=True, last_affine=False)",
        freeze_patches: bool = True,
    ):
        """momentum: of the teacher at first; it rises to 1. freeze_patches: the patch embedding keeps its random
        weights, which the paper found to prevent dips of the accuracy. Positions are fixed, as in the paper."""
        super().__init__()
        self.encoder, self.temperature, self.momentum = encoder, temperature, momentum
        embed = getattr(encoder.net, "patch_embed", None)
        if freeze_patches and embed is not None:
            embed.requires_grad_(False)
        self.head = build("projection", head, in_dim=encoder.dim)
        self.predictor = build("projection", predictor, in_dim=self.head.out_dim)
        self.teacher = Teacher(nn.ModuleDict({"encoder": encoder, "head": self.head}))

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """A large batch and small crops."""
        return joint_defaults(encoder, sheet, crop=0.08, weight_decay=0.1, blr=1.5e-4, name="MoCo v3")

    def schedules(self, progress: float) -> Mapping[str, float]:
        return {"momentum": cosine(self.momentum, 1.0, progress)}

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        queries = pooled_views(self.encoder, batch["views"])
        with torch.no_grad():
            teacher = self.teacher.module["encoder"]
            keys = pooled_views(teacher, batch["views"])
        return {"queries": queries, "keys": keys}

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        queries = self.predictor(self.head(_one_after_the_other(embeddings["queries"]))).chunk(2)
        with torch.no_grad():
            keys = self.teacher.module["head"](_one_after_the_other(embeddings["keys"])).chunk(2)
        loss = sum(info_nce(queries[place], keys[1 - place], self.temperature) for place in (0, 1))
        loss = torch.as_tensor(loss)
        said = {"accuracy": accuracy(queries[0], keys[1]), "spread": deviation(queries[0])}
        return {"loss": loss, **said, "guessing": against_guessing(loss, len(keys[1]), scale=4 * self.temperature)}

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.teacher.update(self.scheduled.get("momentum", self.momentum), good)


def _one_after_the_other(views: Tensor) -> Tensor:
    return views.transpose(0, 1).flatten(0, 1)  # b 2 d -> (2 b) d
