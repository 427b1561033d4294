"""Accuracy and latency of an exported file, beside those of the model it came from."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from unmask.data.datasets.classification import Labelled
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.errors import DataError
from unmask.evaluation.frozen.linear import Linear
from unmask.export.exportable import Exportable, Outputs, Traceable
from unmask.export.latency import Call
from unmask.export.write import Judge
from unmask.tasks.classification.metrics import scores


class Accuracy(Judge):
    """Accuracy of outputs on the test split. For encoders, one linear classifier serves all files: it is fitted to the
    model's own features of the training split, so that only the files differ."""

    def __init__(self, subject: Exportable, labelled: Labelled, data: str):
        """Raises DataError for labels that the classifier does not have, or of another kind."""
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

    def applies(self, outputs: Iterable[str]) -> bool:
        return bool({"features", "logits", "probabilities"} & set(outputs))

    def __call__(self, call: Call) -> float:
        """From 0 to 1."""
        classifier = self.subject.classifier
        if classifier is None:
            predicted = Linear().fit_predict(self.train, self._labels("train"), self._all("test", call, "features"))
            return float((predicted == self.labels).mean())
        logits = torch.from_numpy(self._all("test", call, "logits"))
        probabilities = logits.sigmoid() if classifier.multi_label else logits.softmax(dim=1)
        predicted = scores(probabilities.numpy(), self.labels, classifier.classes)
        return float(predicted[predicted["main"]])

    def _check_kind(self, data: str) -> None:
        classifier, several = self.subject.classifier, self.labelled.multi_label
        if classifier is None and several:
            raise DataError(f"--on {data} has several labels per image; features are judged by one label per image")
        if classifier is None:
            self.labelled.check()
        elif several and not classifier.multi_label:
            raise DataError(f"--on {data} has several labels per image; the classifier was trained to give one")

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
        if labels.ndim == 1 and classifier.multi_label:  # every image happens to have one
            return np.eye(len(classifier.classes), dtype=labels.dtype)[places[labels]]
        if labels.ndim == 1:
            return places[labels]
        targets = np.zeros((len(labels), len(classifier.classes)), labels.dtype)
        targets[:, places] = labels
        return targets

    def _all(self, split: str, call: Call, output: str) -> np.ndarray:
        with torch.inference_mode():
            outputs = [call(raw)[output].float() for raw in self._images(split)]
        return torch.cat(outputs).numpy()

    def _images(self, split: str) -> Iterator[Tensor]:
        size, classifier = self.subject.encoder.grid.size, self.subject.classifier
        view = WholeImage((size[0], size[1]), classifier.eval_crop if classifier else 1.0)  # as when it was judged
        for batch in self.labelled.loader(split, self.subject.encoder.channels, view):
            yield batch["views"][0].float()
