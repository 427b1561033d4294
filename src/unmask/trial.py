"""Measures a few steps on a throw-away copy, before anything is promised: time, memory, trivial losses."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric

from unmask.errors import UserError
from unmask.log import memory_mb
from unmask.objective import Batch, Objective
from unmask.optim import make_optimizer
from unmask.plan import Plan
from unmask.train import Fit, backward

STEPS, ENOUGH = 6, 30.0  # at the most; seconds after which no further step is measured
CONTEXT_BATCHES, CONTEXT_BATCH = 4, 128
PREPARE_BATCHES = 8  # of CONTEXT_BATCH


Batches = Callable[[int], Iterator[Batch]]  # a loader: from the n-th micro-batch on


@dataclass(frozen=True)
class Measured:
    seconds: float  # of one optimizer step
    memory_mb: int  # peak, with weights, gradients, moments and activations
    context: dict[str, float]  # losses of trivial predictors, on crops of this data


def trial(
    make: Callable[[], Objective], loader: Callable[[int], Batches], plan: Plan, fabric: Fabric, retry: bool
) -> Measured:
    """Runs a few steps of the planned batch. `loader(n)` gives micro-batches of n. With `retry`, a batch too large for
    the device is worked off in parts."""
    settings = plan.settings
    while True:
        try:
            return _measure(make(), loader, settings, fabric)
        except torch.OutOfMemoryError as error:
            parts = 2 * settings["accumulate"]
            if not retry or settings["batch"] % parts:
                raise UserError(
                    f"a batch of {settings['batch']} in {settings['accumulate']} parts does not fit into the memory of"
                    " this device; try a smaller --batch or --model, or a larger --accumulate or --patch-size"
                ) from error
            settings["accumulate"] = parts
            plan.reasons["accumulate"] = "parts, so that the batch fits into the device's memory"


def prepare(objective: Objective, loader: Callable[[int], Batches]) -> None:
    """Shows a new objective the first few batches of its data, if it wants to see them."""

    def batches() -> Iterator[Batch]:  # opens the loader only when asked: it may start processes
        yield from islice(loader(CONTEXT_BATCH)(0), PREPARE_BATCHES)

    objective.prepare(batches())


def _measure(
    objective: Objective, loader: Callable[[int], Batches], settings: dict[str, Any], fabric: Fabric
) -> Measured:
    prepare(objective, loader)
    batch, accumulate = settings["batch"], settings["accumulate"]
    config = Fit(steps=STEPS, batch=batch, accumulate=accumulate, lr=1e-6)
    made = make_optimizer(objective, fused=settings.get("fused") != "off")
    model, optimizer = fabric.setup(objective, made)
    objective.train()
    stream, times = loader(batch // accumulate)(0), []
    torch.manual_seed(0)
    for _ in range(STEPS):
        start = time.perf_counter()
        outputs = backward(model, optimizer, stream, config, fabric)
        optimizer.step()
        optimizer.zero_grad()
        float(outputs["loss"])  # waits for the device
        times.append(time.perf_counter() - start)
        if sum(times) > ENOUGH:
            break
    measured = statistics.median(times[2:] or times)  # the first steps warm caches up
    return Measured(measured, memory_mb(), _context(objective, loader(CONTEXT_BATCH)(0), fabric))


def _context(objective: Objective, stream: Iterator[Batch], fabric: Fabric) -> dict[str, float]:
    """Always over the same number of pictures, whatever the batch: the average of a small batch would fit it well."""
    found: dict[str, list[float]] = {}
    for _ in range(CONTEXT_BATCHES):
        for name, value in objective.context(fabric.to_device(next(stream))).items():
            found.setdefault(name, []).append(float(value))
    return {name: statistics.fmean(values) for name, values in found.items()}
