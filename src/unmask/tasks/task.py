"""What the verb `transfer` asks of a task: labelled data, a plan, something to train, a score, a judgement.

A task is a folder of `tasks/` with a `transfer.py`; its `settings.py` says how users name it. Each task opens its own
kind of labels; the steps that all share are in `cli/commands/transfer.py`, and the loop is the one loop.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from torch import device, nn

from unmask.models.encoder import Encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.runtime.progress import progress
from unmask.training.objective import Batch, Task


@contextmanager
def looking(console: Console, words: str) -> Iterator[dict[str, Any]]:
    """Arguments for what reads data: `say` for what a person should know, `progress` with a bar while this is open."""
    with progress(console, words) as update:
        yield {
            "say": lambda text: console.print(text, soft_wrap=True, markup=False),
            "progress": update,
        }


class Lesson(ABC):
    """One task, on one encoder and one set of labelled data that has been read and checked.

    `__init__(options, encoder, console)` reads; it raises UserError and DataError, and says what a person should know.
    `encoder` stays as it is: tasks train copies.
    """

    name: ClassVar[str]  # of the task, as in --to
    looks: ClassVar[int] = 2**31  # at the val split during a training, at the most; about once an epoch else
    sheet: Any  # a dataclass of plain values about the data, with `fingerprint`; kept as data_sheet.json
    count: int  # training images
    has_val: bool  # there is a val split to keep the best weights by
    encoder: Encoder  # what it starts from

    @abstractmethod
    def __init__(self, options: Any, encoder: Encoder, console: Console): ...

    @abstractmethod
    def plan(self, plan: Plan, scratch: bool, machine: Machine) -> None:
        """Fills in what `plan.settings` leaves open. scratch: only the architecture of the encoder counts."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """For config.json: "classes", and whatever else the model needs to be made again. Plain values."""

    def data_facts(self) -> dict[str, Any]:
        """For "data" in config.json, beside fingerprint and count. Plain values."""
        return {}

    @abstractmethod
    def make_task(self, settings: dict[str, Any], scratch: bool) -> Task:
        """The task before training; the same arguments give the same weights."""

    @abstractmethod
    def make_loader(self, settings: dict[str, Any], micro: int | None = None) -> Callable[[int], Iterator[Batch]]:
        """Training batches of settings["batch"] / settings["accumulate"] samples, or of `micro`."""

    @abstractmethod
    def score(self, model: nn.Module, split: str, settings: dict[str, Any], where: device) -> dict[str, Any]:
        """How good a model on `where` is on a split. "main" names the entry to compare by, from 0 to 1; entries whose
        names are in "watched" are recorded while training; "tie" (optional) decides between equals, more is better."""

    @abstractmethod
    def judge(self, model: nn.Module, config: dict[str, Any], out: Path, where: device) -> str:
        """Scores the trained model, writes metrics.json and images into `out`; returns one line for people."""

    @classmethod
    @abstractmethod
    def predict(cls, options: Any, folder: Path, console: Console) -> Any:
        """The work of `unmask predict` with the model in `folder`. options: of the verb."""


def names() -> dict[str, str]:
    """What can be learnt with labels: the folder of each task by the name that users give."""
    package = importlib.import_module("unmask.tasks")
    folders = [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]
    with_transfer = [folder for folder in folders if find_spec(f"unmask.tasks.{folder}.transfer")]
    return {importlib.import_module(f"unmask.tasks.{folder}.settings").NAME: folder for folder in with_transfer}


def find_task(name: str) -> type[Lesson]:
    """The class of a task by the name that users give."""
    module = importlib.import_module(f"unmask.tasks.{names()[name]}.transfer")
    return getattr(module, module.__all__[0])
