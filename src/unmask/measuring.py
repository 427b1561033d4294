"""What an exported file costs: time for one picture, and accuracy on labelled ones, beside the model it came from."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.classification.metrics import scores
from unmask.errors import DataError
from unmask.evals.linear import Linear
from unmask.exportable import Exportable, Outputs, Traceable
from unmask.labelled import Labelled
from unmask.views import WholePicture

WARM_UP, RUNS, SECONDS = 5, 100, 3.0  # calls left out; calls timed, or as many as fit the time (at least 10)
Call = Callable[[Tensor], Outputs]


def latency(call: Call, picture: Tensor) -> dict[str, float]:
    """Milliseconds for one picture: median and 95th percentile."""
    with torch.inference_mode():
        for _ in range(WARM_UP):
            call(picture)
        began, times = time.perf_counter(), []
        while len(times) < 10 or (len(times) < RUNS and time.perf_counter() - began < SECONDS):
            start = time.perf_counter()
            call(picture)
            times.append(1000 * (time.perf_counter() - start))
    return {"median_ms": float(np.median(times)), "p95_ms": float(np.quantile(times, 0.95)), "runs": len(times)}


class Accuracy:
    """Accuracy of outputs on the test split. An encoder's features are read by one linear classifier for all files: it
    is fitted to the model's own features of the training split, so that only the files differ."""

    def __init__(self, subject: Exportable, labelled: Labelled, data: str):
        """Raises DataError for labels that the classifier does not know, or that are of another kind."""
        self.subject, self.labelled = subject, labelled
        self._check_kind(data)
        self.model = Traceable(subject.model)
        self.labels = self._labels("test")
        if subject.classifier is None:
            self.train = self._all("train", self._own, "features")
        self.of_model = self(self._own)
        what = "The classifier" if subject.classifier else "A linear classifier on the features"
        self.facts = {"what": what, "data": data, "count": len(self.labels), "metric": self.metric}

    @property
    def metric(self) -> str:
        """What is measured, in words."""
        return "mean AUROC" if self.subject.classifier and self.subject.classifier.multi_label else "accuracy"

    def applies(self, outputs: Any) -> bool:
        """Whether outputs of these names can be judged."""
        return bool({"features", "logits", "probabilities"} & set(outputs))

    def __call__(self, call: Call) -> float:
        """From 0 to 1."""
        classifier = self.subject.classifier
        if classifier is None:
            found = Linear().fit_predict(self.train, self._labels("train"), self._all("test", call, "features"))
            return float((found == self.labels).mean())
        logits = torch.from_numpy(self._all("test", call, "logits"))
        probabilities = logits.sigmoid() if classifier.multi_label else logits.softmax(dim=1)
        found = scores(probabilities.numpy(), self.labels, classifier.classes)
        return float(found[found["main"]])

    def _check_kind(self, data: str) -> None:
        classifier, several = self.subject.classifier, self.labelled.multi_label
        if classifier is None and several:
            raise DataError(f"--on {data} has several labels per picture; features are judged by one label per picture")
        if classifier is None:
            self.labelled.check()
        elif several and not classifier.multi_label:
            raise DataError(f"--on {data} has several labels per picture; the classifier was trained to give one")

    def _own(self, raw: Tensor) -> Outputs:
        return dict(zip(self.subject.outputs, self.model(raw)))

    def _labels(self, split: str) -> np.ndarray:
        labels, names = self.labelled.labels(split), self.labelled.classes
        classifier = self.subject.classifier
        if classifier is None:
            return labels
        unknown = [name for name in names if name not in classifier.classes]
        if unknown:
            raise DataError(
                f"--on has classes that the classifier does not know: {', '.join(unknown[:6])}; it knows"
                f" {', '.join(classifier.classes[:12])}"
            )
        places = np.array([classifier.classes.index(name) for name in names])
        if labels.ndim == 1 and classifier.multi_label:  # every picture happens to have one
            return np.eye(len(classifier.classes), dtype=labels.dtype)[places[labels]]
        if labels.ndim == 1:
            return places[labels]
        found = np.zeros((len(labels), len(classifier.classes)), labels.dtype)
        found[:, places] = labels
        return found

    def _all(self, split: str, call: Call, output: str) -> np.ndarray:
        with torch.inference_mode():
            found = [call(raw)[output].float() for raw in self._pictures(split)]
        return torch.cat(found).numpy()

    def _pictures(self, split: str) -> Iterator[Tensor]:
        size, classifier = self.subject.encoder.grid.size, self.subject.classifier
        view = classifier.view if classifier else WholePicture((size[0], size[1]))  # as when it was judged
        for batch in self.labelled.loader(split, self.subject.encoder.channels, view):
            yield batch["views"][0].float()
