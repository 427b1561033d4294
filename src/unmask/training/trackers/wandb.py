"""Weights & Biases: online, or offline into the run's `wandb/`, from where `wandb sync` sends it later."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from unmask.files import read_json, write_json
from unmask.training.trackers import IDS, Plain, Tracker

__all__ = ["Wandb"]


class Wandb(Tracker):
    """One W&B run per run folder; a resumed training goes on with it. W&B drops steps that it has had already.

    offline: as the environment says (WANDB_MODE) unless True.
    """

    def __init__(self, project: str = "unmask", entity: str | None = None, offline: bool = False):
        self.project, self.entity, self.offline = project, entity, offline
        self._run: Any = None

    def begin(self, out: Path, settings: Mapping[str, Plain], step: int) -> None:
        if self._run is not None:
            return
        ids = read_json(out / IDS)
        self._run = import_module("wandb").init(
            project=self.project,
            entity=self.entity,
            name=out.resolve().name,
            id=ids.get("wandb"),
            resume="allow",
            dir=str(out),
            config=dict(settings),
            mode="offline" if self.offline else None,
        )
        write_json(out / IDS, ids | {"wandb": self._run.id})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
