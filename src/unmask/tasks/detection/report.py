"""report.html of a detector's folder: how good it is, what it finds, how it was trained. One self-contained page."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.tasks.detection.evaluate import CURVES, EXAMPLES, box_headline
from unmask.tasks.page import class_table, draw_curves, write_task_page

FACTS = {
    "map": "mAP of boxes",
    "map50": "at overlap 0.5",
    "map75": "at overlap 0.75",
    "small": "small objects",
    "medium": "medium objects",
    "large": "large objects",
    "recall": "recall, 100 boxes",
    "mask_map": "mAP of masks",
    "mask_map50": "masks at 0.5",
    "mask_map75": "masks at 0.75",
}
LOSSES = ("objectness", "proposal_boxes", "classes", "boxes", "masks")
SCORES = {"val_map": "mAP", "val_map50": "at overlap 0.5", "val_mask_map": "mask mAP"}
IMAGES = {"examples": EXAMPLES, "curves": CURVES}
NOT_LISTED = ("faults", "classes", "splits")


def write_detector_report(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""
    return write_task_page(out, "detect.html.jinja", box_headline, IMAGES, _curves, _own, NOT_LISTED)


def _own(test: dict[str, Any], sheet: dict[str, Any]) -> dict[str, Any]:
    faults = sheet.get("faults", [])
    return {
        "facts": [(words, f"{test[name]:.3f}") for name, words in FACTS.items() if test.get(name) is not None],
        "classes": class_table(test, lambda value: "none" if value is None else f"{value:.3f}"),
        "boxes": _box_rows(sheet),
        "faults": faults[:200],
        "num_faults": len(faults),
        "fault_counts": sheet.get("fault_counts", {}),
    }


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> Figure:
    losses = {"loss": "all"} | {name: name.replace("_", " ") for name in LOSSES}
    return draw_curves(steps, records, losses, SCORES, ("Training losses", "On the val split, %"))


def _box_rows(sheet: dict[str, Any]) -> list[list[str]]:
    """Headings, then for each class its objects in each split."""
    boxes, images = sheet.get("boxes", {}), sheet.get("images", {})
    splits = [split for split in boxes if images.get(split)]
    if not splits:
        return []
    names = [name for name in boxes[splits[0]] if any(boxes[split][name] for split in splits)]
    rows = [[name, *(f"{boxes[split][name]:,}" for split in splits)] for name in names]
    return [["", *splits], ["images", *(f"{images[split]:,}" for split in splits)], *rows]
