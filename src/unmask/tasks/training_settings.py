"""Settings of a training with labels when everything has been chosen, typed; config.json holds them as `settings`."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from unmask.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every task needs to build its model and its batches; each adds its own."""

    protocol: str
    drop_path: float
    layer_decay: float  # factor on the learning rate from each layer to the one before
    batch: int  # images per optimizer step
    accumulate: int  # equal parts that a batch is worked off in
    flip: str  # on or off
    workers: int
    device: str
    precision: str
    seed: int = 0


Settings = TypeVar("Settings", bound=TrainingSettings)


def typed(kind: type[Settings], settings: Mapping[str, Any]) -> Settings:
    """The settings of a plan or of a config.json as a dataclass. Raises UserError where one is missing."""
    missing = [f.name for f in fields(kind) if f.default is MISSING and settings.get(f.name) is None]
    if missing:
        raise UserError(f"settings of a training are incomplete: {', '.join(missing)} missing")
    return kind(**tupled({f.name: settings[f.name] for f in fields(kind) if f.name in settings}))


def tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them, with tuples for its lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def loader_options(settings: TrainingSettings, micro: int | None = None) -> dict[str, Any]:
    """What the loaders of all tasks share. micro: images at a time, where it is not what the settings say."""
    batch = micro or settings.batch // settings.accumulate
    return {"batch": batch, "seed": settings.seed, "workers": settings.workers, "pin": settings.device == "cuda"}
