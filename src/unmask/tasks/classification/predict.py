"""What a classifier says of images, as a table: read them, write a row for each."""

import csv
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import each_once
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import DataError, UserError
from unmask.files import write_atomically
from unmask.models.classifier import Classifier, Predictions
from unmask.plain import texts
from unmask.runs.run import open_classifier
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import tracked
from unmask.tasks.classification.finetune import answers

SHOWN = 10  # rows on the screen


def predict_classes(options: Any, folder: Path, console: Console) -> Predictions:
    """The work of `unmask predict` with the classifier in `folder`."""
    out = Path(options.out or "predictions.csv")
    here = machine(options.device, "32")  # the same answers everywhere, and as those of Classifier.predict
    if out.suffix.lower() != ".csv":
        raise UserError(f"predictions are written as .csv, by the file's ending; got {out.name!r}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file that ends in .csv")
    tune(here.device)
    classifier = open_classifier(folder).to(here.device)
    samples = _read(options, classifier)
    loader = each_once(samples, classifier.view, options.batch)
    found = answers(classifier, tracked(console, "predicting", loader, len(loader)), here.device, None)
    predictions = Predictions(samples.names, classifier.classes, found, classifier.multi_label)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(predictions, out)
    for name, label, row in list(zip(samples.names, _texts(predictions), found))[:SHOWN]:
        console.print(f"{name}: {label or 'none'} ({row.max():.1%})", soft_wrap=True, markup=False)
    if len(samples) > SHOWN:
        console.print(f"... and {len(samples) - SHOWN:,} more")
    console.print(f"{len(samples):,} predictions: {out}", soft_wrap=True)
    return predictions


def write_predictions(predictions: Predictions, path: Path, truth: list[str] | None = None) -> None:
    """Columns: path, label (several are joined by |), with `truth` also the true label, then one per class."""

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", "label", *(["true"] if truth else []), *predictions.classes])
            for place, (name, label) in enumerate(zip(predictions.names, _texts(predictions))):
                known = [truth[place]] if truth else []
                table.writerow([name, label, *known, *(f"{p:.6f}" for p in predictions.probabilities[place])])

    write_atomically(path, write)


def _texts(predictions: Predictions) -> list[str]:
    return ["|".join(label) if isinstance(label, list) else label for label in predictions.labels]


def _read(options: Any, classifier: Classifier) -> Samples:
    """Images that can be read; bad ones are said and left out, unless none is good."""
    source, side = open_source(texts(options.images)), decode_side(classifier.encoder.grid.size)
    indices = list(range(len(source.items)))
    sheet, cache = inspect(source, max_side=side, limit=len(indices), keep_bytes=2**31)
    if len(sheet.bad) == len(indices):
        reasons = "; ".join(f"{name}: {reason}" for _, name, reason in sheet.bad[:3])
        raise DataError(f"no image could be read: {reasons}{'; ...' if len(indices) > 3 else ''}")
    for _, name, reason in sheet.bad:
        print(f"left out: {name}: {reason}")
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in indices if i not in bad]
    channels = classifier.encoder.channels
    sheet.statistics(channels)  # refuses images that cannot be brought to these channels
    return Samples(source, good, channels=channels, max_side=side, cache=cache)
