"""How well maps of classes agree with the truth: torchmetrics' numbers over all pixels of a split.

Everything comes from one confusion matrix of the whole split, so that a large image counts for more than a small one
and a class is not judged image by image. Means over classes are over those that the split's truth shows: a class
that nobody could have found does not count as 0. Where it is answered nonetheless, those pixels count as missed for the
classes that they belong to. Pixels of no class (void) count nowhere, whatever is answered there.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from unmask.data.annotations.legend import VOID

Pair = tuple[UInt8[np.ndarray, "_ _"], UInt8[np.ndarray, "_ _"]]


def overlap(pairs: Iterable[Pair], classes: Sequence[str]) -> dict[str, Any]:
    """Plain numbers, shares from 0 to 1. pairs: answered and true map of each image, truth may hold VOID.

    `main` is miou, the mean over classes of intersection over union. None stands for a class that is not in the truth.
    """
    number = len(classes)
    metrics = MetricCollection(
        {
            "iou": MulticlassJaccardIndex(number, average="none", ignore_index=VOID, validate_args=False),
            "matrix": MulticlassConfusionMatrix(number, ignore_index=VOID, validate_args=False),
        }
    )
    count = 0
    for answer, truth in pairs:
        metrics.update(torch.from_numpy(answer.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
        count += 1
    found = metrics.compute()
    matrix, iou = found["matrix"].double(), found["iou"]  # rows are true classes
    true, answered, right = matrix.sum(dim=1), matrix.sum(dim=0), matrix.diag()
    there = true > 0
    recall, total = right / true.clamp(min=1), max(1.0, float(true.sum()))
    return {
        "main": "miou",
        "count": count,
        "pixels": int(true.sum()),
        "miou": float(iou[there].double().mean()) if bool(there.any()) else 0.0,
        "pixel_accuracy": float(right.sum()) / total,
        "mean_accuracy": float(recall[there].mean()) if bool(there.any()) else 0.0,
        "per_class": [
            {
                "name": name,
                "share": float(true[i]) / total,
                "answered": float(answered[i]) / total,
                "iou": float(iou[i]) if there[i] else None,
                "accuracy": float(recall[i]) if there[i] else None,
            }
            for i, name in enumerate(classes)
        ],
        "confusion": matrix.long().tolist(),
    }
