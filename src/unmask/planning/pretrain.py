"""The plan of a pretraining run: every setting chosen, each with its reason, as a table."""

import dataclasses
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.sheet import Sheet
from unmask.errors import many
from unmask.planning.build import build
from unmask.planning.initial_weights import Start, initial
from unmask.planning.length import plan_length
from unmask.planning.loaders import make_loader, note_readers, plan_order
from unmask.planning.measure import measure
from unmask.planning.model import plan_model
from unmask.planning.plan import Plan
from unmask.planning.runtime import plan_devices
from unmask.planning.safety import plan_caution
from unmask.planning.workers import plan_supply, plan_workers
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.machine import Machine
from unmask.training.log import clock
from unmask.training.resolution import at_size, firsts
from unmask.training.resolution import parse as parse_resolutions
from unmask.version import __version__


def make_plan(
    given: dict[str, Any],
    asked: dict[str, Any],
    reasons: dict[str, str],
    sheet: Sheet,
    samples: Samples | StreamSamples,
    here: Machine,
    began: float,
    console: Console,
    ranks: Ranks | None = None,
    start: Start | None = None,
    strategy: str = "auto",
) -> tuple[dict[str, Any], Table]:
    """Chooses, builds, measures a few steps; returns the configuration and the plan as a table.

    asked: by the user; given and reasons: with what a recipe filled in; strategy: how devices share the model; start:
    what --init names, if it is open.
    """
    plan = Plan(dict(given), dict(reasons))
    start = start or initial(given["init"], model=given["model"])
    for line in start.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    start.guide(plan, sheet.channels)
    encoder = plan_model(plan, sheet, here)
    plan_order(plan, samples)
    packed = samples.source.packed if isinstance(samples, Samples) else None
    plan_supply(plan, sheet, here, packed, stream=isinstance(samples, StreamSamples))
    plan.new_decoder = start.new_decoder(plan.settings, encoder)
    own = sheet.statistics(plan.settings["channels"])  # refuses channels that the data cannot be brought to
    mean, std = start.statistics(own, plan)
    config: dict[str, Any] = {"asked": asked, "settings": plan.settings, "mean": list(mean), "std": list(std)}
    parameters = sum(p.numel() for p in build(config, Start()).parameters() if p.requires_grad)
    plan_devices(plan, strategy, parameters, here.memory)
    samples.channels, config["max_side"] = plan.settings["channels"], samples.max_side
    make_loader(config, samples)  # refuses a batch that cannot be divided
    console.print(f"Measuring a few steps of {plan.settings['batch']:,} images ...")
    ranks = ranks or Ranks()
    measured = measure(ranks, config, samples, plan, retry=given["accumulate"] is None, start=start)
    config["context"] = measured.context
    stages = parse_resolutions(plan.settings["resolutions"])
    found = [measured]
    for stage in reversed(stages[:-1]):
        small = at_size(config, stage.size)
        found.insert(0, measure(ranks, small, samples, plan, retry=False, start=start))
    shares = [stage.share for stage in stages] or [1.0]
    preparing = sum(share * one.preparing for share, one in zip(shares, found))
    per_step = plan_workers(plan, here, preparing, sum(share * one.computing for share, one in zip(shares, found)))
    note_readers(plan, samples)
    steps, seconds = plan_length(plan, len(samples), per_step, here, time.monotonic() - began)
    plan_caution(plan)
    config["fit"] = {"steps": steps, "seconds": seconds}
    if stages:
        costs = [round(one.seconds / measured.seconds, 4) for one in found]
        config["fit"] |= {"costs": costs, "begins": firsts(stages, steps)}
    config["expected"] = {"seconds": steps * per_step, "images_per_second": plan.settings["batch"] / per_step}
    config["expected"]["memory_mb"] = measured.memory_mb
    config["timm"] = encoder.arguments
    if start.facts is not None:
        config |= {"weights": start.facts, "licence": start.facts["licence"]}
    config["data"] = {
        "fingerprint": sheet.fingerprint,
        "count": len(samples),
        "split": "train" if sheet.splits else None,
        "packed": packed,
    }
    config["reasons"] = plan.reasons
    config["machine"] = dataclasses.asdict(here)
    config["launch"] = dataclasses.asdict(launch())
    config["command"] = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    packages = ("torch", "torchvision", "timm", "lightning")
    config["versions"] = {"unmask": __version__, "python": platform.python_version()}
    config["versions"] |= {name: version(name) for name in packages}
    return config, plan_table(plan, many(len(samples), "image"))


def expectation(config: dict[str, Any], here: Machine) -> str:
    """Time and memory in words, before training starts."""
    expected, fit_ = config["expected"], config["fit"]
    speed = f"{many(fit_['steps'], 'step')} at {expected['images_per_second']:.0f} images/s"
    memory = f"peak memory {expected['memory_mb']:,} MB of {here.memory / 2**20:,.0f} MB free on {here.name}"
    return f"Expected: {clock(expected['seconds'])} for {speed}; {memory}."


def plan_table(plan: Plan, title: str) -> Table:
    """Every choice with its reason, for a terminal."""
    table = Table("setting", "value", "why", title=f"Plan for {title}", title_justify="left", box=None, pad_edge=False)
    for row in plan.rows():
        table.add_row(*row)
    return table
