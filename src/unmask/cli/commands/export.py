"""The verb `export`, step by step: open the run, refuse what a format cannot hold, write, open again, compare, say."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unmask import registry
from unmask.cli.options.export import Export
from unmask.cli.verb import verb
from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.data.transforms.crops import WholeImage
from unmask.errors import DataError, Unequal, UserError
from unmask.export.check import compare
from unmask.export.exportable import Exportable, Format, Opened, Traceable
from unmask.export.latency import latency
from unmask.files import write_json
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder
from unmask.plain import texts
from unmask.report.html import read_json
from unmask.report.model_card import model_card
from unmask.runs.run import Run, load
from unmask.runtime.machine import tune
from unmask.tasks.classification.export_accuracy import Accuracy
from unmask.training import checkpoint
from unmask.training.log import make_console
from unmask.training.objective import Rebuilder

__all__ = ["export"]


FORMATS, FIGURES, IMAGES = "export", "export.json", 16


@dataclass(frozen=True)
class Exported:
    """What was written: `folder / "timm"` and so on, and the figures of every file in it, as in export.json."""

    folder: Path
    figures: dict[str, Any]

    def __getitem__(self, format: str) -> Path:
        """The folder of a format."""
        return self.folder / self.figures["formats"][format]["folder"]


def exporting(options: Export) -> Exported:
    """See `unmask.cli.commands.export.export`."""
    console, run, out = make_console(), Path(options.run), Path(str(options.out))
    formats = {name: registry.find(FORMATS, name)() for name in options.to}
    for name, part in formats.items():
        require_libraries(name, part)
    tune("cpu")
    subject, where = open_subject(options)
    remarks = {name: part.refuse(subject) for name, part in formats.items()}
    figures = previous(out, list(formats))
    for remark in filter(None, remarks.values()):
        console.print(remark, soft_wrap=True)
    accuracy = measure_accuracy(options, subject, console) if options.on else None
    figures |= {"run": run.resolve().name, "images": len(subject.images), "images_from": where}
    figures |= {"threads": torch.get_num_threads(), "normalize": options.normalize, "torch": {}, "on": None}
    model = Traceable(subject.model)
    figures["torch"]["latency"] = latency(lambda x: dict(zip(subject.outputs, model(x))), subject.images[:1])
    if accuracy:
        figures["on"] = accuracy.facts
        figures["torch"]["accuracy"] = accuracy.of_model
    for name, part in formats.items():
        console.print(f"{name}: writing and checking ...")
        figures["formats"][name] = ship(name, part, subject, out, run, figures, remarks[name], accuracy)
        write_json(out / FIGURES, figures)
    console.print(table(figures, list(formats)))
    console.print(f"Written and checked: {', '.join(str(out / name) for name in formats)}", soft_wrap=True)
    return Exported(out, figures)


def require_libraries(name: str, part: Format) -> None:
    """Raises UserError for a format whose optional libraries are not installed."""
    missing = [library for library in part.needs if importlib.util.find_spec(library) is None]
    if missing:
        raise UserError(f"--to {name} needs {', '.join(missing)}: pip install 'unmask[export]'")


def open_subject(options: Export) -> tuple[Exportable, str]:
    """The model with images for its check, and where those are from."""
    run = Run(Path(options.run))
    model = load(run.path)
    whole = None
    if run.task is None and checkpoint.begun(run.path):
        objective = run.objective()
        whole = objective if isinstance(objective, Rebuilder) else None
    encoder = whole.encoder if whole is not None else getattr(model, "encoder", model)
    if options.on and not isinstance(model, Encoder | Classifier):
        raise UserError(
            "--on measures classifiers and encoders; a segmenter or detector has its figures in metrics.json"
        )
    images, where = read_images(options, run, encoder, model.input_size)
    shared = {"normalize": options.normalize, "quantize": options.quantize, "seed": options.seed}
    precision = texts(options.precision)
    return Exportable(model, run.record, images, objective=whole, precision=precision, **shared), where


def read_images(options: Export, run: Run, encoder: Encoder, size: tuple[int, ...]) -> tuple[Tensor, str]:
    """Real images, raw, sized for the encoder: those asked for, else some of the run's data, else of `demo`."""
    if options.images:
        return _read(texts(options.images), encoder, size)
    asked = run.record["asked"]
    try:
        return _read(texts(asked.get("data") or asked.get("images") or asked.get("on") or ()), encoder, size)
    except UserError:  # the data is gone, or was never here
        pass
    try:
        return _read(("demo",), encoder, size)
    except UserError as error:
        raise UserError(
            f"the data of {run.path} is gone and the demo images do not have {encoder.channels} channels; name some"
            " images for the check with --images"
        ) from error


def _read(places: tuple[str, ...], encoder: Encoder, size: tuple[int, ...]) -> tuple[Tensor, str]:
    source = open_source(places)
    count = min(IMAGES, len(source.items))
    indices = [i * len(source.items) // count for i in range(count)]  # spread over the data, not the first of them
    sheet, cache = inspect(source, indices=indices, max_side=4 * max(size), keep_bytes=2**30)
    bad = {index: f"{name}: {reason}" for index, name, reason in sheet.bad}
    good = [i for i in indices if i not in bad]
    if not good:
        raise DataError("no image for the check can be read: " + "; ".join(list(bad.values())[:3]))
    samples = Samples(source, good, channels=encoder.channels, max_side=4 * max(size), cache=cache)
    view = WholeImage((size[0], size[1]))
    images = torch.stack([view(samples.image(i)).float() for i in range(len(good))])
    return images, ", ".join(Path(place).name for place in places)


def measure_accuracy(options: Export, subject: Exportable, console: Console) -> Accuracy:
    """Reads the labelled data and measures the model itself."""
    labelled = Labelled(
        texts(options.on),
        max_side=4 * max(subject.encoder.grid.size),
        batch=options.batch,
        most=options.most,
        seed=options.seed,
        say=lambda text: console.print(text, soft_wrap=True),
    )
    labelled.sheet.statistics(subject.encoder.channels)  # refuses images that cannot be brought to these channels
    with console.status("measuring the model on the labelled images"):
        return Accuracy(subject, labelled, ", ".join(Path(place).name for place in texts(options.on)))


def previous(out: Path, names: list[str]) -> dict[str, Any]:
    """The figures of an earlier export into the same folder. Raises UserError for folders that are none of ours."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    before = read_json(out / FIGURES) or {"formats": {}}
    for name in names:
        card = out / name / "README.md"  # without figures, if the machine stopped between the two
        ours = name in before["formats"] or (card.exists() and "- unmask\n" in card.read_text(encoding="utf-8"))
        if (out / name).exists() and not ours:
            raise UserError(f"{out / name} is there and was not written by unmask export; give another --out")
    return {"formats": before["formats"]}


def ship(
    name: str,
    part: Format,
    subject: Exportable,
    out: Path,
    run: Path,
    figures: dict[str, Any],
    remark: str,
    accuracy: Accuracy | None,
) -> dict[str, Any]:
    """One format: written beside its place, opened again, compared, then put there; on any failure nothing stays."""
    new = not out.exists()
    part_folder, old, place = out / f".{name}.part", out / f".{name}.old", out / name
    for left in (part_folder, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        part_folder.mkdir(parents=True)
        part.write(subject, part_folder)
        files = {}
        for opened in _open(name, part, subject, part_folder):
            label = "" if opened.path == part_folder else str(opened.path.relative_to(part_folder))
            files[label or name] = examine(f"{name}: {label or name}", opened, subject, accuracy)
        found = {"folder": name, "remark": remark, "files": files}
        card = part_folder / "README.md"
        card.write_text(_card(name, part, subject, run, figures, found), encoding="utf-8")
        for file in filter(Path.is_file, part_folder.rglob("*")):
            shutil.copymode(card, file)  # safetensors makes files that their owner alone may read
        if place.exists():
            place.rename(old)
        part_folder.rename(place)
    except BaseException:
        shutil.rmtree(part_folder, ignore_errors=True)
        if new and out.exists() and not any(out.iterdir()):
            out.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
    return found


def examine(label: str, opened: Opened, subject: Exportable, accuracy: Accuracy | None) -> dict[str, Any]:
    """Size, differences, speed and accuracy of one exported file or folder."""
    found: dict[str, Any] = {"bytes": _bytes(opened.path), "check": compare(subject, opened, label)}
    if opened.timed:
        found["latency"] = latency(opened.call, subject.images[:1])
    if accuracy and accuracy.applies(found["check"]):
        found["accuracy"] = accuracy(opened.call)
        found["points_lost"] = 100 * (accuracy.of_model - found["accuracy"])
    return found


def _open(name: str, part: Format, subject: Exportable, folder: Path) -> list[Opened]:
    try:
        return part.open(subject, folder)
    except UserError:
        raise
    except Exception as error:  # whatever the library raises that is to open it
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise Unequal(f"{name}: what was written cannot be opened again ({why[0]}); it was deleted") from error


def _bytes(path: Path) -> int:
    """Of a folder, or of a file and those that belong to it."""
    files = path.iterdir() if path.is_dir() else path.parent.glob(f"{path.name}*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _card(
    name: str, part: Format, subject: Exportable, run: Path, figures: dict[str, Any], found: dict[str, Any]
) -> str:
    size, channels = " x ".join(map(str, subject.size)), subject.encoder.channels
    mean, std = ([round(v, 3) for v in side.tolist()] for side in (subject.encoder.mean, subject.encoder.std))
    seen = subject.classifier.view.crop if subject.classifier else 1.0
    cover = "that" if seen == 1 else f"1/{seen:g} of that"
    others = {
        "": f"images of other sizes are resized to cover {cover} and cut at the centre",
        "segmenter": "images of other sizes are worked off in such windows, as unmask predict does",
        "detector": "images of other sizes are resized to fit into that; what is left lies right and below",
    }
    raw = f"{channels} channels of {size} pixels; {others[subject.dense()]}"
    if name in ("timm", "hf"):
        how = f"pixels from 0 to 1 less the mean, over the standard deviation, as config.json has them; {raw}"
    elif subject.normalize == "inside":
        how = f"`pixels`, float32, raw, 0 to 255 (normalisation is inside); {raw}"
    else:
        how = f"`pixels`, float32, (raw - {mean}) / {std} with raw from 0 to 255; {raw}"
    return model_card(
        run,
        subject.config,
        figures,
        library=part.library,
        classes=getattr(subject.model, "classes", []),
        how=part.how(subject, name),
        given=how,
        remark=found["remark"],
        files=found["files"],
        timed={file: facts for file, facts in found["files"].items() if "latency" in facts},
        size=size_text,
    )


def size_text(bytes: int) -> str:
    """For people."""
    return f"{bytes / 1e6:.2f} MB"


def table(figures: dict[str, Any], names: list[str]) -> Table:
    """One line per file: size, largest difference, speed, accuracy."""
    show = bool(figures["on"])
    heading = ["file", "size", "largest difference (allowed)", "median", "95 % below"]
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


def _speed(facts: dict[str, Any]) -> list[str]:
    if "latency" not in facts:
        return ["", ""]
    return [f"{facts['latency'][key]:.2f} ms" for key in ("median_ms", "p95_ms")]


def _accuracy(facts: dict[str, Any]) -> list[str]:
    if "accuracy" not in facts:
        return []
    lost = f"{facts['points_lost']:.2f}" if "points_lost" in facts else ""
    return [f"{100 * facts['accuracy']:.2f} %", lost]


@verb(Export)
def export(options: Export) -> "Exported":
    """Writes one folder per format, each with a model card, and export.json with all figures; returns those.

    Raises UserError for what a format cannot hold, and Unequal (exit code 5) for a file whose outputs differ from the
    model's: that format is not written then.
    """
    return exporting(options)
