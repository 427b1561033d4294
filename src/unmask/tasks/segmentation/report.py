"""The page of a segmenter's folder: its metrics, its mistakes, its training."""

from pathlib import Path

from unmask.files import RESULT, Json, read_json
from unmask.report.page import folded, image, paragraph, section, table
from unmask.report.palette import training_curves
from unmask.report.run_page import SHEET, folded_sheet, write_task_page
from unmask.report.words import percent
from unmask.runs.run import CONFIG
from unmask.tasks.segmentation.figures import CLASSES, CONFUSION, OVERLAYS, headline
from unmask.tasks.segmentation.volumes.figures import headline as volume_headline
from unmask.training.log import METRICS, read

NUMBERS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean class accuracy"}
OF_VOLUMES = {"dice": "Dice", "miou": "mIoU", "pixel_accuracy": "voxel accuracy"}
MEASURED = (
    "All figures come from one confusion matrix over all of its pixels; pixels of no class are left out. Means are over"
    " the classes that its truth shows."
)
CHOSEN = "From the test split: the best, the middle and the worst by share of right pixels."
MEASURED_DICE = (
    "Dice is measured on each whole volume, at the resolution of its file, and averaged over the volumes; a class that"
    " neither the truth nor the prediction of a volume has does not count there. mIoU and accuracy come from one"
    " confusion matrix over all voxels. Voxels of no class are left out."
)
CHOSEN_DICE = "From the test split: the best, the middle and the worst by Dice. Solid: predicted; dashed: truth."
USE = """unmask predict {name} {places}... --out FOLDER

import unmask
found = unmask.load("{name}").predict({files})
found.maps, found.classes, found.shares()"""


def write_page(out: Path) -> Path:
    """Writes `report.html` from the current contents of the folder; returns its path."""
    config, test, sheet = read_json(out / CONFIG), read_json(out / RESULT).get("test", {}), read_json(out / SHEET)
    settings = config["settings"]
    left_out = sheet.get("left_out", [])[:40]
    shares = {"pixel_shares"}  # they are in the table of classes
    volumes = "share" in settings
    numbers, score = (OF_VOLUMES, "dice") if volumes else (NUMBERS, "miou")
    return write_task_page(
        out,
        noun="segmenter",
        traits=[settings["model"], f"{settings['head']} head"],
        sentence=(volume_headline if volumes else headline)(test, config["classes"]) if test else None,
        numbers=[(words, percent(test[name])) for name, words in numbers.items() if test],
        measured=MEASURED_DICE if volumes else MEASURED,
        results=[
            section("Volumes", image(out / OVERLAYS, "slices with contours", CHOSEN_DICE))
            if volumes
            else section("Images", image(out / OVERLAYS, "images, truth, answers and wrong pixels", CHOSEN)),
            section(
                "Per class",
                image(out / CLASSES, "Dice per class" if volumes else "intersection over union per class"),
                folded("As a table", table(_class_lines(test, sheet), ("", "n"))),
            ),
            section("Confusion", image(out / CONFUSION, "confusion matrix of pixels")),
            section(
                "What are labels worth?",
                image(out / "labels.png", f"{numbers[score]} against the number of training images"),
            ),
        ],
        curves=training_curves(
            list(read(out / METRICS)),
            {"loss": "loss"},
            {f"val_{score}": numbers[score]},
            "Training loss (on augmented crops)",
            f"{numbers[score]} on the val split, %",
            scale=100,
        ),
        counted="segmented volumes" if volumes else "segmented images",
        data=section(
            "Segmented data",
            paragraph("Left out:" if left_out else ""),
            table(left_out, heading=False),
            folded_sheet({key: value for key, value in sheet.items() if key not in shares}),
        ),
        use=USE.format(
            name=out.resolve().name,
            places="VOLUMES" if volumes else "IMAGES",
            files='["a.nii.gz", "b.nii.gz"]' if volumes else '["a.jpg", "b.jpg"]',
        ),
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
