"""Dice of volumes, from one confusion matrix of each by torchmetrics.

Dice of a class in a volume is 2 |P T| / (|P| + |T|) over all of its voxels, at the resolution of its file. Where
neither the truth nor the prediction has the class, it has no value there and does not count; where only the prediction
has it, it is 0. A class counts with the mean over the volumes where it has a value, and `dice` is the mean over the
classes that are structures: all but the background. Isensee et al. 2021 count alike.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from unmask.data.annotations.legend import VOID
from unmask.evaluation.intervals import student
from unmask.files import Json
from unmask.tasks.segmentation.metrics import Pair, overlap


def dice_of(predicted: np.ndarray, truth: np.ndarray, number: int) -> Float[np.ndarray, "k"]:
    """Of each class in one volume; NaN for a class that neither has. VOID in the truth is not counted."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    answer, true = (torch.from_numpy(map_.astype(np.int64)).flatten() for map_ in (predicted, truth))
    matrix = multiclass_confusion_matrix(answer, true, number, ignore_index=VOID, validate_args=False).double().numpy()
    total = matrix.sum(axis=0) + matrix.sum(axis=1)
    return np.where(total > 0, 2 * matrix.diagonal() / np.maximum(total, 1), np.nan)


def volume_overlap(pairs: Iterable[Pair], classes: Sequence[str], background: int) -> tuple[Json, np.ndarray]:
    """What `overlap` gives, with `dice` as the main figure, and Dice of each volume and class: n k, NaN for none."""
    rows: list[np.ndarray] = []

    def watched() -> Iterable[Pair]:
        for predicted, truth in pairs:
            rows.append(dice_of(predicted, truth, len(classes)))
            yield predicted, truth

    result = overlap(watched(), classes)
    table = np.array(rows).reshape(len(rows), len(classes))
    return result | {"background": classes[background]} | summary(table, result, background), table


def summary(table: Float[np.ndarray, "n k"], result: Json, background: int) -> Json:
    """Means over volumes and structures, with intervals over volumes."""
    structures = [place for place in range(table.shape[1]) if place != background]
    per_class, means = [], []
    for place, entry in enumerate(result["per_class"]):
        values = table[:, place][~np.isnan(table[:, place])]
        mean = float(values.mean()) if len(values) else None
        if place in structures and mean is not None:
            means.append(mean)
        per_class.append(entry | {"dice": mean, "interval": student(values.tolist(), 0, 1), "volumes": len(values)})
    of_volumes = [float(np.nanmean(row[structures])) for row in table if not np.isnan(row[structures]).all()]
    return {
        "main": "dice",
        "dice": float(np.mean(means)) if means else 0.0,
        "dice_interval": student(of_volumes, 0, 1),
        "per_class": per_class,
    }
