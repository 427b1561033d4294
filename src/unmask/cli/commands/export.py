"""The command `export`: open the run, refuse models that a format cannot hold, write, reopen, compare, report."""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from unmask import registry
from unmask.cli.continue_run import own
from unmask.cli.options.export import Export
from unmask.cli.outputs import say_replaced
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.classification import Labelled
from unmask.errors import Unequal, UserError
from unmask.export.exportable import Exportable, Format, Traceable
from unmask.export.latency import latency
from unmask.export.preparation import contents
from unmask.export.subject import open_subject
from unmask.export.write import FIGURES, Figures, previous_formats, require_libraries, size_text, write_format
from unmask.files import write_json
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder
from unmask.plain import texts
from unmask.runs.run import Run
from unmask.runtime.machine import tune
from unmask.runtime.progress import doing, make_console, stage
from unmask.tasks.classification.export_accuracy import Accuracy
from unmask.tasks.open import load

__all__ = ["export"]


@dataclass(frozen=True)
class Exported:
    """What was written: `folder / "timm"` and so on, and the figures of every file in it, as in export.json."""

    folder: Path
    figures: Figures
    left_out: tuple[str, ...] = ()  # files that were not equal to the model, each with its reason

    @property
    def exit_code(self) -> int:
        """Of the command: that of a failed check where a file was left out."""
        return Unequal.exit_code if self.left_out else 0

    def __getitem__(self, format: str) -> Path:
        """The folder of a format."""
        return self.folder / self.figures["formats"][format]["folder"]


@verb(Export)
def export(options: Export) -> "Exported":
    """Writes one folder per format, each with a model card, and export.json with all figures; returns those.

    Raises UserError for what a format cannot hold, and Unequal (exit code 5) for a file whose outputs differ from the
    model's: that format is not written then. fp16 and int8 files that differ are left out alone, with that exit code.
    """
    console, run, out = make_console(), Run(Path(options.run)), Path(str(options.out))
    formats: dict[str, Format] = {name: registry.find("export", name)() for name in options.to}
    for name, part in formats.items():
        require_libraries(name, part)
    own(out, "export")
    tune("cpu")
    doing("opening the model")
    subject, where = open_subject(
        run, load(run.path), texts(options.images), normalize=options.normalize, quantize=options.quantize,
        precision=texts(options.precision), seed=options.seed,
    )  # fmt: skip
    remarks = {name: part.refuse(subject) for name, part in formats.items()}
    previous = previous_formats(out, formats)
    say_replaced([out / name for name in formats], console)
    for remark in filter(None, remarks.values()):
        console.print(remark, soft_wrap=True)
    accuracy = _measure_accuracy(options, subject, console) if options.on else None
    doing("measuring the model's speed")
    figures = _figures_of_model(subject, accuracy)
    figures |= {"formats": previous, "run": run.path.resolve().name, "images_from": where}
    for name, part in formats.items():
        console.print(f"{name}: writing and checking ...")
        doing(f"writing and checking {name}")
        figures["formats"][name] = write_format(name, part, subject, out, run.path, figures, remarks[name], accuracy)
        write_json(out / FIGURES, figures)
    console.print(_table(figures, list(formats)))
    left_out = [reason for name in formats for reason in figures["formats"][name]["left_out"].values()]
    for reason in left_out:
        console.print(f"Left out: {reason}", soft_wrap=True, markup=False, style="yellow")
    console.print(f"Written and checked: {', '.join(str(out / name) for name in formats)}", soft_wrap=True)
    console.print(contents(subject), soft_wrap=True, markup=False)
    return Exported(out, figures, tuple(left_out))


def _measure_accuracy(options: Export, subject: Exportable, console: Console) -> Accuracy:
    """Reads the labelled data and measures the model itself."""
    if not isinstance(subject.model, Encoder | Classifier):
        raise UserError(
            "--on measures classifiers and encoders; a segmenter or detector has its figures in metrics.json"
        )
    labelled = Labelled(
        texts(options.on),
        max_side=decode_side(subject.encoder.grid.size),
        batch=options.batch,
        most=options.most,
        seed=options.seed,
        say=lambda text: console.print(text, soft_wrap=True),
        modality=subject.encoder.modality,
    )
    for line in labelled.sheet.unlike(*subject.encoder.statistics):
        console.print(line, soft_wrap=True, markup=False)
    with stage(console, "measuring the model on the labelled images"):
        return Accuracy(subject, labelled, ", ".join(Path(path).name for path in texts(options.on)))


def _figures_of_model(subject: Exportable, accuracy: Accuracy | None) -> Figures:
    """Speed and accuracy of the model itself, the reference for those of every file."""
    model = Traceable(subject.model)
    own = {"latency": latency(lambda x: dict(zip(subject.outputs, model(x))), subject.images[:1])}
    return {
        "images": len(subject.images),
        "threads": torch.get_num_threads(),
        "normalize": subject.normalize,
        "torch": own | ({"accuracy": accuracy.of_model} if accuracy else {}),
        "on": accuracy.facts if accuracy else None,
    }


def _table(figures: Figures, names: list[str]) -> Table:
    """One line per file: size, largest difference, speed, accuracy."""
    show = bool(figures["on"])
    heading = ["file", "size", "largest difference (allowed)", "median time", "95 % of times below"]
    result = Table(*heading, *([figures["on"]["metric"], "points lost"] if show else []), box=None, pad_edge=False)
    own = figures["torch"]
    result.add_row("PyTorch", "", "", *_speed(own), *_accuracy(own))
    for name in names:
        for file, facts in figures["formats"][name]["files"].items():
            output, worst = max(facts["check"].items(), key=lambda pair: pair[1]["max_abs_error"])
            differs = f"{worst['max_abs_error']:.2g} in {output} ({worst['allowed']:.2g})"
            where = name if file == name else f"{name}/{file}"
            row = [where, size_text(facts["bytes"]), differs, *_speed(facts), *_accuracy(facts)]
            result.add_row(*row)
    return result


def _speed(facts: Figures) -> list[str]:
    if "latency" not in facts:
        return ["", ""]
    return [f"{facts['latency'][key]:.2f} ms" for key in ("median_ms", "p95_ms")]


def _accuracy(facts: Figures) -> list[str]:
    if "accuracy" not in facts:
        return []
    lost = f"{facts['points_lost']:.2f}" if "points_lost" in facts else ""
    return [f"{100 * facts['accuracy']:.2f} %", lost]
