"""Where a training stands: what a checkpoint holds besides weights and moments."""

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RunState:
    steps: int  # optimizer steps in all, as planned now
    step: int = 0  # made so far
    seconds: float = 0.0  # of training
    waited: float = 0.0  # seconds for data since the last record
    best: dict[str, float] | None = None  # step and score of the best weights so far

    bad_in_row: int = 0  # steps that were left out one after the other, up to now
    skipped: int = 0  # in all
    losses: tuple[float, ...] = ()  # recent ones of steps that counted
    limit: float = math.inf  # that a loss may reach
    window: tuple[dict[str, float], ...] = ()  # what was computed since the last record

    skip: int = 0  # batches that the stream is ahead of the steps
    rolled: tuple[dict[str, Any], ...] = ()  # the times that the run went back
    tries: int = 0  # of going back without getting past the place
    saves: int = 0  # checkpoints written


def state_of(saved: dict[str, Any]) -> RunState:
    """The state in a checkpoint, which holds weights and moments besides."""
    return RunState(**{field.name: saved[field.name] for field in fields(RunState)})
