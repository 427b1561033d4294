"""The state of a training run: what a checkpoint holds besides weights and moments."""

import math
from dataclasses import dataclass, fields

from unmask.files import Json


@dataclass(frozen=True, kw_only=True)
class RunState:
    steps: int  # optimizer steps in total, as currently planned
    step: int = 0  # made so far
    seconds: float = 0.0  # of training
    waited: float = 0.0  # seconds for data since the last record
    best: dict[str, float] | None = None  # step and score of the best weights so far

    bad_in_row: int = 0  # skipped steps in a row, up to now
    skipped: int = 0  # in all
    losses: tuple[float, ...] = ()  # recent ones of steps that counted
    limit: float = math.inf  # that a loss may reach
    window: tuple[dict[str, float], ...] = ()  # what was computed since the last record

    skip: int = 0  # batches by which the stream is ahead of the steps
    rolled: tuple[Json, ...] = ()  # rollbacks so far
    tries: int = 0  # rollbacks at the current point of failure
    saves: int = 0  # checkpoints written


def state_of(saved: Json) -> RunState:
    """The run state within a checkpoint's contents."""
    return RunState(**{field.name: saved[field.name] for field in fields(RunState)})
