"""Tools that receive the records too: one file per tool, named after the package that it needs."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

Plain: TypeAlias = str | int | float | bool
IDS = "trackers.json"  # in a run folder: under which names tools know the run


class Tracker(ABC):
    """Receives the numbers of every record, and the settings once. Made from its text: `wandb(project='cats')`."""

    @abstractmethod
    def begin(self, out: Path, settings: Mapping[str, Plain], step: int) -> None:
        """Opens the run, or goes on with it where `out` was begun before. Called again when training goes back.

        step: optimizer steps made; what was recorded beyond it will come again.
        """

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one record."""

    @abstractmethod
    def close(self) -> None:
        """Called once, at the end."""


def scalars(settings: Mapping[str, object]) -> dict[str, Plain]:
    """Settings as tools take them: lists and the like as JSON text, and nothing that is left open."""
    given = {name: value for name, value in settings.items() if value is not None}
    return {n: v if isinstance(v, str | int | float) else json.dumps(v, default=str) for n, v in given.items()}
