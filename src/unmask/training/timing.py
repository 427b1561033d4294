"""Timing of a run: how long it waits for data, and how many steps fit into a time budget."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from unmask.data.loaders.on_device import SMALL
from unmask.data.modality import IMAGE
from unmask.data.settings import DataSettings, cheaper
from unmask.training.resolution import steps_within, work_until
from unmask.training.state import RunState


class Timed:
    """A stream of batches that adds up the seconds spent waiting for them."""

    def __init__(self, stream: Iterator[Any], waited: float = 0.0):
        self.stream, self.waited = stream, waited

    def __iter__(self) -> "Timed":
        return self

    def __next__(self) -> Any:
        start = time.monotonic()
        batch = next(self.stream)
        self.waited += time.monotonic() - start
        return batch


def steps_in_time(
    state: RunState, budget: float | None, begins: Sequence[int] = (0,), costs: Sequence[float] = (1.0,)
) -> int:
    """The number of steps that fit into `budget` seconds at the speed so far, more or fewer than planned.

    begins, costs: first steps of stages, and the cost of a step in each, as in `resolution.py`.
    """
    if budget is None or state.step >= state.steps:
        return state.steps
    left = (budget - state.seconds) * work_until(state.step, begins, costs) / state.seconds
    return state.step + steps_within(left, begins, costs, state.step)


WAITING = 0.1  # share of the time above which advice is given


def waiting_share(records: Iterable[dict[str, Any]]) -> float | None:
    """Share of a run's time spent waiting for data; None if not recorded."""
    waited, before = 0.0, 0.0
    recorded = False
    for record in records:
        if "waiting" in record and "seconds" in record:
            waited += record["waiting"] * max(0.0, record["seconds"] - before)
            before, recorded = record["seconds"], True
    return waited / before if recorded and before > 0 else None


def waiting_advice(share: float | None, data: DataSettings, device: str, cores: int) -> str | None:
    """Advice on faster loading if the device waits more than a tenth of the time."""
    if share is None or share <= WAITING:
        return None
    ways = []
    workers, stream = data.workers, data.shuffle_buffer is not None
    if device != "cpu" and workers < cores - 1 and data.in_memory != "on":
        ways.append(f"more processes (--workers {min(cores - 1, max(2, 2 * workers))})")
    if data.modality != IMAGE:
        return _advice(share, [*ways, f"cheaper to read: {cheaper(data.modality, data.image_size)}"])
    if stream:
        ways.append("copy the shards onto a disk of this machine, or pack what fits there (unmask pack)")
    elif data.packed is None:
        ways.append("pack the images once (unmask pack DATA data.pack, then train on data.pack)")
    elif data.packed != "raw":
        ways.append("pack them as pixels (unmask pack DATA data.pack --format raw)")
    if data.views_per_image == 1:
        ways.append("take several crops of each decoded image (--views-per-image 4)")
    if not stream and data.in_memory == "off" and max(data.image_size) <= SMALL:
        ways.append("keep them on the device if they are small and of one size (--in-memory on)")
    return _advice(share, ways) if ways else None


def _advice(share: float, ways: Sequence[str]) -> str:
    return f"{share:.0%} of the time went into waiting for data. What helps: {'; '.join(ways)}."
