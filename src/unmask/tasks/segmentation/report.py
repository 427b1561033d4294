"""report.html of a segmenter's folder: how good it is, where it errs, how it was trained. One self-contained page."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.files import RESULT, write_atomically
from unmask.report.html import image_address, plan_rows, read_json, sheet_rows, template
from unmask.runs.run import CONFIG, SUMMARY
from unmask.tasks.segmentation.figures import CLASSES, CONFUSION, OVERLAYS, headline
from unmask.training.log import METRICS, clock, read

BLUE, ORANGE = "#0072B2", "#D55E00"
FACTS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean class accuracy"}
IMAGES = {"overlays": OVERLAYS, "classes": CLASSES, "confusion": CONFUSION, "labels": "labels.png"}


def write_page(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""
    config, result, sheet = read_json(out / CONFIG), read_json(out / RESULT), read_json(out / "data_sheet.json")
    records = list(read(out / METRICS))
    steps = [r for r in records if "loss" in r and "epoch" in r]
    test = result.get("test", {})
    page = template("segment.html.jinja").render(
        name=out.resolve().name,
        config=config,
        test=test,
        sentence=headline(test, config["classes"]) if test else None,
        facts=[(words, f"{100 * test[name]:.1f} %") for name, words in FACTS.items() if test],
        classes=_rows(test, sheet),
        images={name: image_address(out / file) for name, file in IMAGES.items()},
        curves=image_address(_curves(steps, records)) if steps else None,
        summary=read_json(out / SUMMARY),
        plan=plan_rows(config),
        left_out=sheet.get("left_out", [])[:40],
        sheet_rows=sheet_rows({k: v for k, v in sheet.items() if k != "pixel_shares"}),  # they are in the table above
        clock=clock,
    )
    write_atomically(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return out / "report.html"


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> Figure:
    looks = [r for r in records if "val_miou" in r]
    figure = Figure(figsize=(11, 3.2), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 if looks else 1, squeeze=False)[0]
    axes[0].plot([r["step"] for r in steps], [r["loss"] for r in steps], color=BLUE, lw=1.6)
    axes[0].set(xlabel="step", title="Training loss (on augmented crops)")
    if looks:
        axes[1].plot([r["step"] for r in looks], [100 * r["val_miou"] for r in looks], "o-", color=ORANGE, ms=3)
        axes[1].set(xlabel="step", title="mIoU on the val split, %")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9.5)
    return figure


def _rows(test: dict[str, Any], sheet: dict[str, Any]) -> list[list[str]]:
    """Headings, then a row per class: what was learnt from, what came out."""
    if not test:
        return []
    trained = sheet.get("pixel_shares", {}).get("train", {})
    head = ["class", "number", "share in train", "share in test", "share answered", "IoU", "accuracy"]
    rows = []
    for entry in test["per_class"]:
        shares = [trained.get(entry["name"]), entry["share"], entry["answered"]]
        judged = ["not tested" if v is None else f"{100 * v:.1f} %" for v in (entry["iou"], entry["accuracy"])]
        number = str(sheet.get("class_numbers", {}).get(entry["name"], ""))
        rows.append([entry["name"], number, *(f"{100 * (v or 0):.2f} %" for v in shares), *judged])
    return [head, *rows]
