"""The page of a detector's folder: its metrics, its detections, its training."""

from pathlib import Path

from markupsafe import Markup

from unmask.files import RESULT, Json, read_json
from unmask.report.page import folded, image, paragraph, section, table
from unmask.report.palette import training_curves
from unmask.report.run_page import SHEET, class_lines, folded_sheet, write_task_page
from unmask.runs.run import CONFIG
from unmask.tasks.detection.evaluate import CURVES, EXAMPLES, box_headline
from unmask.training.log import METRICS, read

NUMBERS = {
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
LOSSES = {"loss": "all", "objectness": "objectness", "proposal_boxes": "proposal boxes", "classes": "classes"}
LOSSES |= {"boxes": "boxes", "masks": "masks"}
SCORES = {"val_map": "mAP", "val_map50": "at overlap 0.5", "val_mask_map": "mask mAP"}
FAULTS = 200  # that are listed one by one
NOT_IN_SHEET = ("faults", "classes", "splits")  # shown elsewhere
MEASURED = (
    "COCO's average precision: the mean over overlaps 0.50 to 0.95. Small objects cover less than 32 x 32 pixels, large"
    " ones more than 96 x 96."
)
CHOSEN = "Test images, spread evenly over the split and not chosen by how good they look."
USE = """unmask predict {name} IMAGES... --out FOLDER

import unmask
for found in unmask.load("{name}").predict(["a.jpg", "b.jpg"]):
    print(found.name, found.names, found.scores, found.boxes)"""


def write_page(out: Path) -> Path:
    """Writes `report.html` from the current contents of the folder; returns its path."""
    config, test, sheet = read_json(out / CONFIG), read_json(out / RESULT).get("test", {}), read_json(out / SHEET)
    settings = config["settings"]
    kind = "boxes and masks" if settings["masks"] == "on" else "boxes"
    size = " x ".join(map(str, settings["input_size"]))
    return write_task_page(
        out,
        noun="detector",
        traits=[kind, settings["model"], f"inputs of {size}"],
        sentence=box_headline(test) if test else None,
        numbers=[(words, f"{test[name]:.3f}") for name, words in NUMBERS.items() if test.get(name) is not None],
        measured=MEASURED,
        results=[
            section(
                "Annotated, and found",
                image(out / EXAMPLES, "annotated boxes beside those found", CHOSEN),
            ),
            section("Per class", table(class_lines(test.get("per_class", []), _shown), ("", "n"))),
            section("Precision and recall", image(out / CURVES, "precision by recall")),
        ],
        curves=training_curves(list(read(out / METRICS)), LOSSES, SCORES, "Training losses", "On the val split"),
        counted="training images",
        data=section(
            "Annotated data",
            table(_box_lines(sheet), ("", "n")),
            _faults(sheet),
            folded_sheet({key: value for key, value in sheet.items() if key not in NOT_IN_SHEET}),
        ),
        use=USE.format(name=out.resolve().name),
    )


def _box_lines(sheet: Json) -> list[list[str]]:
    """Headings, then the number of objects of each class in each split."""
    boxes, images = sheet.get("boxes", {}), sheet.get("images", {})
    splits = [split for split in boxes if images.get(split)]
    if not splits:
        return []
    names = [name for name in boxes[splits[0]] if any(boxes[split][name] for split in splits)]
    lines = [[name, *(f"{boxes[split][name]:,}" for split in splits)] for name in names]
    return [["", *splits], ["images", *(f"{images[split]:,}" for split in splits)], *lines]


def _faults(sheet: Json) -> Markup:
    """The number of objects left out or repaired, and the first few of them."""
    faults = sheet.get("faults", [])
    if not faults:
        return Markup("")
    counts = ", ".join(f"{kind} {count:,}" for kind, count in sheet.get("fault_counts", {}).items())
    more = f" (the first {FAULTS}; data_sheet.json has all {len(faults):,})" if len(faults) > FAULTS else ""
    lines = [("what", "file", "detail"), *((f["kind"], f["file"], f["detail"]) for f in faults[:FAULTS])]
    listed = folded(f"One by one{more}", table(lines, ("", "", "why")))
    return paragraph(f"Left out or mended: {counts}.") + listed


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
