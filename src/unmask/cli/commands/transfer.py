"""The command `transfer`, step by step: open the encoder, read the labelled data, plan, train, evaluate, save, report.

Everything specific to a task is in `tasks/`.
"""

import dataclasses
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from torch import nn

from unmask import registry
from unmask.cli.continue_run import absolute, finished, is_new, own, refuse_other_settings
from unmask.cli.options.transfer import Transfer
from unmask.cli.shared_options import reading_of
from unmask.cli.task_options import task_options
from unmask.cli.verb import verb
from unmask.errors import UserError
from unmask.files import REPORT, RESULT, Json, write_json
from unmask.models.encoder import Encoder
from unmask.models.state import load_relative, load_strictly, model_text, same_again
from unmask.plain import plain, texts
from unmask.planning.measure import trial
from unmask.planning.plan import Plan
from unmask.planning.pretrain import plan_table
from unmask.planning.recipe_book import follow
from unmask.runs.config import Expected
from unmask.runs.run import CONFIG, SUMMARY, Run
from unmask.runtime.command_line import command_line
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import Machine, check, machine, tune
from unmask.runtime.progress import doing, make_console
from unmask.runtime.settings import runtime_of
from unmask.tasks.early_stopping import Keeper
from unmask.tasks.folders import model_noun, weights_file
from unmask.tasks.open import load, load_architecture, load_encoder
from unmask.tasks.pages import write_report
from unmask.tasks.task import DataOptions, TransferTask, find_task, settings_from
from unmask.tasks.training_settings import TaskSettings
from unmask.training.log import Log, duration, memory_mb
from unmask.training.loop import fit
from unmask.training.objective import Task
from unmask.training.speed.compile import ready
from unmask.training.trackers import Tracker
from unmask.version import __version__
from unmask.weights.files import save_state
from unmask.weights.known import require_known

__all__ = ["transfer"]
PLACES = ("run", "init", "on", "images", "classes")  # settings that are paths
NOT_SETTINGS = ("out", "config", "dry_run", "log_to", "parts")


@dataclass(frozen=True)
class Transferred:
    """What `unmask.transfer` returns: the folder of a trained model, with its metrics."""

    path: Path
    parts: tuple[str, ...] = field(default_factory=registry.parts_given)  # from outside of the package, that may be run

    @cached_property
    def model(self) -> nn.Module:
        """The classifier, segmenter or detector, in eval mode on the CPU."""
        return load(self.path, parts=self.parts)

    @property
    def classifier(self) -> nn.Module:
        """`model`, if the task is classification."""
        return self.model

    @cached_property
    def metrics(self) -> Json:
        """As in metrics.json: shares from 0 to 1."""
        return Run(self.path).read(RESULT)


@verb(Transfer)
def transfer(options: Transfer) -> Transferred | None:
    """Trains, or resumes an earlier call with the same options, and returns the result; None for a dry run.

    Raises UserError for options that cannot work, DataError for data that cannot be used, Interrupted on a signal
    (state saved), Diverged when training met non-finite values again and again.
    """
    console, out = make_console(), _out(options)
    asked, runtime = asked_for(options), runtime_of(options)
    options, reasons = follow(options, "transfer")
    saved = Run(out).record if (out / CONFIG).exists() else None
    if saved is not None:
        for sentence in refuse_other_settings(asked, saved["asked"], saved["settings"], out, PLACES):
            console.print(sentence, soft_wrap=True)
        saved = saved | {"asked": saved["asked"] | {name: asked[name] for name in PLACES if name in asked}}
        if not options.dry_run and finished(out, "transfer"):
            console.print(f"{out} is finished; nothing to do. Look at {out / REPORT}", soft_wrap=True)
            return Transferred(out)
    elif not is_new(out):
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    if not options.dry_run:
        own(out, "transfer", texts(options.on))
    doing("looking at this machine")
    here, before = machine(options.device, options.precision), None
    check(runtime)
    if saved is not None:
        kind = find_task(options.to, saved["modality"])
        before = settings_from(kind.settings, saved["settings"], out / CONFIG)
    if said := tune(here.device, replace(before or runtime, threads=runtime.threads)):  # as many as this machine has
        console.print(said, soft_wrap=True)
    doing("opening the encoder")
    encoder, scratch = starting_encoder(options)
    for line in _other_size(options, encoder):
        console.print(line, soft_wrap=True, markup=False)
    kind = find_task(options.to, encoder.modality)
    task = kind(DataOptions(texts(options.on), options.most, options.seed), own_options(options), encoder, console)
    if saved is None or before is None:
        plan = Plan(asked_for(options), reasons)
        settings, expected = make_plan(options, plan, task, scratch, here, console)
        config = make_record(options, asked, plan, task, settings, expected, here)
    elif saved["data"]["fingerprint"] != task.data.sheet.fingerprint:
        raise UserError(f"the labelled data changed since {out} was begun; start in a new folder with --out")
    else:
        config, settings, expected = saved, before, Expected(**saved["expected"])
    if options.dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, config)
    registry.keep_sources(out)
    write_json(out / "data_sheet.json", dataclasses.asdict(task.data.sheet))
    trackers = [registry.build("tracker", text) for text in texts(options.log_to)]
    model = _train(settings, expected, task, scratch, out, console, trackers)
    doing("testing the model")
    _judge(settings, asked["on"], model, task, out, console)
    return Transferred(out)


def own_options(options: Transfer) -> object:
    """The task's own options, as the dataclass in its folder."""
    kind = task_options(options.to)
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def asked_for(options: Transfer) -> Json:
    """The options as plain values; paths absolute, so that the same data is the same from any folder."""
    asked = {k: v for k, v in plain(options).items() if k not in NOT_SETTINGS}
    init = asked["init"] if asked["init"] in (None, "run", "none") else absolute(asked["init"])
    beside = {name: absolute(asked[name]) for name in ("images", "classes") if asked.get(name) is not None}
    places = {"run": absolute(asked["run"]), "init": init, "on": [absolute(place) for place in asked["on"]]}
    return asked | beside | places


def starting_encoder(options: Transfer) -> tuple[Encoder, bool]:
    """The encoder, and whether only its architecture is used. From a classifier's folder, its trained encoder."""
    init = str(options.init or "run")
    opening = load_architecture if init == "none" else load_encoder
    encoder = opening(options.run if init in ("run", "none") else init, **reading_of(options))
    wanted = {"window": options.window, "global_blocks": options.global_blocks, "relative": options.relative or None}
    changed: dict[str, int] = {name: value for name, value in wanted.items() if value is not None}
    return (reshaped(encoder, changed) if changed else encoder), init == "none"


def reshaped(encoder: Encoder, changed: dict[str, int]) -> Encoder:
    """The same weights in an encoder with windowed attention or relative positions, neither of which is part of the
    weights."""
    if not encoder.windowable:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"{flags}: for ViTs without rotary positions; {encoder.arguments['model_name']} is none")
    other = same_again(encoder, None, **changed)
    load_strictly(other.net, encoder.net.state_dict(), "the encoder")
    load_relative(other, encoder)
    return other.eval()


def make_plan(
    options: Transfer, plan: Plan, task: TransferTask, scratch: bool, here: Machine, console: Console
) -> tuple[TaskSettings, Expected]:
    """Plans, measures a few steps and prints both; errors are raised here, before anything is written."""
    plan.choose("init", "run", "the run's own weights")
    settings = task.plan(plan, scratch, here)
    usual = max(5.0, 0.25 * settings.epochs) if task.has_val else 0.0
    why = "epochs without a better val score that end training" if task.has_val else "no val split to stop on"
    plan.choose("patience", usual, why)
    if settings.batch % settings.accumulate:
        raise UserError(f"a batch of {settings.batch} cannot be worked off in {settings.accumulate} equal parts")

    def make() -> Task:
        now = plan.fill(task.settings)  # which the trial changes
        return ready(task.make_objective(now, scratch), now)

    doing("measuring a few steps")
    measured = trial(
        make,
        lambda size: task.make_loader(plan.fill(task.settings), size),
        plan,
        make_devices(settings),
        retry=options.accumulate is None,
    )
    steps = settings.fit(task.count).steps
    plan.choose("log_every", max(1, min(100, steps // 50)), "steps")
    expected = Expected(seconds=steps * measured.seconds, memory_mb=measured.memory_mb)
    console.print(plan_table(plan, f"{task.count:,} labelled {task.data.sheet.word}s"))
    console.print(f"Expected: {duration(expected.seconds)} for {steps:,} steps, and then the test.", soft_wrap=True)
    return plan.fill(task.settings), expected


def make_record(
    options: Transfer,
    asked: Json,
    plan: Plan,
    task: TransferTask,
    settings: TaskSettings,
    expected: Expected,
    here: Machine,
) -> Json:
    """What config.json holds."""
    encoder = task.encoder
    shape = {"image_size": list(encoder.grid.size), "patch_size": encoder.arguments.get("patch_size")}
    shape |= {"model": model_text(encoder), "channels": encoder.channels}
    chosen = {name: value for name, value in plain(settings).items() if name in plan.settings}
    packages = ("torch", "torchvision", "timm", "torchmetrics")
    return {
        "task": options.to,
        "asked": asked,
        "settings": plan.settings | chosen | shape,
        "reasons": plan.reasons,
        **task.facts(),
        "mean": encoder.mean.tolist(),
        "std": encoder.std.tolist(),
        "timm": encoder.arguments,
        "modality": encoder.modality,
        "fit": {"steps": settings.fit(task.count).steps, "seconds": None},
        "expected": {"seconds": expected.seconds, "memory_mb": expected.memory_mb},
        "data": {"fingerprint": task.data.sheet.fingerprint, "count": task.count, **task.data_facts()},
        "machine": dataclasses.asdict(here),
        "command": command_line(),
        "versions": {"unmask": __version__, "python": platform.python_version()} | {n: version(n) for n in packages},
    }


def _train(
    settings: TaskSettings,
    expected: Expected,
    task: TransferTask,
    scratch: bool,
    out: Path,
    console: Console,
    trackers: Sequence[Tracker],
) -> nn.Module:
    about = {"trackers": trackers, "settings": dataclasses.asdict(settings), "word": task.data.sheet.word}
    devices, log = make_devices(settings), Log(out, console, settings.batch, task.count, **about)
    epoch, steps = max(1, round(task.count / settings.batch)), settings.fit(task.count).steps
    keeper = Keeper(task, settings, out, every=max(epoch, -(-steps // task.looks)))
    save_every = max(1, min(2000, int(120 * steps / max(expected.seconds, 1e-3))))
    objective, loader = task.make_objective(settings, scratch), task.make_loader(settings)
    ready(objective, settings)
    try:
        fit(objective, loader, settings.fit(task.count, save_every), out, devices, log, watch=keeper.of(objective))
    finally:
        log.close()
    model = keeper.best_of(objective)
    facts = {"model": model_text(task.encoder), "classes": "|".join(task.data.classes)}
    save_state(model, out / weights_file(task.name), facts)
    summary = {"finished": False, "seconds": round(log.last[1], 1), "steps": log.last[0], "memory_mb": memory_mb()}
    write_json(out / "training.json", summary | {"kept_step": keeper.kept_step(log.last[0])})
    return model


def _judge(
    settings: TaskSettings, on: Sequence[str], model: nn.Module, task: TransferTask, out: Path, console: Console
) -> None:
    sentence = task.judge(model.to(settings.device), settings, on, out)
    (out / REPORT).unlink(missing_ok=True)  # so that a folder with both this and a summary lacks nothing
    write_json(out / SUMMARY, Run(out).read("training.json") | {"finished": True})
    write_report(out)
    console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"Weights, figures and report: {out / REPORT}", soft_wrap=True)
    console.print(f"Use it: unmask predict {out} IMAGES... --out {task.predictions_place(None)}", soft_wrap=True)


def _out(options: Transfer) -> Path:
    """The requested folder, or RUN/TASK."""
    if options.out is not None:
        return Path(options.out)
    require_known(options.run)
    run = Path(options.run)
    if not (run / CONFIG).exists() or Run(run).task:
        raise UserError(f"{run} is no pretraining run; say with --out where the {model_noun(options.to)} should go")
    return run / options.to


def _other_size(options: Transfer, encoder: Encoder) -> list[str]:
    """A remark if a recipe was published for another size of encoder; its settings are used all the same."""
    meant, model = re.search(r"vit_[a-z]+", options.recipe or ""), encoder.arguments["model_name"]
    if meant is None or model.startswith(meant[0]):
        return []
    return [f"recipe {options.recipe} was published for {meant[0]}; this encoder is {model}"]
