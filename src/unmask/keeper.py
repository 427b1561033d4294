"""Watches a classifier while it trains: scores it on the val split, keeps the best weights, says when to stop."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from unmask.classifier import Classifier
from unmask.finetuning import answers
from unmask.labelled import Labelled
from unmask.metrics import scores
from unmask.runtime import autocast_dtype
from unmask.tasks.classify import Classify
from unmask.weights import load_strictly, read_state, save_state

BEST = "best.safetensors"


class Keeper:
    """Without a val split it does nothing, and the last weights are kept.

    What is best so far lives in BEST alone, with its step and score. A run that goes on from an older checkpoint finds
    there what it is about to reach, and changes nothing until it has.
    """

    def __init__(self, labelled: Labelled, settings: dict[str, Any], out: Path, device: torch.device, every: int):
        """every: steps between looks."""
        self.labelled, self.settings, self.out, self.device, self.every = labelled, settings, out, device, every
        self.truth = labelled.labels("val") if labelled.splits["val"] else None
        steps = settings["patience"] * len(labelled.splits["train"]) / settings["batch"]
        self.patience = max(every, math.ceil(steps)) if settings["patience"] else math.inf

    def of(self, task: Classify) -> Callable[[int, int], dict[str, Any]]:
        """What the loop calls after every step."""

        def look(step: int, steps: int) -> dict[str, Any]:
            if self.truth is None or not (step % self.every == 0 or step >= steps):
                return {}
            found = self._scores(task.result)
            score = found[found["main"]] or 0.0, -found.get("cross_entropy", 0.0)  # of equals, the better calibrated
            before = self.best()
            if before is None or score > before[1]:
                save_state(task.result, self.out / BEST, {"step": str(step), "score": json.dumps(score)})
                before = (step, score)
            seen = {f"val_{name}": found[name] for name in (found["main"], "cross_entropy") if name in found}
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

    def best_of(self, task: Classify) -> Classifier:
        """The classifier with its best weights."""
        if self.best() is not None:
            load_strictly(task.result, read_state(self.out / BEST), str(self.out / BEST))
        return task.result.eval()

    def kept_step(self, last: int) -> int:
        """The step whose weights are the result."""
        best = self.best()
        return last if best is None else best[0]

    def _scores(self, classifier: Classifier) -> dict[str, Any]:
        autocast = autocast_dtype(self.settings["precision"])
        assert self.truth is not None
        loader = self.labelled.loader("val", classifier.encoder.channels, classifier.view)
        return scores(answers(classifier, loader, self.device, autocast), self.truth, classifier.classes)
