"""Writes a format into a temporary folder, opens it again, compares it with the model, and renames the folder. A
failure leaves nothing behind."""

import importlib.util
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from unmask.data.modality import make_modality
from unmask.errors import Unequal, UserError
from unmask.export.check import compare
from unmask.export.exportable import Exportable, Format, Opened
from unmask.export.latency import Call, latency
from unmask.export.preparation import contents, preparation
from unmask.files import Json, read_json
from unmask.report.model_card import model_card
from unmask.version import install_line

FIGURES = "export.json"
Figures = Json  # sizes, differences, speed and accuracy, as in export.json


class Judge(ABC):
    """Measures the accuracy of an exported file on labelled images."""

    of_model: float  # accuracy of the model itself, from 0 to 1

    @abstractmethod
    def applies(self, outputs: Iterable[str]) -> bool:
        """True if outputs with these names can be judged."""

    @abstractmethod
    def __call__(self, call: Call) -> float:
        """Accuracy of a file, from 0 to 1."""


def require_libraries(name: str, part: Format) -> None:
    """Raises UserError for a format whose optional libraries are not installed."""
    missing = [library for library in part.needs if importlib.util.find_spec(library) is None]
    if missing:
        raise UserError(f"--to {name} needs {', '.join(missing)}: {install_line(*missing)}")


def previous_formats(out: Path, names: Iterable[str]) -> dict[str, Figures]:
    """The figures of an earlier export into the same folder, by format. Raises UserError rather than overwrite a folder
    that unmask did not write."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    formats = read_json(out / FIGURES).get("formats", {})
    for name in names:
        card = out / name / "README.md"  # without figures, if the machine stopped between the two
        ours = name in formats or (card.exists() and "- unmask\n" in card.read_text(encoding="utf-8"))
        if (out / name).exists() and not ours:
            raise UserError(f"{out / name} exists and was not written by unmask export; give another --out")
    return formats


def write_format(
    name: str,
    part: Format,
    subject: Exportable,
    out: Path,
    run: Path,
    figures: Figures,
    remark: str,
    judge: Judge | None,
) -> Figures:
    """Writes `out / name` and returns its figures. run: folder that the model card describes, with the `figures` of the
    export so far; remark: what the format leaves out. Raises UserError, or Unequal if its outputs differ."""
    was_there, target = out.exists(), out / name
    part_folder, old = out / f".{name}.part", out / f".{name}.old"
    for leftover in (part_folder, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        part_folder.mkdir(parents=True)
        part.write(subject, part_folder)
        files, left_out = _examine_all(name, _open(name, part, subject, part_folder), subject, part_folder, judge)
        written = {"folder": name, "remark": remark, "files": files, "left_out": left_out}
        card = part_folder / "README.md"
        card.write_text(_card(name, part, subject, run, figures, written), encoding="utf-8")
        for file in filter(Path.is_file, part_folder.rglob("*")):
            shutil.copymode(card, file)  # safetensors makes files that only their owner can read
        if target.exists():
            target.rename(old)
        part_folder.rename(target)
    except BaseException:
        shutil.rmtree(part_folder, ignore_errors=True)
        if not was_there and out.exists() and not any(out.iterdir()):
            out.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
    return written


def _examine_all(
    name: str, files: list[Opened], subject: Exportable, folder: Path, judge: Judge | None
) -> tuple[Figures, dict[str, str]]:
    """The figures of each file, and the reasons for those left out: an optional file whose outputs differ is deleted.
    Raises Unequal if another file's outputs differ, or no file is left."""
    figures, left_out = {}, {}
    for opened in files:
        file = name if opened.path == folder else str(opened.path.relative_to(folder))
        try:
            figures[file] = _examine(f"{name}: {file}", opened, subject, judge)
        except Unequal as error:
            if not opened.optional or len(files) == 1:
                raise
            left_out[file] = str(error)
            for part in folder.glob(f"{opened.path.name}*"):
                part.unlink()
    if not figures:
        raise Unequal("; ".join(left_out.values()))
    return figures, left_out


def _open(name: str, part: Format, subject: Exportable, folder: Path) -> list[Opened]:
    try:
        return part.open(subject, folder)
    except UserError:
        raise
    except Exception as error:  # whatever the library raises that opens it
        raise _unopened(name, error) from error


def _unopened(name: str, error: Exception) -> Unequal:
    why = str(error).strip().splitlines() or [type(error).__name__]
    return Unequal(f"{name}: what was written cannot be opened again ({why[0]}); it was deleted")


def _examine(label: str, opened: Opened, subject: Exportable, judge: Judge | None) -> Figures:
    """Size, differences, speed and accuracy of one exported file or folder."""
    if opened.refuse:
        opened.refuse()
    try:
        figures: Figures = {"bytes": _bytes(opened.path), "check": compare(subject, opened, label)}
    except UserError:
        raise
    except Exception as error:  # whatever the library raises that opens it
        raise _unopened(label, error) from error
    if opened.timed:
        figures["latency"] = latency(opened.call, subject.images[:1])
    if judge and judge.applies(figures["check"]):
        figures["accuracy"] = judge(opened.call)
        figures["points_lost"] = 100 * (judge.of_model - figures["accuracy"])
    return figures


def _bytes(path: Path) -> int:
    """Size of a folder, or of a file with the files that belong to it."""
    files = path.iterdir() if path.is_dir() else path.parent.glob(f"{path.name}*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _card(name: str, part: Format, subject: Exportable, run: Path, figures: Figures, written: Figures) -> str:
    normalized = subject.normalize == "outside" or name in ("timm", "hf")
    return model_card(
        run,
        subject.config,
        figures,
        library=part.library,
        classes=getattr(subject.model, "classes", []),
        how=f"{preparation(subject, normalized)}\n\n\n{part.how(subject, name)}",
        contents=contents(subject),
        left_out=list(written["left_out"].values()),
        given=_input(name, subject),
        remark=written["remark"],
        files=written["files"],
        timed={file: facts for file, facts in written["files"].items() if "latency" in facts},
        size=size_text,
    )


def _input(name: str, subject: Exportable) -> str:
    """Describes the exported model's input."""
    size, channels = " x ".join(map(str, subject.size)), subject.encoder.channels
    mean, std = ([round(v, 3) for v in side.tolist()] for side in (subject.encoder.mean, subject.encoder.std))
    crop = subject.classifier.eval_crop if subject.classifier else 1.0
    cover = "that" if crop == 1 else f"1/{crop:g} of that"
    others = {
        "": f"images of other sizes are resized to cover {cover} and cut at the centre",
        "segmenter": "images of other sizes are worked off in such windows, as unmask predict does",
        "detector": "images of other sizes are resized to fit into that; what is left lies right and below",
    }
    if make_modality(subject.encoder.modality).labelled == "point":
        others["segmenter"] = "logits are those of these places; unmask predict labels every point of a cloud"
    raw = f"{channels} channels of {size} pixels; {others[subject.dense()]}"
    if name in ("timm", "hf"):
        return f"pixels from 0 to 1 less the mean, over the standard deviation, as config.json has them; {raw}"
    if subject.normalize == "inside":
        return f"`pixels`, float32, raw, 0 to 255 (normalisation is inside); {raw}"
    return f"`pixels`, float32, (raw - {mean}) / {std} with raw from 0 to 255; {raw}"


def size_text(bytes: int) -> str:
    """A size in bytes, for people."""
    return f"{bytes / 1e6:.2f} MB"
