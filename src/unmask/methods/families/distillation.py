"""What DINO, iBOT and DINOv2 share: a teacher of encoder and heads, its schedules, and a last layer that waits."""

from collections.abc import Mapping

from torch import Tensor

from unmask.methods.families.views import distillation_schedules
from unmask.methods.losses.clustering import ONE, UNIFORM, Centre
from unmask.models.ema import Teacher
from unmask.models.encoder import Encoder
from unmask.models.projection import Projection
from unmask.training.objective import Objective, Symptom

LARGE = 2  # views that the teacher sees


class Distillation(Objective):
    """A student that learns its teacher's assignments to prototypes. Caron et al. 2021 (DINO).

    Methods set `teacher`, a copy of the student's modules by name, among them "encoder". Projections and centres that
    they hold are looked after here.
    """

    teacher: Teacher
    clip_each = True

    def __init__(
        self, encoder: Encoder, momentum: float, temperature: float, teacher_temperature: float, freeze_last: float
    ):
        """freeze_last: share of the training in which the last layers of the heads stay as they are."""
        super().__init__()
        self.encoder, self.momentum, self.temperature = encoder, momentum, temperature
        self.teacher_temperature, self.freeze = teacher_temperature, freeze_last

    @property
    def kept(self) -> Encoder:
        """The teacher's encoder, which is the better one all along (Caron et al. 2021, figure 6)."""
        return self.teacher.module["encoder"]

    @property
    def sharpening(self) -> float:
        """The teacher's temperature at this step."""
        return self.scheduled.get("teacher_temperature", self.teacher_temperature)

    def schedules(self, progress: float) -> Mapping[str, float]:
        return distillation_schedules(progress, self.momentum, self.teacher_temperature)

    def before_update(self, step: int, progress: float) -> None:
        heads = [module for module in self.children() if isinstance(module, Projection)]
        if progress < self.freeze:
            for parameter in (parameter for head in heads for parameter in head.last_layer()):
                parameter.grad = None

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        for module in self.children():
            if isinstance(module, Centre):
                module.move(good)
        self.teacher.update(self.scheduled.get("momentum", self.momentum), good)


def collapsed(remedy: str) -> Symptom:
    """One prototype for everything; seen by `entropy`."""
    says = "the teacher puts all images on one prototype: it has collapsed"
    return Symptom("entropy", below=ONE, says=says, remedy=remedy)


def uniform(remedy: str) -> Symptom:
    """All prototypes for everything; seen by `sharpness`."""
    says = "the teacher's assignments are uniform: it says nothing about any image"
    return Symptom("sharpness", below=UNIFORM, says=says, remedy=remedy)
