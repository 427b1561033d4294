"""What `transfer` asks of a task: labelled data, a plan, something to train, a score, a judgement.

A task is a folder of `tasks/` with a `transfer.py`; its `settings.py` says how users name it and which options it alone
takes. Each task opens its own kind of labels; the steps that all share are in `cli/commands/transfer.py`, and the loop
is the one loop.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from rich.console import Console

from unmask.files import RESULT, write_json
from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.runtime.progress import progress
from unmask.tasks.folders import task_module
from unmask.tasks.training_settings import TrainingSettings, typed
from unmask.training.objective import Batch, Task

Options = TypeVar("Options")
Settings = TypeVar("Settings", bound=TrainingSettings)


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


class LabelledData(Protocol):
    """What the data sets of all tasks have."""

    @property
    def classes(self) -> list[str]: ...
    @property
    def splits(self) -> Mapping[str, Sequence[int]]: ...
    @property
    def sheet(self) -> Any: ...  # a dataclass of plain values with `fingerprint`; kept as data_sheet.json


class TransferTask(ABC, Generic[Options, Settings]):
    """One task, on one encoder and one set of labelled data that has been read and checked.

    `encoder` stays as it is: tasks train copies.
    """

    name: ClassVar[str]  # of the task, as in --to
    model: ClassVar[Any]  # what it makes; has `of_config(encoder, config)`
    settings: type[Settings]  # what a plan is turned into
    looks: ClassVar[int] = 2**31  # at the val split during a training, at the most; about once an epoch else
    takes_threshold: ClassVar[bool] = False  # `predict` can leave out answers below a score
    data: LabelledData
    encoder: Encoder  # what it starts from

    @abstractmethod
    def __init__(self, data: DataOptions, options: Options, encoder: Encoder, console: Console):
        """Reads the data and says what a person should know. Raises UserError and DataError for what cannot work."""

    @property
    def count(self) -> int:
        """Training images."""
        return len(self.data.splits["train"])

    @property
    def has_val(self) -> bool:
        """There is a val split to keep the best weights by."""
        return bool(self.data.splits["val"])

    @abstractmethod
    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        """Fills in what `plan.settings` leaves open. scratch: only the architecture of the encoder counts."""

    def facts(self) -> dict[str, Any]:
        """For config.json: "classes", and whatever else the model needs to be made again. Plain values."""
        return {"classes": self.data.classes}

    def data_facts(self) -> dict[str, Any]:
        """For "data" in config.json, beside fingerprint and count. Plain values."""
        return {}

    @abstractmethod
    def make_objective(self, settings: Settings, scratch: bool) -> Task:
        """The objective before training; the same arguments give the same weights."""

    @abstractmethod
    def make_loader(self, settings: Settings, micro: int | None = None) -> Callable[[int], Iterator[Batch]]:
        """Training batches of settings.batch / settings.accumulate samples, or of `micro`."""

    @abstractmethod
    def score(self, model: Any, split: str, settings: Settings, device: torch.device) -> dict[str, Any]:
        """How good a model on `device` is on a split. "main" names the entry to compare by, from 0 to 1; entries whose
        names are in "watched" are recorded while training; "tie" (optional) decides between equals, more is better."""

    @abstractmethod
    def judge_split(
        self, model: Any, split: str, settings: Settings, device: torch.device, out: Path | None
    ) -> dict[str, Any]:
        """Figures of a split for metrics.json; with `out`, images and tables too."""

    @staticmethod
    @abstractmethod
    def headline(result: dict[str, Any], classes: list[str]) -> str:
        """The figures of the test split in one line for people."""

    @staticmethod
    @abstractmethod
    def predictions_place(out: Path | None) -> Path:
        """Where `predict` writes: `out`, or a default. Raises UserError for what this task cannot write into."""

    @staticmethod
    @abstractmethod
    def predict(model: Any, config: dict[str, Any], options: PredictOptions, out: Path, console: Console) -> Any:
        """Writes what the model says of images into `out` and returns it. config: of the model's folder.

        Images that cannot be read are named and left out; raises DataError where none is left."""

    def judge(self, model: Any, config: dict[str, Any], out: Path, device: torch.device) -> str:
        """Scores the trained model, writes metrics.json and images into `out`; returns one line for people."""
        settings = typed(self.settings, config["settings"])
        result: dict[str, Any] = {"classes": config["classes"], "on": config["asked"]["on"]}
        for split in ("val", "test"):
            if self.data.splits[split]:
                result[split] = self.judge_split(model, split, settings, device, out if split == "test" else None)
        write_json(out / RESULT, result)
        return self.headline(result["test"], config["classes"])


@contextmanager
def reading(console: Console, words: str) -> Iterator[dict[str, Any]]:
    """Arguments for what reads data: `say` for what a person should know, `progress` with a bar while this is open."""
    with progress(console, words) as update:
        yield {
            "say": lambda text: console.print(text, soft_wrap=True, markup=False),
            "progress": update,
        }


def find_task(name: str) -> type[TransferTask]:
    """The class of a task by the name that users give."""
    module = task_module(name, "transfer")
    return getattr(module, module.__all__[0])
