"""report.html of a detector's folder: how good it is, what it finds, how it was trained. One self-contained page."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.files import RESULT, write_atomically
from unmask.report.html import image_address, plan_rows, read_json, sheet_rows, template
from unmask.runs.run import CONFIG, SUMMARY
from unmask.tasks.detection.evaluate import CURVES, EXAMPLES, box_headline
from unmask.training.log import METRICS, clock, read

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
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
SHEET_LEFT_OUT = ("faults", "classes", "splits")


def write_page(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""
    config, test = read_json(out / CONFIG), read_json(out / RESULT).get("test", {})
    sheet, records = read_json(out / "data_sheet.json"), list(read(out / METRICS))
    steps = [r for r in records if "loss" in r and "epoch" in r]
    page = template("detect.html.jinja").render(
        name=out.resolve().name,
        config=config,
        test=test,
        sentence=box_headline(test) if test else None,
        facts=[(words, f"{test[name]:.3f}") for name, words in FACTS.items() if test.get(name) is not None],
        classes=_class_rows(test),
        images={"examples": image_address(out / EXAMPLES), "curves": image_address(out / CURVES)},
        training=image_address(_curves(steps, records)) if steps else None,
        summary=read_json(out / SUMMARY),
        plan=plan_rows(config),
        boxes=_box_rows(sheet),
        faults=sheet.get("faults", [])[:200],
        num_faults=len(sheet.get("faults", [])),
        fault_counts=sheet.get("fault_counts", {}),
        sheet_rows=sheet_rows({k: v for k, v in sheet.items() if k not in SHEET_LEFT_OUT}),
        clock=clock,
    )
    write_atomically(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return out / "report.html"


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]]) -> Figure:
    looks = [r for r in records if "val_map" in r]
    figure = Figure(figsize=(11, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 if looks else 1, squeeze=False)[0]
    axes[0].plot([r["step"] for r in steps], [r["loss"] for r in steps], color="black", lw=1.6, label="all")
    for name, colour in zip(LOSSES, COLOURS):
        points = [(r["step"], r[name]) for r in steps if name in r]
        if points:
            axes[0].plot(*zip(*points), color=colour, lw=1.0, label=name.replace("_", " "))
    axes[0].legend(frameon=False, fontsize=8)
    axes[0].set(xlabel="step", title="Training losses", ylim=(0, None))
    if looks:
        for name, colour in zip(("val_map", "val_map50", "val_mask_map"), COLOURS):
            points = [(r["step"], r[name]) for r in looks if name in r]
            if points:
                words = name.removeprefix("val_").replace("_", " ").replace("map50", "at overlap 0.5")
                axes[1].plot(*zip(*points), "o-", color=colour, ms=3, label=words.replace("map", "mAP"))
        axes[1].legend(frameon=False, fontsize=8)
        axes[1].set(xlabel="step", title="On the val split", ylim=(0, None))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9.5)
    return figure


def _class_rows(test: dict[str, Any]) -> list[list[str]]:
    """Headings, then a row per class that is tested."""
    if not test or not test["per_class"]:
        return []
    keys = list(test["per_class"][0])
    shown = [[str(e[k]) if k in ("name", "count") else _shown(e.get(k)) for k in keys] for e in test["per_class"]]
    return [[key.replace("_", " ") for key in keys], *shown]


def _box_rows(sheet: dict[str, Any]) -> list[list[str]]:
    """Headings, then for each class its objects in each split."""
    boxes, images = sheet.get("boxes", {}), sheet.get("images", {})
    splits = [split for split in boxes if images.get(split)]
    if not splits:
        return []
    names = [name for name in boxes[splits[0]] if any(boxes[split][name] for split in splits)]
    rows = [[name, *(f"{boxes[split][name]:,}" for split in splits)] for name in names]
    return [["", *splits], ["images", *(f"{images[split]:,}" for split in splits)], *rows]


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
