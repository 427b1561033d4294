"""Time in a run: how long it waits for data, and how many steps fit into a time budget."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from unmask.resolution import steps_within, work_until


class Timed:
    """A stream of batches that adds the seconds spent waiting for them to `state["waited"]`."""

    def __init__(self, stream: Iterator[Any], state: dict[str, Any]):
        self.stream, self.state = stream, state

    def __iter__(self) -> "Timed":
        return self

    def __next__(self) -> Any:
        start = time.monotonic()
        batch = next(self.stream)
        self.state["waited"] += time.monotonic() - start
        return batch


def steps_in_time(
    state: dict[str, Any], budget: float | None, begins: Sequence[int] = (0,), costs: Sequence[float] = (1.0,)
) -> int:
    """As many steps as fit into `budget` seconds at the speed so far, more or fewer than planned; the rate follows.

    begins, costs: steps at which what a step costs changes, and what it costs from there on, as in `resolution.py`.
    """
    step = state["step"]
    if budget is None or step >= state["steps"]:
        return state["steps"]
    left = (budget - state["seconds"]) * work_until(step, begins, costs) / state["seconds"]
    return step + steps_within(left, begins, costs, step)
