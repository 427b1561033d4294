"""Chooses how a run uses the machine: precision, threads, compilation, devices, each with its reason."""

from collections.abc import Mapping
from dataclasses import replace

from unmask.choice import Choice
from unmask.errors import UserError, many
from unmask.planning.plan import Plan
from unmask.runs.config import Config
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.machine import Machine, choices

STATE = 20  # bytes per parameter under DDP: fp32 weight, gradient, what it is sent from, and two moments
ROOM = 0.5  # of a device's memory that these may take before they are cut into shards


def plan_devices(plan: Plan, strategy: str, parameters: int, memory: int) -> None:
    """How a run spreads over the devices it was started on. parameters: trained ones; memory: free bytes on a device.

    DDP sends less and every device can go on alone with what it has; FSDP2 is for models whose weights, gradients and
    moments leave no room for images.
    """
    launched = launch()
    plan.settings["strategy"] = strategy
    if launched.world == 1:
        return
    on = many(launched.here, "device") + (f" of each of {launched.nodes} machines" if launched.nodes > 1 else "")
    if strategy == "fsdp2" and plan.settings["precision"] == "bf16-weights":
        raise UserError("--strategy fsdp2 cuts weights and would lose the masters of bf16-weights; --precision bf16")
    share = STATE * parameters / memory
    kind, why = ("fsdp2", "shards save memory:") if share > ROOM else ("ddp", "each device holds all:")
    takes = f"weights, gradients and moments take {share:.0%} of its free memory"
    plan.choose("strategy", kind, f"over {on}; {why} {takes}")


def continued(config: Config, accumulate: int | None, strategy: str) -> Config:
    """The configuration of a run that goes on, with what may change since it changes how it computes and not what: the
    parts of a batch, and how it spreads over devices. accumulate, strategy: as they are asked for now."""
    world = launch().world
    parts = accumulate or max(1, config.training.accumulate * config.record.launch.world // world)
    strategy = strategy if strategy != "auto" else config.runtime.strategy
    strategy = "ddp" if strategy == "auto" and world > 1 else strategy
    training, runtime = replace(config.training, accumulate=parts), replace(config.runtime, strategy=strategy)
    return replace(config, training=training, runtime=runtime)


GRAPHS = 128  # images up to which launching kernels takes a large part of a step on a GPU


def plan_runtime(plan: Plan, machine: Machine, fastest: Mapping[str, Choice] | None = None) -> None:
    """What makes this machine fast. fastest: `choices` of the machine; None: they are made here."""
    plan.settings["device"], plan.reasons["device"] = machine.device, machine.name
    plan.settings["precision"], plan.reasons["precision"] = machine.precision, machine.why_precision
    chosen = dict(fastest or choices(machine.device, measure=not plan.settings.get("deterministic")))
    if machine.device == "cuda" and plan.settings["batch"] <= GRAPHS and plan.settings["accumulate"] == 1:
        why = "blocks compiled once; the batch is so small that launching kernels would count"
        chosen["compile"] = Choice("graphs", why)
    plan.choose_all(chosen)
