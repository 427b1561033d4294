"""The verb `pretrain`, step by step: look at the data, plan, measure, say so, train, export, report."""

import contextlib
import dataclasses
import platform
import shlex
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from unmask import __version__, checkpoint, keeping
from unmask.caution import caution, determinism, early, plan_caution, require_writable, short_of_room
from unmask.devices import make_fabric
from unmask.errors import UserError
from unmask.feeding import look_at, make_loader, plan_order
from unmask.init import Start, initial
from unmask.log import METRICS, Log, clock, make_console, memory_mb, read
from unmask.objective import Objective
from unmask.plan import Plan, plan_length, plan_model
from unmask.probing import Probe
from unmask.ready import ready
from unmask.recipe import follow
from unmask.recompute import recompute
from unmask.report import write_report
from unmask.resized import answer_by_size
from unmask.resolution import NONE, at_size, firsts
from unmask.resolution import parse as parse_resolutions
from unmask.run import CONFIG, SUMMARY, Run, make_objective
from unmask.runtime import Machine, check, machine, settings_now, tune
from unmask.samples import Samples
from unmask.seeds import mix
from unmask.sheet import Sheet, write_bad_files
from unmask.spec import build as build_part
from unmask.spec import find, parse
from unmask.streamed import StreamSamples
from unmask.supply import plan_supply, plan_workers, waiting_advice, waiting_share
from unmask.train import Fit, fit
from unmask.trial import prepare, trial
from unmask.verb import plain
from unmask.verbs.pretrain import Pretrain
from unmask.watch import Watch

NOT_SETTINGS = ("out", "config", "dry_run")  # where and how, not what


def pretraining(options: Pretrain) -> Run | None:
    """See `unmask.verbs.pretrain.pretrain`."""
    began, console, out = time.monotonic(), make_console(), Path(options.out)
    asked = asked_for(options)
    options, reasons = follow(options, "pretrain")
    saved = Run(out).config if (out / CONFIG).exists() else None
    if saved is not None:
        refuse_other_settings(asked, saved, out)
        if Run(out).finished and not options.dry_run:
            console.print(f"{out} is finished; nothing to do. Look at {out / 'report.html'}", soft_wrap=True)
            return Run(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there and is no run folder; give a new or empty folder with --out")

    early(options.deterministic)
    require_writable(out)
    here = machine(options.device, options.precision)
    check(asked)
    refuse_typos(options)
    if said := tune(here.device, settings_now(saved) if saved else asked):
        console.print(said, soft_wrap=True)
    sheet, samples = look_at(options, saved, console)
    if saved is None:
        config, table = make_plan(options, asked, reasons, sheet, samples, here, began, console)
        console.print(table)
        console.print(expectation(config, here), soft_wrap=True)
    else:
        config = saved
        if config["data"]["fingerprint"] != sheet.fingerprint:
            raise UserError(
                f"the data changed since {out} was begun ({config['data']['count']} pictures then, {sheet.count} now,"
                " or other content), so it cannot be continued exactly. Start in a new folder with --out"
                f" (and --init {out} to go on from its weights)"
            )
    if options.dry_run:
        return None
    settings = config["settings"]
    place, size = settings["probe"], tuple(settings["image_size"])
    probe = Probe(place, size, settings["seed"]) if place else None  # refuses data without labels before training
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(out / CONFIG, config)
    checkpoint.write_json(out / "data_sheet.json", dataclasses.asdict(sheet))
    write_bad_files(out / "bad_files.txt", sheet.bad)
    with determinism(settings.get("deterministic", False)):
        train(config, samples, probe, out, console)
    return Run(out)


def refuse_typos(options: Pretrain) -> None:
    """Names that are wrong are said at once, not after a long look at the data."""
    build_part(options.mask, "unmask.masks")
    for text, package in ((options.target, "targets"), (options.decoder, "decoders"), (options.method, "methods")):
        if text:
            find(parse(text)[0], f"unmask.{package}")


def asked_for(options: Pretrain) -> dict[str, Any]:
    """The options as plain values; paths absolute, so that the same data is the same from any folder."""
    asked = {k: v for k, v in plain(options).items() if k not in NOT_SETTINGS}
    places = {name: absolute(asked[name]) for name in ("init", "probe") if asked[name]}
    return asked | places | {"data": [absolute(place) for place in asked["data"]]}


def refuse_other_settings(asked: dict[str, Any], saved: dict[str, Any], out: Path) -> None:
    """A folder holds one run: what is asked now must be what was asked then, or what was chosen then."""
    fields = {field.name: field.default for field in dataclasses.fields(Pretrain)}
    then = {name: fields[name] for name in fields.keys() - saved["asked"].keys()} | saved["asked"]  # options new since
    differing = [
        f"  {name}: {_said(saved, name)} in the folder, {'chosen' if value is None else value} now"
        for name, value in asked.items()
        if value != then.get(name) and value != saved["settings"].get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds a run with other settings:\n" + "\n".join(differing) + "\n"
            "Give the same settings to continue it, or another folder with --out (--init RUN starts from its weights)."
        )


def make_plan(
    options: Pretrain,
    asked: dict[str, Any],
    reasons: dict[str, str],
    sheet: Sheet,
    samples: Samples | StreamSamples,
    here: Machine,
    began: float,
    console: Console,
) -> tuple[dict[str, Any], Table]:
    """Chooses, builds, measures a few steps; returns the configuration and the plan as a table.

    asked: by the user; options and reasons: with what a recipe filled in.
    """
    plan = Plan(asked_for(options), dict(reasons))
    start = initial(str(options.init), model=options.model)
    for line in start.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    start.guide(plan, sheet)
    encoder = plan_model(plan, sheet, here)
    plan_order(plan, samples)
    packed = samples.source.packed if isinstance(samples, Samples) else None
    plan_supply(plan, sheet, here, packed, stream=isinstance(samples, StreamSamples))
    plan.new_decoder = start.new_decoder(plan.settings, encoder)
    own = sheet.statistics(plan.settings["channels"])  # refuses channels that the data cannot be brought to
    mean, std = start.statistics(own, plan)
    config: dict[str, Any] = {"asked": asked, "settings": plan.settings, "mean": list(mean), "std": list(std)}
    fabric = make_fabric(plan.settings)
    make = lambda: ready(build(config, start), plan.settings)  # noqa: E731
    samples.channels, config["max_side"] = plan.settings["channels"], samples.max_side
    make_loader(config, samples)  # refuses a batch that cannot be divided
    console.print(f"Measuring a few steps of {plan.settings['batch']:,} pictures ...")
    of_size = partial(make_loader, config, samples, workers=0)
    measured = trial(make, of_size, plan, fabric, retry=options.accumulate is None)
    config["context"] = measured.context
    stages = parse_resolutions(plan.settings["resolutions"])
    found = [measured]
    for stage in reversed(stages[:-1]):
        small = at_size(config, stage.size)
        of_size = partial(make_loader, small, samples, workers=0)
        at_once = lambda small=small: ready(build(small, start), plan.settings)  # noqa: E731
        found.insert(0, trial(at_once, of_size, plan, fabric, retry=False))
    shares = [stage.share for stage in stages] or [1.0]
    preparing = sum(share * one.preparing for share, one in zip(shares, found))
    per_step = plan_workers(plan, here, preparing, sum(share * one.computing for share, one in zip(shares, found)))
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
    config["command"] = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    packages = ("torch", "torchvision", "timm", "lightning")
    config["versions"] = {"unmask": __version__, "python": platform.python_version()}
    config["versions"] |= {name: version(name) for name in packages}
    return config, plan_table(plan, f"{len(samples):,} pictures")


def build(config: dict[str, Any], start: Start) -> Objective:
    """The objective with its first weights: from the seed, or from `--init`."""
    torch.manual_seed(mix(config["settings"]["seed"], 0x1217))
    objective = make_objective(config)
    start.load(objective, config["settings"])
    sizes = [stage.size for stage in parse_resolutions(config["settings"].get("resolutions", NONE))[:-1]]
    twins = {size: make_objective(at_size(config, size)) for size in sizes}
    if twins:
        answer_by_size(objective, dict(twins), make_objective(config) if start.facts else None)
    if config["settings"].get("checkpoint_activations") == "on":
        for part in (objective, *twins.values()):
            recompute(part)
    return objective


def train(
    config: dict[str, Any], samples: Samples | StreamSamples, probe: Probe | None, out: Path, console: Console
) -> None:
    """Runs the loop, then writes encoder, panel, summary and report."""
    settings, fabric = config["settings"], make_fabric(config["settings"])
    begun = keeping.begun(out)  # then the weights come from there
    objective = build(config, Start() if begun else initial(settings["init"], model=settings["model"]))
    names = ("batch", "lr", "weight_decay", "clip", "accumulate", "seed", "log_every", "save_every", "keep_every")
    warmup = round(settings["warmup"] * len(samples) / settings["batch"])
    fused = settings.get("fused") != "off"
    fitting = Fit(**{n: settings[n] for n in names}, fused=fused, warmup=warmup, **caution(settings), **config["fit"])
    if (said := short_of_room(objective, settings, fitting.steps, out)) is not None:
        console.print(said, style="yellow", soft_wrap=True)
    samples.report_bad_to(out / "bad_files.txt")
    log = Log(out, console, settings["batch"], len(samples), config["context"])
    watch = Watch(config, objective, samples, out, fabric.device, probe)
    if not begun:
        prepare(objective, partial(make_loader, config, samples))
        objective.to(fabric.device)
        watch.begin()
    ready(objective, settings)
    try:
        fit(objective, make_loader(config, samples), fitting, out, fabric, log, watch)
    except Exception:
        with contextlib.suppress(OSError):  # a full disk must not hide why training ended
            if keeping.begun(out):
                watch.export()
                write_report(out)
        raise
    finally:
        log.close()
    watch.export()
    watch.panel()
    summary = {"finished": True, "seconds": round(log.last[1], 1), "steps": log.last[0], "memory_mb": memory_mb()}
    summary["waiting"] = waited = waiting_share(read(out / METRICS))
    checkpoint.write_json(out / SUMMARY, summary)
    if advice := waiting_advice(waited, settings, config["data"].get("packed"), config["machine"]["cores"]):
        console.print(advice, soft_wrap=True, style="yellow", highlight=False)
    write_report(out)
    console.print(f"Done in {clock(log.last[1])}. Encoder, pictures and report: {out / 'report.html'}", soft_wrap=True)


def expectation(config: dict[str, Any], here: Machine) -> str:
    """Time and memory in words, before training starts."""
    expected, fit_ = config["expected"], config["fit"]
    speed = f"{fit_['steps']:,} steps at {expected['images_per_second']:.0f} images/s"
    memory = f"peak memory {expected['memory_mb']:,} MB of {here.memory / 2**20:,.0f} MB free on {here.name}"
    return f"Expected: {clock(expected['seconds'])} for {speed}; {memory}."


def plan_table(plan: Plan, title: str) -> Table:
    """Every choice with its reason, for a terminal."""
    table = Table("setting", "value", "why", title=f"Plan for {title}", title_justify="left", box=None, pad_edge=False)
    for row in plan.rows():
        table.add_row(*row)
    return table


def absolute(place: str) -> str:
    """The same place named from the root, if it is there: so that it is the same from any folder."""
    local = Path(place).exists() or ("{" in place and ":" not in place)  # a brace range of shards
    return str(Path(place).resolve()) if place != "demo" and local else place


def _said(saved: dict[str, Any], name: str) -> str:
    asked = saved["asked"].get(name)
    return f"{saved['settings'].get(name)} (chosen)" if asked is None else str(asked)
