"""The contract of tasks for `transfer`: labelled data, a plan, an objective, a score, an evaluation.

A task is a folder of `tasks/` with a `transfer.py`; its `settings.py` says how users name it and which options it alone
takes. Each task opens its own kind of labels; the steps that all share are in `cli/commands/transfer.py`, and the loop
is the one loop.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from rich.console import Console
from torch import nn

from unmask.data.batch import Batch
from unmask.data.modality import IMAGE
from unmask.data.sheet import Sheet
from unmask.files import RESULT, Json, write_json
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runs.config import typed
from unmask.runtime.machine import Machine
from unmask.tasks.folders import task_module
from unmask.tasks.training_settings import TaskSettings
from unmask.training.objective import Task

Options = TypeVar("Options")
Settings = TypeVar("Settings", bound=TaskSettings)
Model = TypeVar("Model", bound=nn.Module)
Data = TypeVar("Data", bound="LabelledData")


@dataclass(frozen=True)
class DataOptions:
    """What users say of labelled data, whatever the task."""

    on: tuple[str, ...]  # where it is
    most: int | None = None  # training images to use at the most
    seed: int = 0  # of splits, where the data has none, and of which images `most` leaves


@dataclass(frozen=True)
class PredictOptions:
    """What users say of `unmask predict`, whatever the task."""

    images: tuple[str, ...]
    batch: int = 64  # images at a time
    threshold: float = 0.5  # score from which on a detection counts


@dataclass(frozen=True)
class Score:
    """How good a model is on a split."""

    value: float  # to compare by, from 0 to 1
    watched: Mapping[str, float]  # recorded while training, by name
    tie: float = 0.0  # decides between equals, more is better


class LabelledData(Protocol):
    """The contract of labelled data sets."""

    @property
    def classes(self) -> list[str]: ...
    @property
    def splits(self) -> Mapping[str, Sequence[int]]: ...
    @property
    def sheet(self) -> Sheet: ...  # kept as data_sheet.json


class TransferTask(ABC, Generic[Options, Settings, Model, Data]):
    """One task, on one encoder and one set of labelled data that has been read and checked.

    `encoder` is not changed: tasks train copies.
    """

    name: ClassVar[str]  # of the task, as in --to
    settings: ClassVar[type[TaskSettings]]  # what a plan is turned into
    looks: ClassVar[int] = 2**31  # at the val split during a training, at the most; about once an epoch else
    takes_threshold: ClassVar[bool] = False  # `predict` can leave out answers below a score
    data: Data
    encoder: Encoder  # what it starts from

    @classmethod
    def suited(cls, modality: str) -> type["TransferTask"]:
        """The class for a kind of data, as text of the registry. Raises UserError where there is none."""
        return cls

    @abstractmethod
    def __init__(self, data: DataOptions, options: Options, encoder: Encoder, console: Console):
        """Reads the data and prints remarks. Raises UserError and DataError if training cannot work."""

    @property
    def count(self) -> int:
        """Training images."""
        return len(self.data.splits["train"])

    @property
    def has_val(self) -> bool:
        """True if there is a validation split to select the best weights."""
        return bool(self.data.splits["val"])

    @abstractmethod
    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> Settings:
        """Fills in what `plan` leaves open. scratch: only the architecture of the encoder counts."""

    def facts(self) -> Json:
        """For config.json: "classes", and whatever else the model needs to be made again."""
        return {"classes": self.data.classes}

    def data_facts(self) -> Json:
        """For "data" in config.json, beside fingerprint and count."""
        return {}

    @abstractmethod
    def make_objective(self, settings: Settings, scratch: bool) -> Task:
        """The objective before training; the same arguments give the same weights."""

    @staticmethod
    @abstractmethod
    def make_model(encoder: Encoder, settings: Settings, facts: Json) -> Model:
        """The model that comes out, on this very encoder and with a fresh head. facts: see there."""

    @abstractmethod
    def make_loader(self, settings: Settings, micro: int | None = None) -> Callable[[int], Iterator[Batch]]:
        """Training batches of settings.batch / settings.accumulate samples, or of `micro`."""

    @abstractmethod
    def score(self, model: Model, split: str, settings: Settings) -> Score:
        """How good a model is on a split."""

    @abstractmethod
    def judge_split(self, model: Model, split: str, settings: Settings, out: Path | None) -> Json:
        """Metrics of a split for metrics.json; with `out`, images and tables too."""

    @staticmethod
    @abstractmethod
    def headline(result: Json, classes: list[str]) -> str:
        """The metrics of the test split in one line."""

    @staticmethod
    @abstractmethod
    def predictions_place(out: Path | None) -> Path:
        """The output path of `predict`: `out`, or a default. Raises UserError for a path that this task cannot write
        to."""

    @staticmethod
    @abstractmethod
    def predict(model: Model, config: Json, options: PredictOptions, out: Path, console: Console) -> Any:
        """Writes the model's predictions for images to `out` and returns them. config: of the model's folder.

        Images that cannot be read are named and left out; raises DataError if none is left."""

    def judge(self, model: Model, settings: Settings, on: Sequence[str], out: Path) -> str:
        """Scores the trained model, writes metrics.json and images into `out`; returns one line for people.

        on: where the data is.
        """
        result: Json = {"classes": self.data.classes, "on": list(on)}
        for split in ("val", "test"):
            if self.data.splits[split]:
                result[split] = self.judge_split(model, split, settings, out if split == "test" else None)
        write_json(out / RESULT, result)
        return self.headline(result["test"], self.data.classes)


def find_task(name: str, modality: str = IMAGE) -> type[TransferTask]:
    """The class of a task by the name that users give, for a kind of data. Raises UserError where it is for others."""
    module = task_module(name, "transfer")
    return getattr(module, module.__all__[0]).suited(modality)


def settings_from(kind: type[Settings], content: Mapping[str, object], where: Path) -> Settings:
    """The settings of a trained model, from `content`, the "settings" of its config.json, which has others besides.

    Raises UserError where one is missing or of another kind. where: the file.
    """
    defaults = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    named = {field.name: content[field.name] for field in fields(kind) if field.name in content}
    return typed(kind, defaults | named, str(where), "settings")
