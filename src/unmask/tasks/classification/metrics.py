"""Classification metrics by torchmetrics, with an interval for the accuracy, overall and per class."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped

from unmask.evaluation.intervals import wilson
from unmask.files import Json

BINS = 15  # of the calibration error (Guo et al. 2017)


def scores(probabilities: Float[np.ndarray, "n k"], labels: Shaped[np.ndarray, "n *k"], classes: Sequence[str]) -> Json:
    """Plain numbers, shares from 0 to 1. labels: n class numbers, or n k zeros and ones for several per image.

    Means over classes are over those that occur among `labels`. `main` names the number to compare runs by.
    """
    if labels.ndim == 2:
        return _multi(torch.from_numpy(probabilities), torch.from_numpy(labels).long(), classes)
    return _single(torch.from_numpy(probabilities), torch.from_numpy(labels), classes)


def _single(p: torch.Tensor, y: torch.Tensor, classes: Sequence[str]) -> Json:
    from torchmetrics.functional import classification as tm  # takes seconds to import: not before it is needed

    k = len(classes)
    counts = torch.bincount(y, minlength=k)
    present = counts > 0
    right = int((p.argmax(dim=1) == y).sum())
    low, high = wilson(right, len(y))
    recall = tm.multiclass_recall(p, y, k, average="none")
    precision = tm.multiclass_precision(p, y, k, average="none")
    f1 = tm.multiclass_f1_score(p, y, k, average="none")
    result: Json = {"main": "accuracy", "count": len(y), "accuracy": right / len(y), "low": low, "high": high}
    if k > 5:
        result["top5"] = float(tm.multiclass_accuracy(p, y, k, average="micro", top_k=5))
    result["balanced_accuracy"] = float(recall[present].mean())
    result["f1"] = float(f1[present].mean())
    if k == 2 and bool(present.all()):
        result["auroc"] = float(tm.binary_auroc(p[:, 1], y))
    result["calibration_error"] = float(tm.multiclass_calibration_error(p, y, k, n_bins=BINS))
    result["cross_entropy"] = float(-p[torch.arange(len(y)), y].clamp(min=1e-12).log().mean())
    result["per_class"] = [
        {"name": name, "count": int(counts[i]), "recall": float(recall[i]) if present[i] else None}
        | {"precision": float(precision[i]), "f1": float(f1[i]) if present[i] else None}
        for i, name in enumerate(classes)
    ]
    result["confusion"] = tm.multiclass_confusion_matrix(p, y, k).tolist()  # rows are true classes
    return result


def _multi(p: torch.Tensor, y: torch.Tensor, classes: Sequence[str]) -> Json:
    from torchmetrics.functional import classification as tm

    k = len(classes)
    positives = y.sum(dim=0)
    both = (positives > 0) & (positives < len(y))  # where ranking is meaningful
    f1 = tm.multilabel_f1_score(p, y, k, average="none")
    auroc = [float(tm.binary_auroc(p[:, i], y[:, i])) if both[i] else None for i in range(k)]
    ap = [float(tm.binary_average_precision(p[:, i], y[:, i])) if both[i] else None for i in range(k)]
    exact = int(((p > 0.5) == y.bool()).all(dim=1).sum())
    low, high = wilson(exact, len(y))
    result: Json = {"main": "auroc", "count": len(y), "auroc": _mean(auroc), "average_precision": _mean(ap)}
    result |= {"f1": float(f1[positives > 0].mean()) if bool((positives > 0).any()) else None}
    result |= {"f1_micro": float(tm.multilabel_f1_score(p, y, k, average="micro"))}
    result |= {"exact_match": exact / len(y), "low": low, "high": high}
    result["calibration_error"] = float(tm.binary_calibration_error(p.flatten(), y.flatten(), n_bins=BINS))
    result["per_class"] = [
        {"name": name, "count": int(positives[i]), "auroc": auroc[i], "average_precision": ap[i], "f1": float(f1[i])}
        for i, name in enumerate(classes)
    ]
    return result


def confident_mistakes(
    probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], most: int
) -> list[tuple[int, int, float]]:
    """Index, predicted class and its probability for wrong predictions, the most confident first."""
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    sure = probabilities[wrong, answers[wrong]]
    order = np.argsort(-sure, kind="stable")[:most]
    return [(int(wrong[i]), int(answers[wrong[i]]), float(sure[i])) for i in order]


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None
