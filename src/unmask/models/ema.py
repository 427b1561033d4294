"""A teacher: a moving average of a network in training. Tarvainen & Valpola 2017; as in BYOL, MoCo v3 and DINO."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A copy in fp32 that is always in eval mode and gets no gradient; the optimizer never sees it.

    Statistics of batch norms are averaged like weights, so that a batch cannot tell the teacher what else is in it
    (EMAN, Cai et al. 2021). The copy is part of the objective's state, so checkpoints hold it.
    """

    module: Any  # the copy, of the student's own class

    def __init__(self, student: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(student).float().requires_grad_(False).eval()
        self._student = [student]  # in a list: no child of this module, yet copied and moved along with the objective

    @property
    def student(self) -> nn.Module:
        return self._student[0]

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in eval mode."""
        self.training = mode
        self.module.eval()
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self, decay: float, good: Tensor | None = None) -> None:
        """Moves the teacher towards the student: teacher = decay * teacher + (1 - decay) * student.

        good: a 0-dim bool on the device, False where the student's update was skipped: then the teacher stays too, and
        the host waits for nothing.
        """
        own: list[Tensor] = list(self.module.parameters())
        of_student = [exact(p) for p in self.student.parameters()]
        if good is None:
            torch._foreach_mul_(own, decay)
            torch._foreach_add_(own, of_student, alpha=1 - decay)
        else:
            moved = good.to(torch.float32) * (1 - decay)
            torch._foreach_mul_(own, 1 - moved)
            torch._foreach_add_(own, torch._foreach_mul(of_student, moved))
        for mine, theirs in zip(self.module.buffers(), self.student.buffers()):
            value = mine.lerp(theirs.to(mine.dtype), 1 - decay) if mine.is_floating_point() else theirs
            mine.copy_(value if good is None else torch.where(good, value, mine))

    @torch.no_grad()
    def reset(self) -> None:
        """Makes the teacher equal to the student, whose weights were loaded from elsewhere."""
        for mine, theirs in zip(self.module.parameters(), self.student.parameters()):
            mine.copy_(exact(theirs))
        for mine, theirs in zip(self.module.buffers(), self.student.buffers()):
            mine.copy_(theirs)


def exact(parameter: Tensor) -> Tensor:
    """The fp32 values behind a parameter: those of its master where its weights are in bf16."""
    master = getattr(parameter, "master", None)
    value = parameter if master is None else master.to(parameter.device)
    return value.detach().float()


def warmed(decay: float, count: int) -> float:
    """A decay that rises to `decay` over the steps, so that an average soon forgets its first, bad weights (as in
    TensorFlow)."""
    return min(decay, (1 + count) / (10 + count))


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along half a cosine, as the momentum of teachers and weight decay grow."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def reset_teachers(objective: nn.Module) -> None:
    """After `--init`: every teacher inside begins as a copy of its student."""
    for module in objective.modules():
        if isinstance(module, Teacher):
            module.reset()
