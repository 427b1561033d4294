"""The command `stress`: open the classifier, read the test images once, corrupt and classify them, draw, report."""

from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from unmask.cli.continue_run import own
from unmask.cli.options.stress import StressTest
from unmask.cli.outputs import require_folder, say_replaced
from unmask.cli.verb import verb
from unmask.evaluation.intervals import wilson
from unmask.evaluation.one_class import one_class
from unmask.files import CLASSIFY, write_json, write_table
from unmask.models.state import weights_hash
from unmask.plain import numbers, plain, texts
from unmask.runs.run import CONFIG
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import doing, make_console
from unmask.studies.robustness.bench import Bench, FinishedCells, compute_missing
from unmask.studies.robustness.by_image import BY_IMAGE, COLUMNS, RESULT
from unmask.studies.robustness.corrupt import CORRUPTIONS, require_corruption
from unmask.studies.robustness.figures import draw_examples, draw_stress
from unmask.studies.robustness.results import Stress, make_cell, rows, table
from unmask.studies.robustness.test_images import read_evaluation_set
from unmask.tasks.classification.metrics import scores
from unmask.tasks.open import open_classifier
from unmask.tasks.pages import write_report
from unmask.weights.content import CLASSIFIER

__all__ = ["stress"]

IMAGE, EXAMPLES, CELLS = "stress.png", "stress_examples.png", "stress_cells.json"
SHOWN = 3  # severity of the examples, where it is among those tested


@verb(StressTest)
def stress(options: StressTest) -> Stress:
    """Tests under every corruption and severity; writes stress.json, stress.png, stress_examples.png, stress_images.csv
    (for `audit`) and the report.

    An interrupted test resumes where it stopped. Raises UserError for a folder without a classifier, an unknown
    corruption, or classes that the classifier does not have; DataError for images without labels.
    """
    console, hardware = make_console(), machine(options.device, "32")
    tune(hardware.device)
    names, folder = _corruptions(texts(options.corruptions)), _classifier_folder(Path(options.run))
    out = require_folder(Path(options.out or folder))
    own(out, "stress", texts(options.on), within=True)
    say_replaced([out / RESULT, out / IMAGE, out / EXAMPLES, out / BY_IMAGE], console)
    classifier = open_classifier(folder)
    images = read_evaluation_set(texts(options.on), folder, classifier, options.most, options.seed, console)
    out.mkdir(parents=True, exist_ok=True)

    device = torch.device(hardware.device)
    bench = Bench(classifier.to(device), images, device, options.batch, options.seed, hardware.cores)
    doing("testing on clean images")
    clean = bench.clean()
    right = images.right(clean)
    console.print(f"Clean accuracy {100 * right.mean():.1f} % on {len(images):,} test images.", soft_wrap=True)
    cells = FinishedCells(out / CELLS, bench, lambda text: console.print(text, soft_wrap=True))
    keys = [(name, severity) for name in names for severity in numbers(options.severities)]
    compute_missing(bench, keys, cells, console)

    damaged = {key: cells.right(key) for key in keys}
    low, high = wilson(int(right.sum()), len(right))
    clean_scores = scores(clean, images.truth, classifier.classes)
    result = Stress(
        count=len(images),
        classes=classifier.classes,
        multi_label=classifier.multi_label,
        accuracy=float(right.mean()),
        low=low,
        high=high,
        balanced_accuracy=clean_scores.get("balanced_accuracy"),
        cells=[make_cell(*key, right, right_now) for key, right_now in damaged.items()],
        settings=plain(options),
        one_class="" if classifier.multi_label else one_class(clean_scores["confusion"], classifier.classes),
    )
    doing("drawing the results")
    shares = np.mean(list(damaged.values()), axis=0)
    lines = [[name, int(is_right), f"{share:.6f}"] for name, is_right, share in zip(images.names, right, shares)]
    write_table(out / BY_IMAGE, COLUMNS, lines)
    _write(result, bench, clean, names, out)
    _say(result, out, console)
    return result


def _corruptions(chosen: tuple[str, ...]) -> list[str]:
    """The chosen corruptions, or all, in the order of the tables."""
    for name in chosen:
        require_corruption(name)
    return [name for name in CORRUPTIONS if name in chosen or not chosen]


def _classifier_folder(folder: Path) -> Path:
    """The folder given, or `classify` in it."""
    inside = folder / CLASSIFY
    return inside if not (folder / CLASSIFIER).exists() and (inside / CLASSIFIER).exists() else folder


def _write(result: Stress, bench: Bench, clean: np.ndarray, names: list[str], out: Path) -> None:
    write_json(out / RESULT, result.to_json() | {"weights": weights_hash(bench.classifier)})
    draw_stress(result, out / IMAGE)
    severity = min(result.severities, key=lambda s: (abs(s - SHOWN), s))
    row = _example(bench, clean)
    examples = [bench.images.pixels[row], *(bench.damaged(row, name, severity) for name in names)]
    probabilities = bench.probabilities([image] for image in examples)
    right = bench.images.at([row] * len(examples)).right(probabilities).tolist()
    titles = ["clean", *(f"{name.replace('_', ' ')}, {severity}" for name in names)]
    draw_examples(examples, titles, list(zip(_answers(result, probabilities), right)), out / EXAMPLES)
    if (out / CONFIG).exists():
        write_report(out)


def _example(bench: Bench, clean: np.ndarray) -> int:
    """A test image that is classified correctly when clean, with the median confidence among those."""
    right = np.flatnonzero(bench.images.right(clean))
    if not len(right):
        return 0
    confidence = clean[right].max(axis=1)
    return int(right[np.argsort(confidence, kind="stable")[len(confidence) // 2]])


def _answers(result: Stress, probabilities: np.ndarray) -> list[str]:
    if result.multi_label:
        names = [[result.classes[i] for i in np.flatnonzero(row > 0.5)] for row in probabilities]
        return [", ".join(labels) or "none" for labels in names]
    return [f"{result.classes[row.argmax()]} {100 * row.max():.0f} %" for row in probabilities]


def _say(result: Stress, out: Path, console: Console) -> None:
    console.print(table("Accuracy in percent", rows(result)))
    console.print(result.sentence(), soft_wrap=True)
    console.print(f"Written: {out / RESULT}, {out / IMAGE}, {out / EXAMPLES}, {out / BY_IMAGE}", soft_wrap=True)
