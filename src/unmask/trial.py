"""Measures a few steps on a throw-away copy, before anything is promised: time, memory, trivial losses."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric

from unmask.errors import UserError
from unmask.log import memory_mb
from unmask.objective import Batch, Objective
from unmask.optim import adamw
from unmask.plan import Plan
from unmask.train import Fit, backward

STEPS, CONTEXT_BATCHES = 6, 8


@dataclass(frozen=True)
class Measured:
    seconds: float  # of one optimizer step
    memory_mb: int  # peak, with weights, gradients, moments and activations
    context: dict[str, float]  # losses of trivial predictors, on crops of this data


def trial(
    make: Callable[[], Objective], loader: Callable[[int], Iterator[Batch]], plan: Plan, fabric: Fabric, retry: bool
) -> Measured:
    """Runs a few steps of the planned batch. With `retry`, a batch too large for the device is worked off in parts."""
    settings = plan.settings
    while True:
        try:
            return _measure(make(), loader, settings["batch"], settings["accumulate"], fabric)
        except torch.OutOfMemoryError as error:
            parts = 2 * settings["accumulate"]
            if not retry or settings["batch"] % parts:
                raise UserError(
                    f"a batch of {settings['batch']} in {settings['accumulate']} parts does not fit into the memory of"
                    " this device; try a smaller --batch or --model, or a larger --accumulate or --patch-size"
                ) from error
            settings["accumulate"] = parts
            plan.reasons["accumulate"] = "parts, so that the batch fits into the device's memory"


def _measure(
    objective: Objective, loader: Callable[[int], Iterator[Batch]], batch: int, accumulate: int, fabric: Fabric
) -> Measured:
    config = Fit(steps=STEPS, batch=batch, accumulate=accumulate, lr=1e-6)
    model, optimizer = fabric.setup(objective, adamw(objective, 0.0))
    objective.train()
    stream, times = loader(0), []
    torch.manual_seed(0)
    for _ in range(STEPS):
        start = time.perf_counter()
        outputs = backward(model, optimizer, stream, config, fabric)
        optimizer.step()
        optimizer.zero_grad()
        float(outputs["loss"])  # waits for the device
        times.append(time.perf_counter() - start)
    context: dict[str, list[float]] = {}
    for _ in range(CONTEXT_BATCHES):
        for name, value in objective.context(fabric.to_device(next(stream))).items():
            context.setdefault(name, []).append(float(value))
    means = {name: statistics.fmean(values) for name, values in context.items()}
    return Measured(statistics.median(times[2:]), memory_mb(), means)  # the first steps warm caches up
