"""COCO's mean average precision of boxes and masks, by torchmetrics. Lin et al. 2014.

Average precision is the mean over ten overlaps, 0.50 to 0.95. Objects below 32 x 32 pixels of the image are small,
those above 96 x 96 large.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from unmask.data.annotations.objects import Target
from unmask.files import Json
from unmask.tasks.detection.detections import Detections

KINDS = {"bbox": "box", "segm": "mask"}  # COCO's names -> those in figures
WHOLE = {"map": "map", "map_50": "map50", "map_75": "map75"}
SIZES = ("small", "medium", "large")
RECALLS = np.linspace(0, 1, 101)  # at which precision is known


def box_scores(
    detections: Sequence[Detections], truth: Iterable[Target], classes: Sequence[str], masks: bool = False
) -> tuple[Json, dict[str, np.ndarray]]:
    """Metrics from 0 to 1, None without ground truth; and precision by recall (0, 0.01, ..., 1) of every class that
    occurs, for boxes at an overlap of 0.5.

    "main" is "map", of boxes. With masks, their metrics are included as "mask_map" and so on.
    """
    from torchmetrics.detection import MeanAveragePrecision  # takes seconds to import: not before it is needed

    kinds = ("bbox", "segm") if masks else ("bbox",)
    metric = MeanAveragePrecision(iou_type=kinds, extended_summary=True, backend="faster_coco_eval")
    metric.warn_on_many_detections = False
    counts: Counter[int] = Counter()
    for own, true in zip(detections, truth, strict=True):  # one by one: whole masks of a split would fill the memory
        metric.update([_found(own, masks)], [_true(true, masks)])
        counts.update(true.labels[~true.crowd].tolist())
    raw = metric.compute()
    result: Json = {"main": "map", "count": len(detections), "objects": sum(counts.values()), "masks": masks}
    curves: dict[str, np.ndarray] = {}
    class_numbers = [int(c) for c in raw["classes"].view(-1)]
    per_class: dict[int, Json] = {c: {"name": classes[c], "count": counts[c]} for c in sorted(class_numbers)}
    for kind in kinds:
        before = f"{kind}_" if len(kinds) > 1 else ""
        after = "" if kind == "bbox" else "mask_"
        for name, ours in WHOLE.items():
            result[after + ours] = _share(raw[before + name])
        for size in SIZES:
            result[f"{after}{size}"] = _share(raw[f"{before}map_{size}"])
        result[f"{after}recall"] = _share(raw[f"{before}mar_100"])
        precision = raw[f"{before}precision"].numpy()  # overlaps, recalls, classes, areas, most detections
        for place, c in enumerate(class_numbers):
            for area, size in enumerate(("", *SIZES)):
                per_class[c][after + (size or "ap")] = _mean(precision[:, :, place, area, -1])
            per_class[c][f"{after}ap50"] = _mean(precision[0, :, place, 0, -1])
        if kind == "bbox":
            curves = {classes[c]: precision[0, :, place, 0, -1] for place, c in enumerate(class_numbers) if counts[c]}
    result["per_class"] = [entry for entry in per_class.values() if entry["count"]]
    return result, curves


def _found(detections: Detections, masks: bool) -> dict[str, Tensor]:
    fields = {
        "boxes": torch.from_numpy(detections.boxes),
        "labels": torch.from_numpy(detections.labels),
        "scores": torch.from_numpy(detections.scores),
    }
    drawn = detections.masks
    return fields | ({"masks": torch.from_numpy(drawn)} if masks and drawn is not None else {})


def _true(target: Target, masks: bool) -> dict[str, Tensor]:
    fields = {"boxes": target.boxes, "labels": target.labels, "iscrowd": target.crowd.int()}
    return fields | ({"masks": target.masks.bool()} if masks and target.masks is not None else {})


def _share(value: Tensor) -> float | None:
    """A share; None for COCO's -1, which means that there is no ground truth."""
    return float(value) if float(value) >= 0 else None


def _mean(values: np.ndarray) -> float | None:
    defined = values[values >= 0]
    return float(defined.mean()) if len(defined) else None
