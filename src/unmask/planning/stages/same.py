"""Finds a stage that another run has made already: of the same data, with the same settings and budget.

The runs beside a run are looked through. What is found is copied into the run, so that each stays whole by itself.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from unmask.errors import UserError
from unmask.files import MARK, REPORT, STAGE, STAGES, Json, read_json, write_json
from unmask.registry import is_foreign, parse
from unmask.runs.config import Config
from unmask.runs.run import SUMMARY
from unmask.version import __version__
from unmask.weights.files import ENCODER

# How fast a run is, where its files are and when it says something change nothing in what it makes
NO_MATTER = {
    "data": ("paths", "workers", "in_memory", "packed", "shuffle_buffer"),
    "training": (
        "accumulate", "begins", "costs", "fused", "keep_every", "keep_last", "lasting_copies", "log_every", "probe",
        "probe_every", "recipe", "save_every", "seconds", "tidy",
    ),
}  # fmt: skip
BY_SPEED = ("steps", "warmup", "warmup_epochs", "epochs")  # follow from the hours, where these are given
WEIGHTS = (".safetensors", ".ckpt", ".pth", ".pt", ".bin", ".json")


def key_of(configs: Sequence[Config]) -> str | None:
    """What the last of several trainings in a row is made from, as a hash; None for parts from outside of the package,
    whose code may change."""
    made_from = [_settings(config) for config in configs]
    if any(settings is None for settings in made_from):
        return None
    return hashlib.sha256(json.dumps([__version__, made_from], sort_keys=True).encode()).hexdigest()


def _settings(config: Config) -> Json | None:
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in ("data", "model", "method", "training")}
    left_out = {name: set(names) for name, names in NO_MATTER.items()}
    if config.training.hours is not None:
        left_out["training"] |= set(BY_SPEED)
    method = config.method
    texts = [method.name, method.mask, method.target, method.decoder, config.model.name, *config.data.views]
    parts = [part for text in texts if text for part in _parts(text)]
    if any(is_foreign(name) for name, _ in parts):
        return None
    options = [value for _, own in parts for value in own.values()]
    places = [Path(value) for value in (*options, config.model.init) if isinstance(value, str) and _is_there(value)]
    del sections["method"]["handed"]  # the trainings before it are looked at by themselves
    kept = {
        name: {key: value for key, value in section.items() if key not in left_out.get(name, ())}
        for name, section in sections.items()
    }
    return kept | {"precision": config.runtime.precision, "places": [stamp(place) for place in places]}


def _parts(text: str) -> Iterator[tuple[str, Json]]:
    """Name and options of a part, and of the parts with options that stand in these."""
    name, options = parse(text)
    yield name, options
    for value in options.values():
        if isinstance(value, str) and "(" in value:
            with suppress(UserError):  # a path with brackets
                yield from _parts(value)


def _is_there(text: str) -> bool:
    return len(text) < 1000 and Path(text).exists()


def stamp(place: Path) -> list[str]:
    """Changes with the weights in a file or folder: their sizes and times."""
    files = sorted(path for path in place.iterdir() if path.suffix in WEIGHTS) if place.is_dir() else [place]
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files if file.is_file()]


def reuse(folder: Path, out: Path) -> Path | None:
    """Copies a finished stage of a run beside this one that is the same as that in `folder`; returns where it was.
    out: the folder of this run."""
    key = read_json(folder / STAGE).get("key")
    for path in sorted(out.resolve().parent.glob(f"*/{STAGES}/*/{STAGE}")):
        other = path.parent
        if key is None or other == folder.resolve():
            continue
        try:
            same = read_json(path).get("key") == key
        except UserError:  # that run is damaged, which is not for this one to say
            continue
        if same and all((other / name).is_file() for name in (SUMMARY, ENCODER)):
            copy_made(other, folder)
            return other
    return None


def copy_made(made: Path, folder: Path) -> None:
    """Copies a finished stage, its summary last: until then it counts as unfinished. Files that are only ever replaced
    as a whole share their place on the disk."""
    facts = read_json(folder / STAGE)
    for path in sorted(made.rglob("*"), key=lambda path: path.name == SUMMARY):
        to = folder / path.relative_to(made)
        if path.is_dir():
            to.mkdir(exist_ok=True)
        elif not path.name.startswith(MARK) and path.name not in (STAGE, REPORT):
            part = to.with_name(f".{to.name}.part")
            part.unlink(missing_ok=True)
            _link(path, part)
            os.replace(part, to)
    write_json(folder / STAGE, facts | {"reused": str(made)})


def _link(path: Path, to: Path) -> None:
    if path.suffix in (".ckpt", ".safetensors"):
        try:
            os.link(path, to)
            return
        except OSError:  # another disk, or one that has no links
            pass
    shutil.copy2(path, to)
