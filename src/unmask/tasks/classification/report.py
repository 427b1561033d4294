"""report.html of a classifier's folder: how good it is, where it errs, how it was trained. One self-contained page."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.files import RESULT, write_atomically
from unmask.report.html import image_address, plan_rows, read_json, sheet_rows, template
from unmask.runs.run import CONFIG, SUMMARY
from unmask.tasks.classification.figures import CLASSES, CONFUSION, MISTAKES, headline
from unmask.training.log import METRICS, clock, read

BLUE, ORANGE = "#0072B2", "#D55E00"
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


def write_page(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""
    config, result = read_json(out / CONFIG), read_json(out / RESULT)
    records = list(read(out / METRICS))
    steps = [r for r in records if "loss" in r and "epoch" in r]
    test = result.get("test", {})
    page = template("classify.html.jinja").render(
        name=out.resolve().name,
        config=config,
        test=test,
        sentence=headline(test, config["classes"]) if test else None,
        facts=[(words, _shown(test[name])) for name, words in FACTS.items() if test.get(name) is not None],
        classes=_class_rows(test),
        images={n: image_address(out / file) for n, file in _images().items()},
        curves=image_address(_curves(steps, records)) if steps else None,
        summary=read_json(out / SUMMARY),
        plan=plan_rows(config),
        sheet_rows=sheet_rows(read_json(out / "data_sheet.json")),
        stress=read_json(out / "stress.json"),
        clock=clock,
    )
    write_atomically(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return out / "report.html"


def _images() -> dict[str, str]:
    return {"confusion": CONFUSION, "mistakes": MISTAKES, "classes": CLASSES, "stress": "stress.png"} | {
        "stress_examples": "stress_examples.png"
    }


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> Figure:
    looks = [r for r in records if "val_accuracy" in r or "val_auroc" in r]
    figure = Figure(figsize=(11, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 if looks else 1, squeeze=False)[0]
    axes[0].plot([r["step"] for r in steps], [r["loss"] for r in steps], color=BLUE, lw=1.6)
    axes[0].set(xlabel="step", title="Training loss (with augmentation and label smoothing)")
    if looks:
        key = "val_accuracy" if "val_accuracy" in looks[0] else "val_auroc"
        axes[1].plot([r["step"] for r in looks], [100 * r[key] for r in looks], "o-", color=ORANGE, ms=3)
        axes[1].set(xlabel="step", title=f"{key.removeprefix('val_')} on the val split, %")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9.5)
    return figure


def _class_rows(test: dict[str, Any]) -> list[list[str]]:
    """Headings, then a row per class."""
    if not test:
        return []
    keys = list(test["per_class"][0])
    shown = [
        [_shown(entry[k]) if k not in ("name", "count") else str(entry[k]) for k in keys] for entry in test["per_class"]
    ]
    return [[key.replace("_", " ") for key in keys], *shown]


def _shown(value: float | None) -> str:
    return "not tested" if value is None else f"{100 * value:.1f} %"
