"""Watches a model while it trains: scores it on the val split, keeps the best weights, says when to stop."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from unmask.models.state import load_strictly
from unmask.tasks.task import Lesson
from unmask.training.objective import Task
from unmask.weights.files import read_state, save_state

BEST = "best.safetensors"


class Keeper:
    """Without a val split it does nothing, and the last weights are kept.

    What is best so far lives in BEST alone, with its step and score. A run that goes on from an older checkpoint finds
    there what it is about to reach, and changes nothing until it has.
    """

    def __init__(self, lesson: Lesson, settings: dict[str, Any], out: Path, device: torch.device, every: int):
        """every: steps between looks."""
        self.lesson, self.settings, self.out, self.device, self.every = lesson, settings, out, device, every
        steps = settings["patience"] * lesson.count / settings["batch"]
        self.patience = max(every, math.ceil(steps)) if settings["patience"] else math.inf

    def of(self, task: Task) -> Callable[[int, int], dict[str, Any]]:
        """What the loop calls after every step."""

        def look(step: int, steps: int) -> dict[str, Any]:
            if not self.lesson.has_val or not (step % self.every == 0 or step >= steps):
                return {}
            found = self.lesson.score(task.result, "val", self.settings, self.device)
            score = found[found["main"]] or 0.0, found.get("tie", 0.0)
            before = self.best()
            if before is None or score > before[1]:
                save_state(task.result, self.out / BEST, {"step": str(step), "score": json.dumps(score)})
                before = (step, score)
            seen = {f"val_{name}": found[name] for name in found["watched"]}
            return seen | ({"stop": True} if step - before[0] >= self.patience else {})

        return look

    def best(self) -> tuple[int, tuple[float, ...]] | None:
        """Step and score of the weights kept so far."""
        path = self.out / BEST
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            facts = file.metadata()
        return int(facts["step"]), tuple(json.loads(facts["score"]))

    def best_of(self, task: Task) -> nn.Module:
        """The model with its best weights."""
        if self.best() is not None:
            load_strictly(task.result, read_state(self.out / BEST), str(self.out / BEST))
        return task.result.eval()

    def kept_step(self, last: int) -> int:
        """The step whose weights are the result."""
        best = self.best()
        return last if best is None else best[0]
