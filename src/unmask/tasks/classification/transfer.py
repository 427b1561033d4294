"""`transfer --to classify`: a class, or several, for each image. He et al. 2021, section 4."""

from pathlib import Path

import numpy as np
from rich.console import Console

from unmask.data.datasets.classification import Labelled
from unmask.data.loaders.map_style import Loader
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine, autocast_dtype
from unmask.runtime.progress import make_say, progress
from unmask.tasks.classification.classifier import ImageClassifier, Predictions
from unmask.tasks.classification.figures import PREDICTIONS, draw_results, headline
from unmask.tasks.classification.finetune import answers, make_classifier, make_loader, make_task
from unmask.tasks.classification.metrics import scores
from unmask.tasks.classification.objective import Classify
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.classification.predict import predict_classes, predictions_place, write_predictions
from unmask.tasks.classification.settings import NAME, ClassifyOptions, ClassifySettings
from unmask.tasks.task import DataOptions, Score, TransferTask

__all__ = ["ClassifyTask"]


class ClassifyTask(TransferTask[ClassifyOptions, ClassifySettings, ImageClassifier, Labelled]):
    name, settings = NAME, ClassifySettings

    def __init__(self, data: DataOptions, options: ClassifyOptions, encoder: Encoder, console: Console):
        self.encoder, say = encoder, make_say(console)
        with progress(console, "looking at the labelled images") as update:
            self.data = Labelled(
                data.on,
                max_side=4 * max(encoder.grid.size),
                most=data.most,
                seed=data.seed,
                hold_out_val=False,
                max_bad=options.max_bad,
                say=say,
                progress=update,
                modality=encoder.modality,
            )
        for line in [*self.data.sheet.unlike(*encoder.statistics), *self.data.check()]:
            say(line)
        say(f"{len(self.data.classes)} classes; {self.data.said} {self.data.source.modality.word}s")

    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> ClassifySettings:
        return plan_transfer(plan, self.count, self.encoder, scratch, self.data.sheet, machine)

    def facts(self) -> Json:
        return super().facts() | {"multi_label": self.data.multi_label}

    def data_facts(self) -> Json:
        return {"counts": self.data.class_counts()}

    def make_objective(self, settings: ClassifySettings, scratch: bool) -> Classify:
        several = self.data.multi_label
        return make_task(self.encoder, self.data.classes, settings, scratch=scratch, multi_label=several)

    @staticmethod
    def make_model(encoder: Encoder, settings: ClassifySettings, facts: Json) -> ImageClassifier:
        return make_classifier(encoder, facts["classes"], settings, facts["multi_label"])

    def make_loader(self, settings: ClassifySettings, micro: int | None = None) -> Loader:
        return make_loader(self.data.samples("train", self.encoder.channels), settings, self.encoder, micro)

    def score(self, model: ImageClassifier, split: str, settings: ClassifySettings) -> Score:
        result = scores(self._answers(model, split, settings), self.data.labels(split), self.data.classes)
        watched = {name: result[name] for name in (result["main"], "cross_entropy") if name in result}
        return Score(result[result["main"]] or 0.0, watched, tie=-result.get("cross_entropy", 0.0))  # better calibrated

    def judge_split(self, model: ImageClassifier, split: str, settings: ClassifySettings, out: Path | None) -> Json:
        probabilities, truth = self._answers(model, split, settings), self.data.labels(split)
        result = scores(probabilities, truth, self.data.classes)
        if out is not None:
            samples = self.data.samples(split, self.encoder.channels)
            predictions = Predictions(samples.names, self.data.classes, probabilities, self.data.multi_label)
            write_predictions(predictions, out / PREDICTIONS, self.data.texts(split))
            draw_results(result, predictions, truth, samples, out, model.view)
        return result

    headline = staticmethod(headline)
    predictions_place = staticmethod(predictions_place)
    predict = staticmethod(predict_classes)

    def _answers(self, model: ImageClassifier, split: str, settings: ClassifySettings) -> np.ndarray:
        loader = self.data.loader(split, model.encoder.channels, model.views)
        return answers(model, loader, model.encoder.mean.device, autocast_dtype(settings.precision))
