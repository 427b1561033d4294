"""dBOT, Liu et al. 2022: several trainings in a row, each of a new student that predicts, for hidden patches, the
features of the student before it, frozen. The first teacher has random weights. https://arxiv.org/abs/2209.03917"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Interval
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.masking.mask import Mask
from unmask.methods.families.prediction import SAME_EVERYWHERE, Prediction, contrast
from unmask.models.decoder import require_usable
from unmask.models.encoder import Encoder
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Stage, Symptom
from unmask.weights.frozen_teacher import RANDOM

__all__ = ["DBOT"]
ROUNDS, MOST = 2, 16
UNTAUGHT = "ema(momentum=1.0)"  # in the place of a teacher that is trained first: as large, so that plans are right


class DBOT(Prediction):
    words: Mapping[str, str] = {
        "loss": "smooth L1 distance to the teacher's features",
        "contrast": "contrast of predictions, as a share of the targets'",
    }
    symptoms: Sequence[Symptom] = (SAME_EVERYWHERE,)

    def __init__(
        self,
        encoder: Encoder,
        mask: object = "random",
        decoder: object = "full",
        rounds: Annotated[int, Interval(ge=1, le=MOST)] = ROUNDS,
        teacher: str | None = None,
    ):
        """rounds: trainings in a row, 2 in the paper; those before the last are stages of the run. teacher: of the
        first round, a run or weights as for the target `features`, instead of random weights."""
        super().__init__()
        encoder.require_masks()
        self.encoder, self.mask, self.untaught = encoder, build("mask", mask), teacher is None and rounds > 1
        text = UNTAUGHT if self.untaught else f"features(of={teacher or RANDOM!r})"
        self.target = build("target", text, grid=encoder.grid, encoder=encoder)
        self.guide = self.guided("dbot", errors=False)
        sizes = {"in_dim": encoder.dim, "out_dim": self.target.dim, "num_layers": encoder.num_layers}
        self.decoder = build("decoder", decoder, grid=encoder.grid, **sizes)
        require_usable(self.decoder, decoder, "dbot", covers=self.mask.covers)

    @classmethod
    def stages(cls, options: Mapping[str, object]) -> Sequence[Stage]:
        """The rounds before the last, with the same options and equal shares."""
        rounds = options.get("rounds", ROUNDS)
        if not isinstance(rounds, int) or not 1 < rounds <= MOST:
            return ()  # one alone; or none that can be, which is refused where the method is built
        own, stages = {key: value for key, value in options.items() if key != "rounds"}, []
        for number in range(1, rounds):
            first = own.pop("teacher", None) if number == 1 else None
            given = {"rounds": number} | ({} if first is None else {"teacher": first}) | own
            text = f"dbot({', '.join(f'{key}={value!r}' for key, value in given.items())})"
            teacher = first or "random weights" if number == 1 else f"the encoder of round {number - 1}"
            says = f"round {number} of {rounds}, taught by {teacher}"
            stages.append(Stage(text, 1 / rounds, says, option="teacher", alike=True))
        return stages

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """MAE's parts, gradients clipped at 3."""
        light = f"a decoder of 8 x 512 would take most of the time beside an encoder {encoder.dim} wide"
        small, full = "full(dim=128, depth=2, heads=4)", "full(dim=512, depth=8, heads=16)"
        return {
            "decoder": Choice(small, light) if encoder.dim < 384 else Choice(full, "MAE's decoder"),
            "mask": Choice("random(ratio=0.75)", "as in MAE"),
            "clip": Choice(3.0, "as in dBOT"),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Smooth L1 distance over hidden patches. batch["mask"] overrules the sampler."""
        (x,), mask = batch["views"], self.draw(batch)
        prediction, wanted = self.predict(x, mask).float(), self.targets(x, mask.hidden)
        return {**self.target.losses(prediction, wanted), **contrast(prediction, wanted)}

    def predict(self, x: Shaped[Tensor, "b c *size"], mask: Mask) -> Float[Tensor, "b h d"]:
        """Predicted features of the hidden patches, in the order of `mask.hidden`."""
        return self.decoder(self.encoder(x, mask), mask, self.encoder.grid_of(x))

    def before_step(self, step: int) -> None:
        """Raises UserError where the rounds before this one were not made."""
        if self.untaught:
            raise UserError(
                "the teacher of dbot's last round has to be trained before: unmask pretrain does it, and fit_in_stages"
                " in Python; or give a run of it: dbot(teacher='RUN'); dbot(rounds=1) learns from random weights"
            )
