"""report.html of a segmenter's folder: how good it is, where it errs, how it was trained. One self-contained page."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.tasks.page import draw_curves, percent, write_task_page
from unmask.tasks.segmentation.figures import CLASSES, CONFUSION, OVERLAYS, headline

FACTS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean class accuracy"}
IMAGES = {"overlays": OVERLAYS, "classes": CLASSES, "confusion": CONFUSION, "labels": "labels.png"}
NOT_LISTED = ("pixel_shares",)  # they are in the table of classes


def write_segmenter_report(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""

    def own(test: dict[str, Any], sheet: dict[str, Any]) -> dict[str, Any]:
        facts = [(words, percent(test[name])) for name, words in FACTS.items() if test]
        return {"facts": facts, "classes": _class_rows(test, sheet), "left_out": sheet.get("left_out", [])[:40]}

    return write_task_page(out, "segment.html.jinja", headline, IMAGES, _curves, own, NOT_LISTED)


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> Figure:
    titles = ("Training loss (on augmented crops)", "mIoU on the val split, %")
    return draw_curves(steps, records, {"loss": "loss"}, {"val_miou": "mIoU"}, titles)


def _class_rows(test: dict[str, Any], sheet: dict[str, Any]) -> list[list[str]]:
    """Headings, then a row per class: what was learnt from, what came out."""
    if not test:
        return []
    trained = sheet.get("pixel_shares", {}).get("train", {})
    head = ["class", "number", "share in train", "share in test", "share answered", "IoU", "accuracy"]
    rows = []
    for entry in test["per_class"]:
        shares = [trained.get(entry["name"]), entry["share"], entry["answered"]]
        number = str(sheet.get("class_numbers", {}).get(entry["name"], ""))
        judged = [percent(entry["iou"]), percent(entry["accuracy"])]
        rows.append([entry["name"], number, *(f"{100 * (share or 0):.2f} %" for share in shares), *judged])
    return [head, *rows]
