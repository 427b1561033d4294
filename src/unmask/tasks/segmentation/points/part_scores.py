"""Part segmentation as ShapeNet's parts are judged: per object and per category. Yi et al. 2016; Qi et al. 2017
(PointNet), https://arxiv.org/abs/1612.00593.

The IoU of an object is the mean over all parts of its category, where a part that neither truth nor prediction has
counts as 1. `instance_miou` is the mean over objects, `category_miou` that over categories of the mean over their
objects. The category of an object is that of its true labels. A point that is given a part of another category counts
as wrong; published figures mostly let the model choose among the parts of the category alone, and are higher for it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from unmask.evaluation.intervals import student
from unmask.files import Json

BETWEEN = "/"  # category and part in the name of a class: "chair/leg"


def categories_of(classes: Sequence[str]) -> list[str] | None:
    """The category of each class, where all names tell one."""
    if not classes or not all(BETWEEN in name.strip(BETWEEN) for name in classes):
        return None
    return [name.split(BETWEEN)[0] for name in classes]


def part_overlap(matrices: Int64[np.ndarray, "n k k"], classes: Sequence[str]) -> Json:
    """Figures of clouds, by their confusion of true and predicted classes; nothing where classes tell no categories.
    Clouds without a label, or with parts of several categories, do not count."""
    categories = categories_of(classes)
    if categories is None:
        return {}
    of_category: dict[str, list[float]] = {name: [] for name in dict.fromkeys(categories)}
    for matrix in matrices:
        own = {name for name, count in zip(categories, matrix.sum(axis=1)) if count}
        if len(own) == 1:
            (name,) = own
            of_category[name].append(_mean_of_parts(matrix, [place for place, c in enumerate(categories) if c == name]))
    tested = {name: values for name, values in of_category.items() if values}
    each = [value for values in tested.values() for value in values]
    if not each:
        return {}
    means = {name: float(np.mean(values)) for name, values in tested.items()}
    return {
        "instance_miou": float(np.mean(each)),
        "instance_miou_interval": student(each, 0, 1),
        "category_miou": float(np.mean(list(means.values()))),
        "per_category": [{"name": name, "miou": means[name], "clouds": len(values)} for name, values in tested.items()],
    }


def _mean_of_parts(matrix: Int64[np.ndarray, "k k"], parts: Sequence[int]) -> float:
    right, true, given = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    union = true + given - right
    return float(np.mean([right[part] / union[part] if union[part] else 1.0 for part in parts]))
