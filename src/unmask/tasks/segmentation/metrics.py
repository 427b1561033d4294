"""Segmentation metrics by torchmetrics, over all pixels of a split.

Everything comes from one confusion matrix of the whole split, so that large images have more weight than small ones and
classes are not scored per image. Means are over the classes that occur in the split's ground truth: a class that does
not occur does not count as 0. Pixels predicted as such a class count as missed for their true class. Void pixels are
ignored, whatever is predicted there.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from unmask.data.annotations.legend import VOID
from unmask.files import Json

Pair = tuple[UInt8[np.ndarray, "..."], UInt8[np.ndarray, "..."]]


def overlap(pairs: Iterable[Pair], classes: Sequence[str]) -> Json:
    """Plain numbers, shares from 0 to 1. pairs: predicted and true map of each image; the true map may hold VOID.

    `main` is miou, the mean over classes of intersection over union. None stands for a class that does not occur.
    """
    from torchmetrics import MetricCollection  # takes seconds to import: not before it is needed
    from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

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
    computed = metrics.compute()
    matrix, iou = computed["matrix"].double(), computed["iou"]  # rows are true classes
    true, answered, right = matrix.sum(dim=1), matrix.sum(dim=0), matrix.diag()
    present = true > 0
    recall, total = right / true.clamp(min=1), max(1.0, float(true.sum()))
    return {
        "main": "miou",
        "count": count,
        "pixels": int(true.sum()),
        "miou": float(iou[present].double().mean()) if bool(present.any()) else 0.0,
        "pixel_accuracy": float(right.sum()) / total,
        "mean_accuracy": float(recall[present].mean()) if bool(present.any()) else 0.0,
        "per_class": [
            {
                "name": name,
                "share": float(true[i]) / total,
                "answered": float(answered[i]) / total,
                "iou": float(iou[i]) if present[i] else None,
                "accuracy": float(recall[i]) if present[i] else None,
            }
            for i, name in enumerate(classes)
        ],
        "confusion": matrix.long().tolist(),
    }
