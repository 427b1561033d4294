"""Early stopping: scores a model on the validation split during training, keeps the best weights, says when to stop."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from torch import nn

from unmask.files import parse_json
from unmask.models.state import load_strictly
from unmask.tasks.task import TransferTask
from unmask.tasks.training_settings import TaskSettings
from unmask.training.objective import Task
from unmask.weights.files import read_state, save_state

BEST = "best.safetensors"


class Keeper:
    """Without a validation split it does nothing, and the last weights are kept.

    The best weights so far are in BEST, with their step and score. A run resumed from an older checkpoint finds them
    there and changes nothing until it does better.
    """

    def __init__(
        self,
        task: TransferTask,
        settings: TaskSettings,
        out: Path,
        *,
        every: int,  # steps between looks
    ):
        self.task, self.settings, self.out, self.every = task, settings, out, every
        patience = settings.patience
        self.patience = max(every, math.ceil(patience * task.count / settings.batch)) if patience else math.inf

    def of(self, objective: Task) -> Callable[[int, int], dict[str, float]]:
        """The callback for the loop after every step."""

        def look(step: int, steps: int) -> dict[str, float]:
            if not self.task.has_val or not (step % self.every == 0 or step >= steps):
                return {}
            result = self.task.score(objective.result, "val", self.settings)
            score = result.value, result.tie
            before = self.best()
            if before is None or score > before[1]:
                save_state(objective.result, self.out / BEST, {"step": str(step), "score": json.dumps(score)})
                before = (step, score)
            recorded = {f"val_{name}": value for name, value in result.watched.items()}
            return recorded | ({"stop": True} if step - before[0] >= self.patience else {})

        return look

    def best(self) -> tuple[int, tuple[float, ...]] | None:
        """Step and score of the weights kept so far."""
        path = self.out / BEST
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            facts = file.metadata()
        return int(facts["step"]), tuple(parse_json(facts["score"]))

    def best_of(self, objective: Task) -> nn.Module:
        """The model with its best weights."""
        if self.best() is not None:
            load_strictly(objective.result, read_state(self.out / BEST), str(self.out / BEST))
        return objective.result.eval()

    def kept_step(self, last: int) -> int:
        """The step whose weights are the result."""
        best = self.best()
        return last if best is None else best[0]
