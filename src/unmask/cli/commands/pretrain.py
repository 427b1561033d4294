"""The command `pretrain`, step by step: look at the data, plan, measure, say so, train, export, report."""

import contextlib
import copy
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from unmask.cli.continue_run import absolute, refuse_other_settings
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.verb import verb
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.sheet import Sheet, write_bad_files
from unmask.errors import Diverged, Interrupted, UserError
from unmask.evaluation.online_probe import Probe
from unmask.evaluation.watch import Watch
from unmask.files import write_json
from unmask.plain import numbers, plain, texts
from unmask.planning.build import build
from unmask.planning.initial_weights import Start, initial
from unmask.planning.inspect_data import look_at
from unmask.planning.loaders import make_loader, to_send
from unmask.planning.measure import measure, prepare
from unmask.planning.pretrain import expectation, make_plan
from unmask.planning.recipe_book import follow
from unmask.planning.runtime import how_now
from unmask.planning.safety import caution, require_writable, short_of_room
from unmask.planning.validate import refuse_early
from unmask.runs.run import CONFIG, SUMMARY, Run
from unmask.runtime.distributed.fabric import make_fabric, meet
from unmask.runtime.distributed.launcher import check_asked
from unmask.runtime.distributed.rank_zero import Looking
from unmask.runtime.distributed.ranks import Ranks, together
from unmask.runtime.machine import check, machine, settings_now, tune
from unmask.runtime.progress import make_console
from unmask.tasks.pages import write_report
from unmask.training import checkpoint
from unmask.training.determinism import determinism, early
from unmask.training.log import METRICS, Log, Silent, clock, memory_mb, read
from unmask.training.loop import Fit, fit
from unmask.training.speed.compile import ready
from unmask.training.timing import waiting_advice, waiting_share

__all__ = ["pretrain"]
if TYPE_CHECKING:
    from unmask.runs.run import Run


NOT_SETTINGS = ("out", "config", "dry_run", "devices", "nodes", "strategy")  # where and how, not what


def pretraining(options: Pretrain) -> Run | None:
    """See `pretrain`. Of several processes the first plans and tells the others what to do."""
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
        refuse_early(plain(options), start, here)
    if said := tune(here.device, settings_now(saved) if saved else asked):
        console.print(said, soft_wrap=True)
    ranks.tell("tune", device=here.device, settings=settings_now(saved) if saved else asked)
    sheet, samples = inspect_options(options, saved, console)
    if saved is None:
        given = asked_for(options)
        config, table = make_plan(
            given, asked, reasons, sheet, samples, here, began, console, ranks, start, options.strategy
        )
        console.print(table)
        console.print(expectation(config, here), soft_wrap=True)
    else:
        config = saved | {"settings": saved["settings"] | how_now(saved, options.accumulate, options.strategy)}
        if config["data"]["fingerprint"] != sheet.fingerprint:
            raise UserError(
                f"the data changed since {out} was begun ({config['data']['count']} images then, {sheet.count} now,"
                " or other content), so it cannot be continued exactly. Start in a new folder with --out"
                f" (and --init {out} to go on from its weights)"
            )
    if options.dry_run:
        return None
    settings = config["settings"]
    place, size = settings["probe"], tuple(settings["image_size"])
    probe = Probe(place, size, settings["seed"]) if place else None  # refuses data without labels before training
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, config)
    write_json(out / "data_sheet.json", dataclasses.asdict(sheet))
    write_bad_files(out / "bad_files.txt", sheet.bad)
    ranks.tell("train", config=config, samples=to_send(samples), out=out)
    train(ranks, config, samples, out, probe, console)
    return Run(out)


def asked_for(options: Pretrain) -> dict[str, Any]:
    """The options as plain values; paths absolute, so that the same data is the same from any folder."""
    asked = {k: v for k, v in plain(options).items() if k not in NOT_SETTINGS}
    places = {name: absolute(asked[name]) for name in ("init", "probe") if asked[name]}
    return asked | places | {"data": [absolute(place) for place in asked["data"]]}


def inspect_options(
    options: Pretrain, saved: dict[str, Any] | None, console: Console
) -> tuple[Sheet, Samples | StreamSamples]:
    """The data that the options name, opened and inspected. saved: the configuration of a run that is continued."""
    return look_at(
        texts(options.data),
        saved,
        console,
        image_size=numbers(options.image_size) if options.image_size else None,
        channels=options.channels,
        shuffle_buffer=options.shuffle_buffer,
        max_bad=options.max_bad,
    )


def duties(ranks: Ranks) -> dict[str, Any]:
    """What every process but the first can be told to do."""
    return {"tune": tune, "measure": partial(measure, ranks), "train": partial(train, ranks)}


def train(
    ranks: Ranks,
    config: dict[str, Any],
    samples: Samples | StreamSamples,
    out: Path,
    probe: Probe | None = None,
    console: Console | None = None,
) -> None:
    """Runs the loop; the first process then writes encoder, panel, summary and report."""
    settings, fabric = config["settings"], make_fabric(config["settings"])
    begun = ranks.share(checkpoint.begun(out))  # then the weights come from there
    objective = build(config, Start() if begun else initial(settings["init"], model=settings["model"]))
    names = ("batch", "lr", "weight_decay", "clip", "accumulate", "seed", "log_every", "save_every", "keep_every")
    warmup = round(settings["warmup"] * len(samples) / settings["batch"])
    fused = settings.get("fused") != "off"
    fitting = Fit(**{n: settings[n] for n in names}, fused=fused, warmup=warmup, **caution(settings), **config["fit"])
    if console and (said := short_of_room(objective, settings, fitting.steps, out)) is not None:
        console.print(said, style="yellow", soft_wrap=True)
    samples.report_bad_to(out / "bad_files.txt")
    log = Log(out, console, settings["batch"], len(samples), config["context"]) if console else Silent()
    shown = copy.deepcopy(objective) if settings.get("strategy") == "fsdp2" else objective  # shards cannot be drawn
    watch = Watch(config, shown, samples, out, fabric.device, probe)
    look = Looking(watch, watch.due, objective, shown, ranks)
    if not begun:
        prepare(objective, partial(make_loader, config, samples))
        objective.to(fabric.device)
        look.refresh()
        look.first(watch.begin)
    ready(objective, settings)
    try:
        with determinism(settings.get("deterministic", False)):
            fit(objective, make_loader(config, samples), fitting, out, fabric, log, look)
    except Exception as error:
        if isinstance(error, Interrupted | Diverged):  # all processes are at the same place
            look.refresh()
        with contextlib.suppress(OSError):  # a full disk must not hide why training ended
            alone = ranks.world == 1 or isinstance(error, Interrupted | Diverged)  # else every second counts
            if alone and ranks.first and checkpoint.begun(out):
                watch.export()
                write_report(out)
        raise
    finally:
        log.close()
    if console is not None:
        watch.export()
        watch.panel()
        summary = {"finished": True, "seconds": round(log.last[1], 1), "steps": log.last[0], "memory_mb": memory_mb()}
        summary["waiting"] = waited = waiting_share(read(out / METRICS))
        write_json(out / SUMMARY, summary)
        if advice := waiting_advice(waited, settings, config["data"].get("packed"), config["machine"]["cores"]):
            console.print(advice, soft_wrap=True, style="yellow", highlight=False)
        write_report(out)
        where = f"Encoder, images and report: {out / 'report.html'}"
        console.print(f"Done in {clock(log.last[1])}. {where}", soft_wrap=True)
    ranks.wait()


@verb(Pretrain)
def pretrain(options: Pretrain) -> "Run | None":
    """Pretrains, or continues where the same call left off, and returns the run; None for a dry run.

    Raises UserError for options or data that cannot work, Interrupted on a signal (state saved), Diverged when
    training met non-finite values again and again (last good state saved).
    """
    return pretraining(options)
