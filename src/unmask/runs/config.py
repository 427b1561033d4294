"""The configuration of a pretraining run, composed of the settings that each room owns; JSON only on disk."""

import dataclasses
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from unmask.data.settings import DataSettings
from unmask.errors import UserError
from unmask.files import Json, parse_json, write_json
from unmask.methods.settings import MethodSettings
from unmask.models.settings import ModelSettings
from unmask.runtime.distributed.launcher import Launch
from unmask.runtime.machine import Machine
from unmask.runtime.settings import RuntimeSettings
from unmask.training.resolution import NONE
from unmask.training.settings import TrainingSettings

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The forecast made before training; empty until then."""

    seconds: float = 0.0
    images_per_second: float = 0.0
    memory_mb: int = 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """Provenance of a run; no computation depends on it."""

    asked: Json  # options as the user gave them
    reasons: dict[str, str]  # of each choice, by the name of the option
    context: dict[str, float]  # losses of trivial predictors on this data
    words: dict[str, str]  # what the method's loss and other scalars are called; undrawn: what it predicts, not pixels
    expected: Expected
    weights: Json | None  # what `--init` named
    licence: str | None  # of these weights
    teachers: list[Json]  # frozen ones that it learned from: source, model, licence, sha256
    machine: Machine
    launch: Launch
    command: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Config:
    data: DataSettings
    model: ModelSettings
    method: MethodSettings
    training: TrainingSettings
    runtime: RuntimeSettings
    record: Record

    def at_size(self, size: tuple[int, ...]) -> "Config":
        """The same run at one image size."""
        data, training = replace(self.data, image_size=size), replace(self.training, resolutions=NONE)
        return replace(self, data=data, training=training)

    def with_options(self, changes: Mapping[str, object]) -> "Config":
        """A copy with some settings changed, given by the names of their options."""
        names = {"data": "paths", "model": "name", "method": "name"}  # options that have the name of a section
        sections, left = {}, dict(changes)
        for section in SECTIONS:
            own = {names[section]: left.pop(section)} if section in left else {}
            own |= {f.name: left.pop(f.name) for f in dataclasses.fields(SECTIONS[section]) if f.name in left}
            sections[section] = replace(getattr(self, section), **own)
        if left:
            raise UserError(f"a run has no setting {', '.join(left)}")
        return replace(self, **sections)

    def options(self) -> Json:
        """Every setting as a plain value by the name of its option, for tables and to start another run."""
        data, model, method, training, runtime = (dataclasses.asdict(getattr(self, name)) for name in SECTIONS)
        data = {"data": data.pop("paths"), **data}
        model = {"model": model.pop("name"), **model}
        method = {"method": method.pop("name"), **method}
        training |= {"warmup": self.training.warmup_epochs, "spike": self.training.spike or "off"}
        if self.training.epochs is not None or self.training.hours is not None:
            training["steps"] = None  # derived from these
        if self.training.lasting_copies:
            training["keep_every"] = None
        if self.training.tidy:
            training["keep_last"] = None
        flat = data | model | method | training | runtime
        return {name: list(v) if isinstance(v, tuple) else v for name, v in flat.items() if name not in DERIVED}

    def flat(self) -> Json:
        """The record shared by runs of every kind, tasks included, as plain values."""
        record = dataclasses.asdict(self.record)
        filled = {name: value for name, value in record.items() if value is not None}
        data = {name: getattr(self.data, name) for name in ("fingerprint", "count", "split", "packed")}
        fit = {"steps": self.training.steps, "seconds": self.training.seconds}
        statistics = {"mean": list(self.data.mean), "std": list(self.data.std)}
        return {"settings": self.options(), "timm": self.model.timm, "fit": fit, "data": data} | statistics | filled

    def to_json(self, path: Path) -> None:
        """Folders of stages are named from that of the file, so that a run can be moved."""
        folder = path.parent.resolve()
        config = self._handed(lambda place: Path(os.path.relpath(place, folder)).as_posix())
        write_json(path, dataclasses.asdict(config))

    def _handed(self, rename: Callable[[str], str]) -> "Config":
        handed = self.method.handed
        if handed is None:
            return self
        return replace(self, method=replace(self.method, handed={key: rename(place) for key, place in handed.items()}))

    @classmethod
    def from_json(cls, path: Path) -> "Config":
        """Raises UserError, naming file and key, for a damaged or incomplete file."""
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); the run cannot be opened without it") from error
        config = cls.from_plain(content, str(path))
        return config._handed(lambda place: str((path.parent / place).resolve()))

    @classmethod
    def from_plain(cls, content: object, where: str) -> "Config":
        """Builds a configuration from parsed JSON. where: the file, for errors."""
        if isinstance(content, dict) and "settings" in content and "task" not in content:
            raise UserError(f"{where} was made by an unreleased version of unmask; run pretrain again")
        return typed(cls, content, where, "")


SECTIONS: Json = {
    "data": DataSettings,
    "model": ModelSettings,
    "method": MethodSettings,
    "training": TrainingSettings,
    "runtime": RuntimeSettings,
}
DERIVED = (  # settings that no option has
    "count", "fingerprint", "split", "packed", "mean", "std", "max_side", "timm", "warmup_epochs", "betas", "optimizer",
    "floor", "fixed_weight_decay", "seconds", "begins", "costs", "patience", "lasting_copies", "tidy", "handed",
)  # fmt: skip


def typed(kind: Any, value: object, where: str, key: str) -> Any:
    """Converts a plain value to a field's type; UserError if that is impossible."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        names = {field.name for field in dataclasses.fields(kind)}
        value, types_of = _same(names, value, where, key), typing.get_type_hints(kind)
        inside = {name: typed(types_of[name], value[name], where, f"{key}.{name}".strip(".")) for name in names}
        return typing.cast(Any, kind)(**inside)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return typed(next(part for part in arguments if part is not type(None)), value, where, key)
    if origin is tuple and isinstance(value, list):
        parts = arguments if arguments[-1] is not Ellipsis else [arguments[0]] * len(value)
        if len(parts) == len(value):
            return tuple(typed(part, item, where, key) for part, item in zip(parts, value))
    wanted = origin or kind
    if wanted is Any or (isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))):
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise UserError(f"{where} is damaged: {key} is {value!r}, which is no {getattr(kind, '__name__', kind)}")


def _same(names: set[str], value: object, where: str, key: str) -> Json:
    """Raises UserError unless `value` is an object with exactly these keys."""
    if not isinstance(value, dict):
        raise UserError(f"{where} is damaged: {key or 'it'} must be an object, it is {type(value).__name__}")
    for wrong, words in ((names - value.keys(), "it lacks"), (value.keys() - names, "there is no setting")):
        if wrong:
            listed = ", ".join(sorted(f"{key}.{name}".strip(".") for name in wrong))
            raise UserError(f"{where} is damaged, or from another version of unmask: {words} {listed}")
    return value
