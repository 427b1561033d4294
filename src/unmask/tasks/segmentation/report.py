"""The page of a segmenter's folder: its metrics, its mistakes, its training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unmask.data.modality import IMAGE, make_modality
from unmask.files import RESULT, Json, read_json
from unmask.report.page import folded, image, paragraph, section, table
from unmask.report.palette import training_curves
from unmask.report.run_page import SHEET, folded_sheet, write_task_page
from unmask.report.words import percent
from unmask.runs.run import CONFIG
from unmask.tasks.segmentation.figures import CLASSES, CONFUSION, OVERLAYS, headline
from unmask.tasks.segmentation.points.figures import headline as cloud_headline
from unmask.tasks.segmentation.volumes.figures import headline as volume_headline
from unmask.training.log import METRICS, read


@dataclass(frozen=True)
class Words:
    """How the results on one kind of data are told."""

    sample: str
    numbers: Mapping[str, str]  # of metrics.json, and what people call them; the first is the score
    measured: str
    shown: str  # what the drawn samples are
    chosen: str  # which they are
    per_class: str
    unit: str
    files: str  # as `predict` takes them, in Python
    headline: Callable[[Json, list[str]], str] = headline

    @property
    def score(self) -> str:
        return next(iter(self.numbers))


ONE_MATRIX = (
    "All figures come from one confusion matrix over all of its {unit}s; {unit}s of no class are left out. Means are"
    " over the classes that its truth shows."
)
CHOSEN = "From the test split: the best, the middle and the worst by share of right {unit}s."
IOU = "intersection over union per class"
WORDS = {
    "pixel": Words(
        "image",
        {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean class accuracy"},
        ONE_MATRIX.format(unit="pixel"),
        "images, truth, answers and wrong pixels",
        CHOSEN.format(unit="pixel"),
        IOU,
        "pixel",
        '["a.jpg", "b.jpg"]',
    ),
    "voxel": Words(
        "volume",
        {"dice": "Dice", "miou": "mIoU", "pixel_accuracy": "voxel accuracy"},
        "Dice is measured on each whole volume, at the resolution of its file, and averaged over the volumes; a class"
        " that neither the truth nor the prediction of a volume has does not count there. mIoU and accuracy come from"
        " one confusion matrix over all voxels. Voxels of no class are left out.",
        "slices with contours",
        "From the test split: the best, the middle and the worst by Dice. Solid: predicted; dashed: truth.",
        "Dice per class",
        "voxel",
        '["a.nii.gz", "b.nii.gz"]',
        volume_headline,
    ),
    "point": Words(
        "cloud",
        {
            "miou": "mIoU",
            "cloud_miou": "mean over clouds",
            "pixel_accuracy": "point accuracy",
            "mean_accuracy": "mean class accuracy",
        },
        ONE_MATRIX.format(unit="point") + " The mean over clouds is of each cloud's own mIoU, over the classes that its"
        " truth or its prediction has. Intervals are over test clouds.",
        "clouds, truth, answers and wrong points",
        CHOSEN.format(unit="point"),
        IOU,
        "point",
        '["a.ply", "b.ply"]',
        cloud_headline,
    ),
}
USE = """unmask predict {name} {places}... --out FOLDER

import unmask
found = unmask.load("{name}").predict({files})
found.maps, found.classes, found.shares()"""


def write_page(out: Path) -> Path:
    """Writes `report.html` from the current contents of the folder; returns its path."""
    config, test, sheet = read_json(out / CONFIG), read_json(out / RESULT).get("test", {}), read_json(out / SHEET)
    settings, words = config["settings"], WORDS[make_modality(config.get("modality", IMAGE)).labelled]
    left_out = sheet.get("left_out", [])[:40]
    shares = {"pixel_shares"}  # they are in the table of classes
    score = words.numbers[words.score]
    return write_task_page(
        out,
        noun="segmenter",
        traits=[settings["model"], f"{settings['head']} head"],
        sentence=words.headline(test, config["classes"]) if test else None,
        numbers=[(called, percent(test[name])) for name, called in words.numbers.items() if test],
        measured=words.measured,
        results=[
            section(f"{words.sample.capitalize()}s", image(out / OVERLAYS, words.shown, words.chosen)),
            section(
                "Per class",
                image(out / CLASSES, words.per_class),
                folded("As a table", table(_class_lines(test, sheet), ("", "n"))),
            ),
            section("Confusion", image(out / CONFUSION, f"confusion matrix of {words.unit}s")),
            section(
                "What are labels worth?",
                image(out / "labels.png", f"{score} against the number of training {words.sample}s"),
            ),
        ],
        curves=training_curves(
            list(read(out / METRICS)),
            {"loss": "loss"},
            {f"val_{words.score}": score},
            "Training loss (on augmented crops)",
            f"{score} on the val split, %",
            scale=100,
        ),
        counted=f"segmented {words.sample}s",
        data=section(
            "Segmented data",
            paragraph("Left out:" if left_out else ""),
            table(left_out, heading=False),
            folded_sheet({key: value for key, value in sheet.items() if key not in shares}),
        ),
        use=USE.format(name=out.resolve().name, places=f"{words.sample.upper()}S", files=words.files),
    )


def _class_lines(test: Json, sheet: Json) -> list[list[str]]:
    """Headings, then a row per class: its share of the training data, its scores."""
    if not test:
        return []
    trained = sheet.get("pixel_shares", {}).get("train", {})
    figures = ("dice", "iou", "accuracy") if "dice" in test else ("iou", "accuracy")
    heads = {"dice": "Dice", "iou": "IoU", "accuracy": "accuracy"}
    lines = [["class", "number", "share in train", "share in test", "share predicted", *(heads[f] for f in figures)]]
    for entry in test["per_class"]:
        shares = [trained.get(entry["name"]), entry["share"], entry["answered"]]
        scores = ["not tested" if entry[f] is None else percent(entry[f]) for f in figures]
        number = str(sheet.get("class_numbers", {}).get(entry["name"], ""))
        lines.append([entry["name"], number, *(f"{100 * (v or 0):.2f} %" for v in shares), *scores])
    return lines
