"""The command `pretrain`, step by step: inspect data and machine, plan, measure, train, write encoder and report.

If launched as several processes, each runs all of this. Work for one process only (inspecting data, writing files) is
done by the first, which broadcasts the result, so that all of them make the same plan.
"""

import contextlib
import copy
import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from unmask import registry
from unmask.cli.continue_run import absolute, finished, is_new, own, refuse_other_data, refuse_other_settings
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.images import BAD_FILES, Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.sheet import Sheet, write_bad_files
from unmask.errors import Diverged, Interrupted, UserError
from unmask.evaluation.watch import Watch
from unmask.files import REPORT, Json, write_json
from unmask.plain import numbers, plain, texts
from unmask.planning.build import build, keep_features, prepare
from unmask.planning.initial_weights import Start, initial, start_of
from unmask.planning.inspect_data import look_at
from unmask.planning.length import in_time
from unmask.planning.loaders import keep_tokenizer, make_loader, to_send
from unmask.planning.method import with_absolute_paths
from unmask.planning.pretrain import Given
from unmask.planning.recipe_book import follow, told_what_is_needed
from unmask.planning.runtime import continued
from unmask.planning.safety import kept, require_writable, short_of_room, weight_bytes
from unmask.planning.stages.run import in_turn
from unmask.planning.stages.trainings import Training, plan_in_stages, saved_trainings, write_plans
from unmask.planning.validate import refuse_early
from unmask.registry import keep_sources, remark_on_parts
from unmask.runs.config import Config
from unmask.runs.run import CONFIG, SUMMARY, Run
from unmask.runtime import stopwatch
from unmask.runtime.determinism import determinism, early
from unmask.runtime.distributed.data_parallel import make_devices, meet
from unmask.runtime.distributed.launcher import check_asked
from unmask.runtime.distributed.rank_zero import Looking
from unmask.runtime.distributed.ranks import Ranks, together
from unmask.runtime.machine import Machine, check, choices, machine, tune
from unmask.runtime.progress import doing, make_console
from unmask.runtime.settings import runtime_of
from unmask.tasks.pages import write_report
from unmask.training import checkpoint
from unmask.training.log import METRICS, Log, Silent, duration, memory_mb, read
from unmask.training.loop import fit
from unmask.training.resolution import parse as parse_resolutions
from unmask.training.speed.compile import ready
from unmask.training.timing import waiting_advice, waiting_share
from unmask.training.trackers import Tracker
from unmask.weights.files import ENCODER
from unmask.weights.teacher_cache import forget

__all__ = ["pretrain"]
if TYPE_CHECKING:
    from unmask.evaluation.online_probe import Probe

PLACES = ("data", "probe", "init")  # settings that are paths
NOT_SETTINGS = ("out", "config", "dry_run", "log_to", "devices", "nodes", "strategy", "parts")  # where and how


@verb(Pretrain)
def pretrain(options: Pretrain) -> "Run | None":
    """Pretrains, or resumes an earlier call with the same options, and returns the run; None for a dry run.

    Raises UserError for options or data that cannot work, Interrupted on a signal (state saved), Diverged when
    training met non-finite values again and again (last good state saved).
    """
    check_asked(options.devices, options.nodes, "pretrain ...")
    meet(options.device)
    with together():
        return pretraining(options, Ranks())


def pretraining(options: Pretrain, ranks: Ranks) -> Run | None:
    """Runs in every process; only the first one prints."""
    options = with_final_size(options)
    began, out, asked, runtime = stopwatch.began(), Path(options.out), asked_for(options), runtime_of(options)
    console = make_console() if ranks.first else Console(quiet=True)
    saved = ranks.from_first(lambda: earlier_run(out, asked, console))
    if saved is not None and not options.dry_run and ranks.from_first(lambda: finished(out, "pretrain", ENCODER)):
        console.print(f"{out} is finished; nothing to do. Look at {out / REPORT}", soft_wrap=True)
        return Run(out)
    if not options.dry_run:
        ranks.only_first(lambda: own(out, "pretrain", texts(options.data)))
    early(options.deterministic)
    here = ranks.from_first(lambda: look_at_machine(options, out))
    options, reasons = follow(options, "pretrain", here.device)
    start = Start() if saved else ranks.only_first(lambda: open_start(options, here)) or open_start(options, None)
    if saved is not None:
        runtime = dataclasses.replace(saved.runtime, threads=options.threads)
    if said := tune(here.device, runtime):
        console.print(said, soft_wrap=True)
    sheet, samples = look_at_data(options, saved, console, ranks)
    if saved is None:
        fastest = ranks.from_first(lambda: choices(here.device, measure=not options.deterministic))
        filled = asked_for(options)
        given = Given(asked, filled, reasons, sheet, samples, here, fastest, options.strategy)
        trainings = plan_in_stages(given, start, out, began, console, ranks)
    else:
        trainings = saved_trainings(continued(saved, options.accumulate, options.strategy), out)
        refuse_other_data(saved, sheet, out)
    if options.dry_run:
        return None
    ranks.only_first(lambda: write_all(trainings, sheet, out))
    starts = iter([began])

    def train_one(training: Training) -> None:
        config, folder = training.config, training.folder
        probe = ranks.only_first(lambda: write_beginning(config, sheet, folder))
        trackers = [registry.build("tracker", text) for text in texts(options.log_to)]
        since = next(starts, time.monotonic())
        train(config, samples, folder, probe, console, ranks, since, trackers)

    in_turn(trainings, train_one, ranks, partial(console.print, soft_wrap=True, highlight=False, markup=False))
    return Run(out)


def with_final_size(options: Pretrain) -> Pretrain:
    """Sets the image size to that of a resolution schedule's last stage, also if only the schedule is given."""
    stages = [] if options.resolutions in (None, "auto") else parse_resolutions(options.resolutions)
    if not stages:
        return options
    size = stages[-1].size
    if options.image_size not in (None, size):
        raise UserError(f"resolutions {options.resolutions!r} must end with the image size {options.image_size}")
    return dataclasses.replace(options, image_size=size)


def asked_for(options: Pretrain) -> Json:
    """The options as plain values; paths absolute, so that the same data is the same from any folder."""
    asked = {k: v for k, v in plain(options).items() if k not in NOT_SETTINGS}
    places = {name: absolute(asked[name]) for name in ("init", "probe") if asked[name]}
    parts = {name: with_absolute_paths(asked[name]) for name in ("method", "mask", "target") if asked[name]}
    return asked | places | parts | {"data": [absolute(place) for place in asked["data"]]}


def earlier_run(out: Path, asked: Json, console: Console) -> Config | None:
    """The configuration of the run in the folder, if there is one; it must have the same settings. Its data may have
    moved."""
    if (out / CONFIG).exists():
        saved = Run(out).config
        remark_on_parts(out)
        for sentence in refuse_other_settings(asked, saved.record.asked, saved.options(), out, PLACES):
            console.print(sentence, soft_wrap=True)
        record = dataclasses.replace(saved.record, asked=saved.record.asked | {name: asked[name] for name in PLACES})
        data = dataclasses.replace(saved.data, paths=tuple(asked["data"]))
        return dataclasses.replace(saved, record=record, data=data)
    if not is_new(out):
        raise UserError(f"{out} is there and is no run folder; give a new or empty folder with --out")
    return None


def look_at_machine(options: Pretrain, out: Path) -> Machine:
    """Raises UserError for settings that this machine cannot run."""
    doing("looking at this machine")
    require_writable(out)
    here = machine(options.device, options.precision)
    check(runtime_of(options))
    return here


def open_start(options: Pretrain, here: Machine | None) -> Start:
    """The weights that `--init` names. With a machine, settings that cannot work with any data are refused."""
    doing("checking the model and its parts")
    start = initial(str(options.init), options.model, reading_of(options), options.image_size)
    if here is not None:
        with told_what_is_needed(options.recipe, "pretrain"):
            refuse_early(plain(options), start, here)
    return start


def look_at_data(
    options: Pretrain, saved: Config | None, console: Console, ranks: Ranks
) -> tuple[Sheet, Samples | StreamSamples]:
    """The first process's inspection of the data, in all of them; only the first keeps the decoded images."""
    own = ranks.only_first(lambda: inspect_options(options, saved, console))
    sent = ranks.share(None if own is None else (own[0], to_send(own[1])))
    seen = own or sent
    assert seen is not None  # the first process always looks
    return seen


def inspect_options(options: Pretrain, saved: Config | None, console: Console) -> tuple[Sheet, Samples | StreamSamples]:
    """Opens and inspects the data that the options name. saved: the configuration of a resumed run."""
    given = {name: getattr(options, name) for name in ("shuffle_buffer", "max_bad", "in_memory")}
    return look_at(
        texts(options.data),
        console,
        max_side=saved.data.max_side if saved else decode_side(numbers(options.image_size or 224)),
        channels=options.channels or (saved.data.channels if saved else None),
        modality=saved.record.asked.get("modality") if saved else options.modality,  # found, it would take more files
        **given,
    )


def write_all(trainings: Sequence[Training], sheet: Sheet, out: Path) -> None:
    """Writes the plans of all trainings, the method's own last: what has that one can be gone on with."""
    write_plans(trainings)
    if len(trainings) > 1:
        write_beginning(trainings[-1].config, sheet, out)


def write_beginning(config: Config, sheet: Sheet, out: Path) -> "Probe | None":
    """Writes the files known before training; returns the probe, if there is one, which refuses data without labels."""
    probe_data, seed = config.training.probe, config.training.seed
    probe = None
    if probe_data:
        from unmask.evaluation.online_probe import Probe  # brings scikit-learn

        probe = Probe(probe_data, config.data.image_size, seed, config.data.modality)
    out.mkdir(parents=True, exist_ok=True)
    config.to_json(out / CONFIG)
    keep_sources(out)
    write_json(out / "data_sheet.json", dataclasses.asdict(sheet))
    write_bad_files(out / BAD_FILES, [*sheet.bad, *sheet.lost])
    return probe


def train(
    config: Config,
    samples: Samples | StreamSamples,
    out: Path,
    probe: "Probe | None",
    console: Console,
    ranks: Ranks,
    began: float,
    trackers: Sequence[Tracker],
) -> None:
    """Runs the loop from where it stopped; the first process then writes encoder, panel, summary and report."""
    doing("building the model")
    training, runtime = config.training, config.runtime
    devices = make_devices(runtime, idle=bool(config.method.decoder_warmup))  # until then the encoder has no gradient
    begun = ranks.share(checkpoint.begun(out))  # then the weights come from there
    objective = build(config, Start() if begun else start_of(config))
    keeping = keep_features(config, objective, len(samples), out), keep_tokenizer(config, samples, out, ranks.first)
    for said in filter(None, keeping):
        console.print(said, soft_wrap=True, highlight=False, markup=False)
    if said := short_of_room(objective, training, out):
        console.print(said, style="yellow", soft_wrap=True)
    samples.report_bad_to(out / BAD_FILES)
    about = (config.record.context, trackers, config.options(), objective.symptoms, config.data.word)
    log = Log(out, console, training.batch, len(samples), *about) if ranks.first else Silent()
    shown = copy.deepcopy(objective) if runtime.strategy == "fsdp2" else objective  # shards cannot be drawn
    watch = Watch(config, shown, samples, out, devices.device, probe)
    look = Looking(watch, watch.due, objective, shown, ranks)
    if not begun:
        prepare(objective, partial(make_loader, config, samples))
        objective.to(devices.device)
        look.refresh()
        look.first(watch.begin)
    ready(objective, runtime)
    try:
        with determinism(runtime.deterministic):
            training = in_time(training, weight_bytes(objective), ranks.most(time.monotonic() - began)[0], begun)
            fit(objective, make_loader(config, samples), training, out, devices, log, look)
    except (Exception, Interrupted) as error:
        everywhere = isinstance(error, Interrupted | Diverged)  # all processes are at the same place
        if everywhere:
            look.refresh()
        if ranks.first and (everywhere or ranks.world == 1) and checkpoint.begun(out):  # else every second counts
            with contextlib.suppress(OSError):  # a full disk must not hide why training ended
                watch.export()
                write_report(out)
        raise
    finally:
        log.close()
    if ranks.first:
        finish(config, watch, log, out, console)
    ranks.wait()


def finish(config: Config, watch: Watch, log: Log, out: Path, console: Console) -> None:
    """Writes the results of a finished run and prints where they are."""
    doing("drawing reconstructions")
    watch.export()
    watch.panel()
    (out / REPORT).unlink(missing_ok=True)  # so that a run with both this and a summary lacks nothing
    waited, (steps, seconds) = waiting_share(read(out / METRICS)), log.last
    forget(out)
    summary = {"finished": True, "seconds": round(seconds, 3), "steps": steps, "memory_mb": memory_mb()}
    write_json(out / SUMMARY, summary | {"waiting": waited})
    if advice := waiting_advice(waited, config.data, config.runtime.device, config.record.machine.cores):
        console.print(advice, soft_wrap=True, style="yellow", highlight=False)
    write_report(out)
    console.print(f"Done in {duration(seconds)}. Encoder, images and report: {out / REPORT}", soft_wrap=True)
    console.print(kept(out), soft_wrap=True, highlight=False, markup=False)
