"""Time in a run: how long it waits for data, and how many steps fit into a time budget."""

import time
from collections.abc import Iterator
from typing import Any


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


def steps_in_time(state: dict[str, Any], budget: float | None) -> int:
    """As many steps as fit into `budget` seconds at the speed so far, more or fewer than planned; the rate follows."""
    if budget is None or state["step"] >= state["steps"]:
        return state["steps"]
    left = (budget - state["seconds"]) * state["step"] / state["seconds"]
    return max(state["step"], state["step"] + int(left))
