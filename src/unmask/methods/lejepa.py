"""LeJEPA, Balestriero & LeCun 2025: views agree, and features are kept an isotropic Gaussian. One loss, no teacher.
https://arxiv.org/abs/2511.08544"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.methods.families.views import joint_defaults, pooled_views
from unmask.methods.losses.spread import sigreg
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.seeds import mix
from unmask.training.objective import Comparing, Symptom

__all__ = ["LeJEPA"]
LARGE = 2  # views whose mean all others are drawn to


class LeJEPA(Comparing):
    words: Mapping[str, str] = {
        "agreement": "distance of views from their mean",
        "gaussian": "distance from a Gaussian",
        "spread": "standard deviation of projections, 1 of a Gaussian",
    }
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.02,
            says="all images get nearly the same projection: the features have collapsed",
            remedy="more weight on the Gaussian, lejepa(weight=0.1), or a lower --lr",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        weight: Share = 0.05,
        local: NonNegativeInt = 6,
        head: object = "mlp(hidden=2048, out=64, layers=3)",
    ):
        """weight: of the distance from a Gaussian, 0.01 to 0.1 in the paper; local: small views."""
        super().__init__()
        self.encoder, self.weight, self._step = encoder, weight, 0
        self.views = (f"dino(local={local})",)
        self.head = build("projection", head, in_dim=encoder.dim)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """DINO's crops, and a rate that needs no warm-up of a teacher."""
        return joint_defaults(encoder, sheet, crop=0.3, weight_decay=0.05, blr=5e-4, name="LeJEPA")

    def before_step(self, step: int) -> None:
        self._step = step

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        return {"features": pooled_views(self.encoder, batch["views"])}

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        features = embeddings["features"].transpose(0, 1)  # v b d
        projections = self.head(features.flatten(0, 1)).float().unflatten(0, features.shape[:2])
        agreement = (projections[:LARGE].mean(dim=0) - projections).square().mean()
        gaussian = sigreg(projections, seed=mix(0x51E6, self._step))
        loss = self.weight * gaussian + (1 - self.weight) * agreement
        spread = projections.detach().std(dim=1, correction=0).mean()
        return {"loss": loss, "agreement": agreement.detach(), "gaussian": gaussian.detach(), "spread": spread}
