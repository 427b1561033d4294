"""report.html of a classifier's folder: how good it is, where it errs, how it was trained. One self-contained page."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.files import read_json
from unmask.tasks.classification.figures import CLASSES, CONFUSION, MISTAKES, headline
from unmask.tasks.page import class_table, draw_curves, percent, write_task_page

FACTS = {
    "accuracy": "accuracy",
    "top5": "top-5 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "average_precision": "average precision, mean",
    "f1": "F1, mean over classes",
    "f1_micro": "F1 over all labels",
    "exact_match": "all labels right",
    "calibration_error": "calibration error",
}
IMAGES = {"confusion": CONFUSION, "mistakes": MISTAKES, "classes": CLASSES}
IMAGES |= {"stress": "stress.png", "stress_examples": "stress_examples.png"}


def write_classifier_report(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""

    def own(test: dict[str, Any], sheet: dict[str, Any]) -> dict[str, Any]:
        facts = [(words, percent(test[name])) for name, words in FACTS.items() if test.get(name) is not None]
        return {"facts": facts, "classes": class_table(test, percent), "stress": read_json(out / "stress.json")}

    return write_task_page(out, "classify.html.jinja", headline, IMAGES, _curves, own)


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> Figure:
    score = "AUROC" if any("val_auroc" in record for record in records) else "accuracy"
    titles = ("Training loss (with augmentation and label smoothing)", f"{score} on the val split, %")
    return draw_curves(steps, records, {"loss": "loss"}, {f"val_{score.lower()}": score}, titles)
