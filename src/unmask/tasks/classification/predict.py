"""Predictions of a classifier as a table, one row per image."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import each_once
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError
from unmask.files import Json, write_atomically
from unmask.runtime.progress import tracked
from unmask.tasks.classification.classifier import ImagePredictor, Predictions
from unmask.tasks.classification.finetune import answers
from unmask.tasks.prediction import say_first, say_left_out
from unmask.tasks.task import PredictOptions


def predictions_place(out: Path | None) -> Path:
    """The requested file, `predictions.csv` by default. Raises UserError for another kind of file."""
    out = out or Path("predictions.csv")
    if out.suffix.lower() != ".csv":
        raise UserError(f"predictions are written as .csv, by the file's ending; got {out.name!r}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file that ends in .csv")
    return out


def predict_classes(
    model: ImagePredictor, config: Json, options: PredictOptions, out: Path, console: Console
) -> Predictions:
    """See `TransferTask.predict`."""
    samples = _read(options.images, model, console)
    loader = each_once(samples, model.views, options.batch)
    batches = tracked(console, "predicting", loader, len(loader))
    probabilities = answers(model, batches, model.encoder.mean.device, None)
    predictions = Predictions(samples.names, model.classes, probabilities, model.multi_label)
    out.parent.mkdir(parents=True, exist_ok=True)
    source = samples.source
    write_predictions(predictions, out, more=[source.modality.columns(source.raw(i)) for i in samples.indices])
    rows = zip(samples.names, _texts(predictions), probabilities)
    say_first([f"{name}: {label or 'none'} ({row.max():.1%})" for name, label, row in rows], console)
    console.print(f"{len(samples):,} predictions: {out}", soft_wrap=True)
    return predictions


def write_predictions(
    predictions: Predictions,
    path: Path,
    truth: list[str] | None = None,
    more: Sequence[Mapping[str, str]] = (),
) -> None:
    """Columns: path, label (several are joined by |), the true label if `truth` is given, then one per class, then
    those of `more`, where some sample has them."""
    others = list(dict.fromkeys(name for columns in more for name in columns))

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", "label", *(["true"] if truth else []), *predictions.classes, *others])
            for row, (name, label) in enumerate(zip(predictions.names, _texts(predictions))):
                true = [truth[row]] if truth else []
                shares = [f"{p:.6f}" for p in predictions.probabilities[row]]
                table.writerow([name, label, *true, *shares, *(more[row].get(key, "") for key in others)])

    write_atomically(path, write)


def _texts(predictions: Predictions) -> list[str]:
    return ["|".join(label) if isinstance(label, list) else label for label in predictions.labels]


def _read(images: tuple[str, ...], classifier: ImagePredictor, console: Console) -> Samples:
    """Readable images; bad ones are named and left out, unless none is good."""
    source, side = open_source(images, classifier.encoder.modality), decode_side(classifier.encoder.grid.size)
    indices = list(range(len(source.items)))
    sheet, cache = inspect(source, max_side=side, limit=len(indices), keep_bytes=2**31)
    say_left_out([(name, reason) for _, name, reason in sheet.bad], len(indices) - len(sheet.bad), console)
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in indices if i not in bad]
    for line in sheet.unlike(*classifier.encoder.statistics):
        console.print(line, soft_wrap=True, markup=False)
    return Samples(source, good, channels=classifier.encoder.channels, max_side=side, cache=cache)
