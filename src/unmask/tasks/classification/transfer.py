"""The lesson of `transfer --to classify`: a class, or several, for each image. He et al. 2021, section 4."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.classification import Labelled
from unmask.data.loaders.map_style import Loader
from unmask.files import RESULT, write_json
from unmask.models.classifier import Predictions
from unmask.models.encoder import Encoder
from unmask.plain import texts
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine, autocast_dtype
from unmask.tasks.classification.figures import PREDICTIONS, draw_results, headline
from unmask.tasks.classification.finetune import answers, make_loader, make_task
from unmask.tasks.classification.metrics import scores
from unmask.tasks.classification.objective import Classify
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.classification.predict import predict_classes, write_predictions
from unmask.tasks.task import Lesson, looking

__all__ = ["ClassifyLesson"]


class ClassifyLesson(Lesson):
    name = "classify"

    def __init__(self, options: Any, encoder: Encoder, console: Console):
        self.encoder = encoder
        self.labelled = read_labelled(options, encoder, console)
        self.sheet = self.labelled.sheet
        self.count = len(self.labelled.splits["train"])
        self.has_val = bool(self.labelled.splits["val"])

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        plan_transfer(plan, self.count, self.encoder, scratch, self.labelled.sheet, machine)

    def facts(self) -> dict[str, Any]:
        return {"classes": self.labelled.classes, "multi_label": self.labelled.multi_label}

    def data_facts(self) -> dict[str, Any]:
        return {"counts": self.labelled.class_counts()}

    def make_task(self, settings: dict[str, Any], scratch: bool) -> Classify:
        shape = {"scratch": scratch, "multi_label": self.labelled.multi_label}
        return make_task(self.encoder, self.labelled.classes, settings, **shape)

    def make_loader(self, settings: dict[str, Any], micro: int | None = None) -> Loader:
        loader = make_loader(self._samples("train"), settings, self.encoder)
        return loader if micro is None else dataclasses.replace(loader, batch=micro)

    def score(self, model: nn.Module, split: str, settings: dict[str, Any], where: torch.device) -> dict[str, Any]:
        found = scores(self._answers(model, split, settings, where), self.labelled.labels(split), self.labelled.classes)
        watched = [name for name in (found["main"], "cross_entropy") if name in found]
        return found | {"watched": watched, "tie": -found.get("cross_entropy", 0.0)}  # the better calibrated

    def judge(self, model: nn.Module, config: dict[str, Any], out: Path, where: torch.device) -> str:
        result: dict[str, Any] = {"classes": config["classes"], "on": config["asked"]["on"]}
        for split in ("val", "test"):
            if not self.labelled.splits[split]:
                continue
            found, truth = self._answers(model, split, config["settings"], where), self.labelled.labels(split)
            result[split] = scores(found, truth, config["classes"])
            if split == "test":
                samples = self._samples("test")
                predictions = Predictions(samples.names, config["classes"], found, self.labelled.multi_label)
                write_predictions(predictions, out / PREDICTIONS, self.labelled.texts("test"))
                draw_results(result["test"], predictions, truth, samples, out)
        write_json(out / RESULT, result)
        return headline(result["test"], config["classes"])

    @classmethod
    def predict(cls, options: Any, folder: Path, console: Console) -> Predictions:
        return predict_classes(options, folder, console)

    def _samples(self, split: str) -> Any:
        return self.labelled.samples(split, self.encoder.channels)

    def _answers(self, model: Any, split: str, settings: dict[str, Any], where: torch.device) -> Any:
        loader = self.labelled.loader(split, model.encoder.channels, model.view)
        return answers(model, loader, where, autocast_dtype(settings["precision"]))


def read_labelled(options: Any, encoder: Encoder, console: Console) -> Labelled:
    """The labelled data, checked for this purpose. What a person should know is said."""
    with looking(console, "looking at the labelled images") as told:
        labelled = Labelled(
            texts(options.on),
            max_side=decode_side(encoder.grid.size),
            most=options.most,
            seed=options.seed,
            hold_out_val=False,
            max_bad=options.max_bad,
            **told,
        )
    labelled.sheet.statistics(encoder.channels)  # refuses images that cannot be brought to these channels
    for line in labelled.check():
        told["say"](line)
    told["say"](f"{len(labelled.classes)} classes; {labelled.said} images")
    return labelled
