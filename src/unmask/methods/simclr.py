"""SimCLR, Chen et al. 2020: two views of an image attract each other, those of other images repel.
https://arxiv.org/abs/2002.05709"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.methods.families.views import joint_defaults, pooled_views
from unmask.methods.losses.contrastive import accuracy, against_guessing, nt_xent
from unmask.methods.losses.spread import deviation
from unmask.models.encoder import Encoder
from unmask.plain import PositiveFloat
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Symptom

__all__ = ["SimCLR"]


class SimCLR(Comparing):
    views: Sequence[str] = ("simclr", "simclr")
    words: Mapping[str, str] = {
        "loss": "NT-Xent",
        "accuracy": "views that find their partner",
        "spread": "spread of projections",
        "guessing": "loss as a share of that of guessing",
    }
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.03,
            says="all images get the same projection: the features have collapsed",
            remedy="a lower --lr, more --warmup, or a larger --batch",
        ),
        Symptom(
            "guessing",
            above=1.5,
            says="views find their partners less well than by guessing",
            remedy="a higher temperature, simclr(temperature=0.2), or a lower --lr",
        ),
    )

    def __init__(self, encoder: Encoder, temperature: PositiveFloat = 0.1, head: object = "mlp(hidden=2048, out=128)"):
        """temperature: of the cosines; head: a projection, thrown away afterwards."""
        super().__init__()
        self.encoder, self.temperature = encoder, temperature
        self.head = build("projection", head, in_dim=encoder.dim)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """A large batch, small crops, and little weight decay."""
        return joint_defaults(encoder, sheet, crop=0.08, weight_decay=0.1, blr=1.5e-4, name="SimCLR")

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        return {"features": pooled_views(self.encoder, batch["views"])}

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        features = embeddings["features"]  # b 2 d
        first, second = self.head(features.transpose(0, 1).flatten(0, 1)).chunk(2)
        loss = nt_xent(first, second, self.temperature)
        said = {"accuracy": accuracy(first, second), "spread": deviation(first)}
        return {"loss": loss, **said, "guessing": against_guessing(loss, len(first), others=2)}
