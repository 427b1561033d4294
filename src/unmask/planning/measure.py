"""Measures a few steps on a throw-away copy before training: time, memory, losses of trivial predictors; and counts
FLOPs."""

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.modality import make_modality
from unmask.data.transform import make_transform
from unmask.errors import UserError, many
from unmask.files import Json
from unmask.masking.mask import Sampler
from unmask.methods.mae import MAE
from unmask.planning.build import batch_to_inspect, build, prepare
from unmask.planning.initial_weights import Start
from unmask.planning.loaders import make_loader
from unmask.planning.plan import ASKED, Plan
from unmask.registry import find, parse
from unmask.runs.config import Config
from unmask.runtime.distributed.data_parallel import Devices, make_devices
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.distributed.ranks import Ranks
from unmask.training.log import memory_mb
from unmask.training.loop import backward
from unmask.training.objective import Batch, Objective
from unmask.training.optimizer import make_optimizer
from unmask.training.settings import Fit
from unmask.training.speed.compile import ready
from unmask.training.speed.step_cost import TooLarge, check_fits, step_flops
from unmask.training.timing import Timed

MEASURING = 0.08  # of a time budget, at most
STEPS, ENOUGH = 6, 30.0  # at most this many steps; seconds after which no further step is measured
CONTEXT_BATCHES = 4
LESS = {"graphs": "on", "on": "off"}  # what to try where compiling fails that was not asked for
COUNTED = 2  # images whose FLOPs are counted: batch norms need two
FEW = 8  # images per micro-batch above which smaller micro-batches are cheaper than recomputing activations


Batches = Callable[[int], Iterator[Batch]]  # a loader: from the n-th micro-batch on


@dataclass(frozen=True)
class Step:
    """What of a plan decides how long a step takes and how much memory it needs."""

    batch: int
    accumulate: int
    views_per_image: int
    checkpoint_activations: str | None  # on, off or auto; None where the objective has no such option
    compile: str | None
    decoder: str | None
    fused: bool
    hours: float | None  # of the whole run

    @classmethod
    def of(cls, options: Json) -> "Step":
        return cls(
            batch=options["batch"],
            accumulate=options["accumulate"],
            views_per_image=options.get("views_per_image", 1),
            checkpoint_activations=options.get("checkpoint_activations"),
            compile=options.get("compile"),
            decoder=options.get("decoder"),
            fused=options.get("fused") != "off",
            hours=options.get("hours"),
        )

    @property
    def micro(self) -> int:
        """Images at a time on one device."""
        return self.batch // self.accumulate // launch().world


@dataclass(frozen=True)
class Measured:
    computing: float  # seconds of one optimizer step, without waiting for its images
    memory_mb: int  # peak, with weights, gradients, moments and activations
    context: dict[str, float]  # losses of trivial predictors, on crops of this data
    preparing: float = 0.0  # seconds that a step waits for its images; without processes, a core works on them

    @property
    def seconds(self) -> float:
        """Seconds of one whole optimizer step."""
        return self.computing + self.preparing


def trial(
    make: Callable[[], Objective],
    loader: Callable[[int], Batches],
    plan: Plan,
    devices: Devices,
    retry: bool,
    enough: float = ENOUGH,
) -> Measured:
    """Runs a few steps of the planned batch. `loader(n)` gives micro-batches of n. With `retry`, a batch too large for
    the memory is split into micro-batches, and activation checkpointing is turned on if it was left open. On a CPU this
    is computed rather than tried. enough: seconds after which no further step is run. Raises UserError with remedies.
    """
    why = "so that the batch fits into memory"
    while True:
        step = Step.of(plan.settings)
        try:
            measured = _measure(make(), loader, step, devices, enough)
            break
        except (torch.OutOfMemoryError, TooLarge) as error:
            parts = 2 * step.accumulate
            divisible = retry and plan.divisible and not step.batch % (parts * launch().world * step.views_per_image)
            again = step.checkpoint_activations == "auto"
            if divisible and (step.micro > FEW or not again):
                plan.settings["accumulate"], plan.reasons["accumulate"] = parts, f"parts, {why}"
            elif again:
                plan.choose(
                    "checkpoint_activations", "on", f"computed again on the way back, {why}; a step takes longer"
                )
            else:
                raise UserError(_does_not_fit(step, str(error), plan.divisible)) from error
        except RuntimeError as error:  # any error of the compiler
            if plan.reasons.get("compile") == ASKED or step.compile not in LESS:
                raise
            plan.settings["compile"], plan.reasons["compile"] = LESS[step.compile], _failed(step.compile, error)
    if "checkpoint_activations" in plan.settings:
        plan.choose("checkpoint_activations", "off", "everything fits into memory")
    return measured


def measure(
    make_config: Callable[[], Config],
    plan: Plan,
    samples: Samples | StreamSamples,
    start: Start,
    ranks: Ranks,
    *,
    retry: bool,
    enough: float = ENOUGH,
) -> Measured:
    """Runs a few steps in every process at once; returns the needs of the slowest, and the largest number of
    micro-batches.

    make_config: builds the configuration from the choices so far, which `trial` may change. With DDP each process
    measures separately, so that one may run out of memory and try again; the exchange of gradients is not included.
    With FSDP2 all processes step together, without a second try. """  # fmt: skip
    config = make_config()
    shards = config.runtime.strategy == "fsdp2"
    devices = make_devices(config.runtime, alone=not shards)
    of_size = partial(make_loader, config, samples, workers=0)

    def make() -> Objective:
        now = make_config()
        return ready(build(now, start), now.runtime)

    return slowest(trial(make, of_size, plan, devices, retry and not shards, enough), plan, ranks)


def _failed(way: str, error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")[:80]
    return f"--compile {way} failed on this machine ({type(error).__name__}: {first})"


def _does_not_fit(step: Step, error: str, divisible: bool = True) -> str:
    """What a user can do, the cheapest remedy first."""
    micro = step.micro
    need = error if "at a time need" in error else f"{many(micro, 'image')} at a time do not fit into this device"
    full = (step.decoder or "").startswith("full")
    ways = ["--checkpoint-activations on"] if step.checkpoint_activations == "off" else []
    if micro > 1:
        parts = "a larger --accumulate" if divisible else "--grad-cache with --accumulate 2 or more"
        ways.append(f"a smaller --batch, or {parts} (the same result)")
    ways += ["--decoder windowed, or --decoder cross (faster too)"] if full else []
    ways += ["a larger --patch-size", "a smaller --image-size or --model"]
    return f"{need}: a step of this model does not fit into memory. What helps: {'; '.join(ways)}"


def slowest(measured: Measured, plan: Plan, ranks: Ranks) -> Measured:
    """Combines what several processes measured: the slowest time and the largest number of micro-batches; the plan is
    the first process's in all of them."""
    if ranks.world == 1:
        return measured
    settings = plan.settings
    again = float(settings["checkpoint_activations"] == "on")
    numbers = measured.computing, measured.memory_mb, measured.preparing, settings["accumulate"], again
    computing, memory, preparing, parts, again = ranks.most(*numbers)
    plan.settings, plan.reasons = ranks.share((settings, plan.reasons))
    plan.settings |= {"accumulate": int(parts)} | ({"checkpoint_activations": "on"} if again else {})
    measured = ranks.share(measured)  # the losses of trivial predictors
    return replace(measured, computing=computing, memory_mb=int(memory), preparing=preparing)


def _measure(
    objective: Objective, loader: Callable[[int], Batches], step: Step, devices: Devices, enough: float
) -> Measured:
    prepare(objective, loader)
    batch, accumulate = step.batch // launch().world, step.accumulate
    config = Fit(steps=STEPS, batch=batch, accumulate=accumulate, lr=1e-6)
    objective.progress, objective.scheduled = dearest(objective), objective.schedules(0.0)
    if devices.device.type == "cpu":  # elsewhere too large a step raises an error
        check_fits(objective.train(), next(loader(min(2, batch))(0)), batch // accumulate, devices.autocast)
    model = devices.setup(objective)
    optimizer: Any = make_optimizer(objective, fused=step.fused)
    objective.train()
    times, waits = [], []
    stream = Timed(loader(batch // accumulate)(0))
    torch.manual_seed(0)
    for _ in range(STEPS):
        start, stream.waited = time.perf_counter(), 0.0
        outputs = backward(model, objective, optimizer, stream, config, devices)
        optimizer.step()
        optimizer.zero_grad()
        float(outputs["loss"])  # waits for the device
        waits.append(stream.waited)
        times.append(time.perf_counter() - start - waits[-1])
        if sum(times) + sum(waits) > min(enough, MEASURING * 3600 * (step.hours or math.inf)):
            break
    measured = statistics.median(times[2:] or times)  # the first steps warm up caches
    preparing = statistics.median(waits[2:] or waits)
    context = _context(objective, loader(batch_to_inspect(objective))(0), devices)
    return Measured(measured, memory_mb(), context, preparing)


def dearest(objective: Objective) -> float:
    """The progress at which a step costs the most: where masks leave the most visible."""
    mask = getattr(objective, "mask", None)
    return mask.dearest if isinstance(mask, Sampler) else 0.0


def _context(objective: Objective, stream: Iterator[Batch], devices: Devices) -> dict[str, float]:
    """Trivial losses over a fixed number of images: the mean of a small batch would predict that batch too well."""
    losses: dict[str, list[float]] = {}
    if type(objective).context is Objective.context:  # knows none, so that no images need be decoded for it
        return {}
    for _ in range(CONTEXT_BATCHES):
        for name, value in objective.context(devices.move(next(stream))).items():
            losses.setdefault(name, []).append(float(value))
    return {name: statistics.fmean(values) for name, values in losses.items()}


def note_cost(plan: Plan, objective: Objective, decoder: str) -> None:
    """Adds the row "cost": FLOPs of an image in a step, and how many times MAE's. Nothing is noted of MAE itself,
    unless it has a teacher, or a mask that looks at the images.

    objective: to be thrown away; decoder: the one that MAE would have with this encoder.
    """
    looks = isinstance(objective, MAE) and objective.mask.needs - {"progress"}
    if isinstance(objective, MAE) and not plan.teachers and not looks:
        return
    flops, why = _flops(plan, objective, plan.settings["views"]), "of an image, forward and backward, counted"
    try:
        mae = MAE(copy.deepcopy(objective.encoder), decoder=decoder)
    except UserError:
        why += "; mae cannot train this encoder"
    else:
        why += f"; {flops / _flops(plan, mae, ['crops']):.2g} times what mae takes with this encoder"
    plan.settings["cost"], plan.reasons["cost"] = f"{flops / 1e9:.3g} GFLOPs", why


def _flops(plan: Plan, objective: Objective, views: Sequence[str]) -> float:
    settings, channels = plan.settings, objective.encoder.channels
    size = tuple(settings["image_size"])
    shared = {"size": size, "channels": channels, "patch": settings["patch_size"]}
    transform = make_transform(tuple(views), modality=make_modality(settings["modality"]), **shared)
    chance = torch.Generator().manual_seed(0)
    shapes = [(COUNTED, channels, *size) for size in transform.sizes]
    batch: Batch = {"views": [torch.randint(0, 256, s, generator=chance).byte() for s in shapes]}
    name, options = parse(settings["method"])
    if (captions := find("method", name).captions(options)) is not None:
        batch["tokens"] = torch.ones(COUNTED, captions.context, dtype=torch.long)
    return flops_of(objective, batch)


def flops_of(objective: Objective, batch: Batch) -> float:
    """FLOPs of an image in a step of an objective that is thrown away then: it is fitted to this batch."""
    objective.progress, objective.scheduled = dearest(objective), objective.schedules(0.0)
    with torch.random.fork_rng():
        objective.prepare(iter([batch]))
        return step_flops(objective.train(), batch)
