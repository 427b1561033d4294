"""The page of a classifier's folder: its accuracy, its mistakes, its training."""

from pathlib import Path

from markupsafe import Markup

from unmask.files import RESULT, read_json
from unmask.report.page import folded, image, section, table, verdict
from unmask.report.palette import training_curves
from unmask.report.run_page import SHEET, class_lines, folded_sheet, write_task_page
from unmask.report.words import percent
from unmask.runs.run import CONFIG
from unmask.tasks.classification.figures import CLASSES, CONFUSION, MISTAKES, headline
from unmask.training.log import METRICS, read

NUMBERS = {
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
MEASURED = (
    "Intervals are 95 % (Wilson, over test samples). The calibration error is the mean gap between how sure the"
    " classifier is and how often it is right (15 bins)."
)
USE = """unmask predict {name} IMAGES... --out predictions.csv

import unmask
predictions = unmask.load("{name}").predict(["a.jpg", "b.jpg"])
predictions.labels, predictions.probabilities"""


def write_page(out: Path) -> Path:
    """Writes `report.html` from the current contents of the folder; returns its path."""
    config, test = read_json(out / CONFIG), read_json(out / RESULT).get("test", {})
    records = list(read(out / METRICS))
    score = next((name for record in records for name in ("val_accuracy", "val_auroc") if name in record), "val_score")
    name = score.removeprefix("val_")
    counts = [(text, f"{count:,} training images") for text, count in config["data"]["counts"].items()]
    mistakes = "On the test split, the most confident first. Some may be wrong labels."
    return write_task_page(
        out,
        noun="classifier",
        traits=[config["settings"]["model"]],
        sentence=headline(test, config["classes"]) if test else None,
        numbers=[(words, _shown(test[key])) for key, words in NUMBERS.items() if test.get(key) is not None],
        measured=MEASURED,
        results=[
            section("Confusion", image(out / CONFUSION, "confusion matrix")),
            section(
                "Per class",
                image(out / CLASSES, "per class"),
                folded("As a table", table(class_lines(test.get("per_class", []), _shown), ("", "n"))),
            ),
            section(
                "The most confident mistakes",
                image(out / MISTAKES, "gallery of confident mistakes", mistakes),
            ),
            _robustness(out),
        ],
        curves=training_curves(
            records,
            {"loss": "loss"},
            {score: name},
            "Training loss (with augmentation and label smoothing)",
            f"{name} on the val split, %",
            scale=100,
        ),
        counted="labelled images",
        data=section(
            "Labelled data",
            table(counts, kinds=("", "n"), heading=False),
            folded_sheet(read_json(out / SHEET)),
        ),
        use=USE.format(name=out.resolve().name),
    )


def _robustness(out: Path) -> Markup:
    stress = read_json(out / "stress.json")
    if not stress:
        return Markup("")
    return section(
        "How robust is it?",
        verdict(stress["sentence"]),
        image(out / "stress.png", "accuracy under each corruption and severity"),
        image(
            out / "stress_examples.png",
            "one image under every corruption",
            "One test image as it was damaged, with the answer it got (orange: wrong).",
        ),
        folded("As a table, in percent", table(stress["table"], ("", "n"))),
    )


def _shown(share: float | None) -> str:
    return "not tested" if share is None else percent(share)
