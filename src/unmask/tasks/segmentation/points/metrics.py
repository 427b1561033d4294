"""How well the points of clouds are told apart: IoU of each class over all test points, with intervals over clouds.

`miou` comes from one confusion matrix over all points, as for images; its interval and those of the classes from
drawing the test clouds again with replacement. `cloud_miou` is the mean over clouds of the mean over the classes that
the truth or the prediction of the cloud has: the instance mIoU of part segmentation, but that classes which neither has
do not count there. Where names of classes tell categories, `chair/leg`, see `part_scores` too.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int64

from unmask.data.annotations.legend import VOID
from unmask.evaluation.intervals import bootstrap, student
from unmask.files import Json
from unmask.tasks.segmentation.metrics import Pair, overlap
from unmask.tasks.segmentation.points.part_scores import part_overlap

RESAMPLES = 1000


def cloud_overlap(pairs: Iterable[Pair], classes: Sequence[str]) -> tuple[Json, list[Json]]:
    """What `overlap` gives, with intervals and `cloud_miou`; and for each cloud its mIoU, share of right points, share
    of points without a class."""
    matrices: list[np.ndarray] = []
    rows: list[Json] = []

    def watched() -> Iterable[Pair]:
        for predicted, truth in pairs:
            judged = truth != VOID
            matrices.append(confusion(predicted[judged], truth[judged], len(classes)))
            right = float((predicted == truth)[judged].mean()) if judged.any() else None
            rows.append({"miou": _mean_present(matrices[-1]), "pixel_accuracy": right, "void": 1 - judged.mean()})
            yield predicted, truth

    result = overlap(watched(), classes)
    counts = np.array(matrices)
    return result | _intervals(counts, result) | _over_clouds(rows) | part_overlap(counts, classes), rows


def confusion(predicted: np.ndarray, truth: np.ndarray, count: int) -> Int64[np.ndarray, "k k"]:
    """Numbers of points, by true and by predicted class."""
    return np.bincount(truth.astype(np.int64) * count + predicted, minlength=count * count).reshape(count, count)


def iou_of(matrix: Int64[np.ndarray, "k k"]) -> Float[np.ndarray, "k"]:
    """Of each class; NaN for one that neither truth nor prediction has."""
    right, union = matrix.diagonal(), matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal()
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def _mean_present(matrix: np.ndarray) -> float | None:
    return None if not matrix.sum() else float(np.nanmean(iou_of(matrix)))


def _over_clouds(rows: list[Json]) -> Json:
    values = [row["miou"] for row in rows if row["miou"] is not None]
    return {"cloud_miou": float(np.mean(values)) if values else 0.0, "cloud_miou_interval": student(values, 0, 1)}


def _intervals(matrices: Int64[np.ndarray, "n k k"], result: Json) -> Json:
    """Of the mean and of each class, over clouds; None for fewer than two, and for a class that is not tested."""
    count, tested = len(matrices), np.array([entry["iou"] is not None for entry in result["per_class"]])
    if count < 2 or not tested.any():
        return {"miou_interval": None, "per_class": [entry | {"interval": None} for entry in result["per_class"]]}
    chance = np.random.default_rng(0)
    drawn = chance.multinomial(count, np.full(count, 1 / count), RESAMPLES) @ matrices.reshape(count, -1)
    drawn = drawn.reshape(RESAMPLES, *matrices.shape[1:])
    true = drawn.sum(axis=2) > 0
    values = np.stack([np.nan_to_num(iou_of(matrix)) for matrix in drawn])

    def between(column: np.ndarray) -> tuple[float, float]:
        resampled = iter(column.tolist())
        return bootstrap(lambda _: next(resampled), chance, len(column))

    means = (values * true).sum(axis=1) / np.maximum(1, true.sum(axis=1))
    per_class = [
        entry | {"interval": between(values[true[:, place], place]) if tested[place] else None}
        for place, entry in enumerate(result["per_class"])
    ]
    return {"miou_interval": between(means), "per_class": per_class}
