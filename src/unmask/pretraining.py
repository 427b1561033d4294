"""The verb `pretrain`, step by step: look at the data, plan, measure, say so, train, export, report."""

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

from unmask import __version__, checkpoint
from unmask.caution import early, plan_caution, require_writable
from unmask.devices import how_now, meet, plan_devices
from unmask.errors import UserError, many
from unmask.feeding import look_at, make_loader, note_readers, plan_order, to_send
from unmask.foreseen import refuse_early
from unmask.init import Start, initial
from unmask.launch import check_asked, launch
from unmask.learning import build, duties, measure, train
from unmask.log import clock, make_console
from unmask.plan import Plan, plan_length, plan_model
from unmask.probing import Probe
from unmask.ranks import Ranks, together
from unmask.recipe import follow
from unmask.resolution import at_size, firsts
from unmask.resolution import parse as parse_resolutions
from unmask.run import CONFIG, Run
from unmask.runtime import Machine, check, machine, settings_now, tune
from unmask.samples import Samples
from unmask.sheet import Sheet, write_bad_files
from unmask.streamed import StreamSamples
from unmask.supply import plan_supply, plan_workers
from unmask.verb import plain
from unmask.verbs.pretrain import Pretrain

NOT_SETTINGS = ("out", "config", "dry_run", "devices", "nodes", "strategy")  # where and how, not what


def pretraining(options: Pretrain) -> Run | None:
    """See `unmask.verbs.pretrain.pretrain`. Of several processes the first plans and tells the others what to do."""
    check_asked(options.devices, options.nodes, "pretrain ...")
    meet(options.device)
    with together():
        ranks = Ranks()
        if not ranks.first:
            return ranks.attend(**duties(ranks))
        run = lead(options, ranks)
        ranks.tell("end", result=run)
        return run


def lead(options: Pretrain, ranks: Ranks) -> Run | None:
    """Everything that is done once, whatever the number of processes."""
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
    start = initial(str(options.init), model=options.model) if saved is None else Start()
    if saved is None:
        refuse_early(options, start, here)
    if said := tune(here.device, settings_now(saved) if saved else asked):
        console.print(said, soft_wrap=True)
    ranks.tell("tune", device=here.device, settings=settings_now(saved) if saved else asked)
    sheet, samples = look_at(options, saved, console)
    if saved is None:
        config, table = make_plan(options, asked, reasons, sheet, samples, here, began, console, ranks, start)
        console.print(table)
        console.print(expectation(config, here), soft_wrap=True)
    else:
        config = saved | {"settings": saved["settings"] | how_now(saved, options.accumulate, options.strategy)}
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
    ranks.tell("train", config=config, samples=to_send(samples), out=out)
    train(ranks, config, samples, out, probe, console)
    return Run(out)


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
        if name != "accumulate" and value != then.get(name) and value != saved["settings"].get(name)
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
    ranks: Ranks | None = None,
    start: Start | None = None,
) -> tuple[dict[str, Any], Table]:
    """Chooses, builds, measures a few steps; returns the configuration and the plan as a table.

    asked: by the user; options and reasons: with what a recipe filled in. start: what --init names, if it is open.
    """
    plan = Plan(asked_for(options), dict(reasons))
    start = start or initial(str(options.init), model=options.model)
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
    plan_devices(plan, options.strategy, parameters, here.memory)
    samples.channels, config["max_side"] = plan.settings["channels"], samples.max_side
    make_loader(config, samples)  # refuses a batch that cannot be divided
    console.print(f"Measuring a few steps of {plan.settings['batch']:,} pictures ...")
    ranks = ranks or Ranks()
    measured = measure(ranks, config, samples, plan, retry=options.accumulate is None, start=start)
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
    return config, plan_table(plan, many(len(samples), "picture"))


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


def absolute(place: str) -> str:
    """The same place named from the root, if it is there: so that it is the same from any folder."""
    local = Path(place).exists() or ("{" in place and ":" not in place)  # a brace range of shards
    return str(Path(place).resolve()) if place != "demo" and local else place


def _said(saved: dict[str, Any], name: str) -> str:
    asked = saved["asked"].get(name)
    return f"{saved['settings'].get(name)} (chosen)" if asked is None else str(asked)
