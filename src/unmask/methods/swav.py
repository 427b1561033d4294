"""SwAV, Caron et al. 2020: the cluster of one view, balanced over the batch, is predicted from every other view.
https://arxiv.org/abs/2006.09882"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.methods.families.views import joint_defaults, pooled_views
from unmask.methods.losses.clustering import UNIFORM, sharpness, sinkhorn, swapped, usage
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeInt, PositiveFloat, SeveralInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Symptom

__all__ = ["SwAV"]
LARGE = 2  # views whose assignments are targets


class SwAV(Comparing):
    words: Mapping[str, str] = {
        "loss": "cross-entropy of swapped assignments",
        "entropy": "share of prototypes in use",
        "sharpness": "sharpness of assignments, 0 if uniform",
    }
    symptoms: Sequence[Symptom] = (
        Symptom(
            "entropy",
            below=0.1,
            says="nearly all images go to a few prototypes",
            remedy="a larger --batch, or fewer prototypes: swav(prototypes=300)",
        ),
        Symptom(
            "sharpness",
            below=UNIFORM,
            says="assignments are uniform: they say nothing about any image",
            remedy="a lower epsilon, swav(epsilon=0.05), or a lower --lr",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        prototypes: SeveralInt = 1000,
        temperature: PositiveFloat = 0.1,
        epsilon: PositiveFloat = 0.05,
        local: NonNegativeInt = 6,
        freeze_prototypes: Share = 0.01,
        head: object = "mlp(hidden=2048, out=128)",
    ):
        """prototypes: 3,000 in the paper, for ImageNet; epsilon: of Sinkhorn's balancing; local: small views.

        freeze_prototypes: share of the training in which they stay as they are (the paper's first epoch).
        """
        super().__init__()
        self.encoder, self.temperature, self.epsilon = encoder, temperature, epsilon
        self.freeze = freeze_prototypes
        self.views = (f"dino(local={local}, jitter=(0.8, 0.8, 0.8, 0.2), blur=(0.5, 0.5, 0.5), solarise=0.0)",)
        self.head = build("projection", head, in_dim=encoder.dim)
        self.prototypes = nn.Parameter(normalize(torch.randn(prototypes, self.head.out_dim), dim=1))

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Crops of 14 % or more."""
        return joint_defaults(encoder, sheet, crop=0.14, weight_decay=0.1, blr=1.5e-4, name="SwAV")

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        return {"features": pooled_views(self.encoder, batch["views"])}

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        features = embeddings["features"]  # b v d
        count = features.shape[1]
        projections = self.head(features.transpose(0, 1).flatten(0, 1)).float()
        scores = linear(normalize(projections, dim=1), normalize(self.prototypes, dim=1)).chunk(count)
        targets = [sinkhorn(view.detach(), self.epsilon) for view in scores[:LARGE]]
        loss = swapped([view / self.temperature for view in scores], targets)
        return {"loss": loss, "entropy": usage(scores[0]), "sharpness": sharpness(targets[0])}

    def before_update(self, step: int, progress: float) -> None:
        if progress < self.freeze:
            self.prototypes.grad = None
