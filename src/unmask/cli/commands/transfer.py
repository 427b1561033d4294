"""The command `transfer`, step by step: open the encoder, read the labelled data, plan, train, evaluate, save, report.

Everything specific to a task is in `tasks/`.
"""

import dataclasses
import platform
import re
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from unmask.cli.continue_run import absolute, refuse_other_settings
from unmask.cli.options.transfer import Transfer
from unmask.cli.task_options import task_options
from unmask.cli.verb import verb
from unmask.errors import UserError
from unmask.files import RESULT, write_json
from unmask.models.encoder import Encoder
from unmask.models.state import load_relative, load_strictly, model_text, same_again
from unmask.plain import plain, texts
from unmask.planning.build import make_fit
from unmask.planning.measure import trial
from unmask.planning.plan import Plan
from unmask.planning.pretrain import plan_table
from unmask.planning.recipe_book import follow
from unmask.runs.run import CONFIG, SUMMARY, Run
from unmask.runtime.distributed.fabric import make_fabric
from unmask.runtime.machine import Machine, check, machine, tune
from unmask.runtime.progress import make_console
from unmask.runtime.settings import runtime_of
from unmask.tasks.early_stopping import Keeper
from unmask.tasks.folders import model_noun, weights_file
from unmask.tasks.open import load_encoder, open_trained
from unmask.tasks.pages import write_report
from unmask.tasks.task import DataOptions, TransferTask, find_task
from unmask.tasks.training_settings import typed
from unmask.training.log import Log, clock, memory_mb
from unmask.training.loop import fit
from unmask.training.speed.compile import ready
from unmask.version import __version__
from unmask.weights.files import save_state
from unmask.weights.open import require_known

__all__ = ["transfer"]


NOT_SETTINGS = ("out", "config", "dry_run")


@dataclass(frozen=True)
class Transferred:
    """What `unmask.transfer` returns: the folder of a trained model, with its metrics."""

    path: Path

    @cached_property
    def model(self) -> Any:
        """The classifier, segmenter or detector, in eval mode on the CPU."""
        return open_trained(self.path)

    @property
    def classifier(self) -> Any:
        """`model`, if the task is classification."""
        return self.model

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """As in metrics.json: shares from 0 to 1."""
        return Run(self.path).read(RESULT)


@verb(Transfer)
def transfer(options: Transfer) -> Transferred | None:
    """Trains, or resumes an earlier call with the same options, and returns the result; None for a dry run.

    Raises UserError for options that cannot work, DataError for data that cannot be used, Interrupted on a signal
    (state saved), Diverged when training met non-finite values again and again.
    """
    console, out = make_console(), _out(options)
    asked = asked_for(options)
    options, reasons = follow(options, "transfer")
    saved = Run(out).record if (out / CONFIG).exists() else None
    if saved is not None:
        refuse_other_settings(asked, saved["asked"], saved["settings"], out)
        if Run(out).finished and not options.dry_run:
            console.print(f"{out} is finished; nothing to do. Look at {out / 'report.html'}", soft_wrap=True)
            return Transferred(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    here = machine(options.device, options.precision)
    check(runtime_of(asked))
    now = (saved["settings"] if saved else asked) | {"threads": asked["threads"]}  # as many as this machine has
    if said := tune(here.device, runtime_of(now)):
        console.print(said, soft_wrap=True)
    encoder, scratch = starting_encoder(options)
    for line in _other_size(options, encoder):
        console.print(line, soft_wrap=True, markup=False)
    labelled = DataOptions(texts(options.on), options.most, options.seed)
    task = find_task(options.to)(labelled, own_options(options), encoder, console)
    if saved is None:
        config = make_config(options, asked, reasons, task, scratch, here, console)
    elif saved["data"]["fingerprint"] != task.data.sheet.fingerprint:
        raise UserError(f"the labelled data changed since {out} was begun; start in a new folder with --out")
    else:
        config = saved
    if options.dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CONFIG, config)
    write_json(out / "data_sheet.json", dataclasses.asdict(task.data.sheet))
    model = _train(config, task, scratch, out, console)
    _judge(config, model, task, out, console)
    return Transferred(out)


def own_options(options: Transfer) -> Any:
    """The task's own options, as the dataclass in its folder."""
    kind = task_options(options.to)
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


def asked_for(options: Transfer) -> dict[str, Any]:
    """The options as plain values; paths absolute, so that the same data is the same from any folder."""
    asked = {k: v for k, v in plain(options).items() if k not in NOT_SETTINGS}
    init = asked["init"] if asked["init"] in (None, "run", "none") else absolute(asked["init"])
    beside = {name: absolute(asked[name]) for name in ("images", "classes") if asked.get(name) is not None}
    return (
        asked | beside | {"run": absolute(asked["run"]), "init": init, "on": [absolute(place) for place in asked["on"]]}
    )


def starting_encoder(options: Transfer) -> tuple[Encoder, bool]:
    """The encoder, and whether only its architecture is used. From a classifier's folder, its trained encoder."""
    init = str(options.init or "run")
    encoder = load_encoder(options.run if init in ("run", "none") else init)
    wanted = {"window": options.window, "global_blocks": options.global_blocks, "relative": options.relative or None}
    changed = {name: value for name, value in wanted.items() if value is not None}
    return (reshaped(encoder, changed) if changed else encoder), init == "none"


def reshaped(encoder: Encoder, changed: dict[str, Any]) -> Encoder:
    """The same weights in an encoder with windowed attention or relative positions, neither of which is part of the
    weights."""
    if not encoder.windowable:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"{flags}: for ViTs without rotary positions; {encoder.arguments['model_name']} is none")
    other = same_again(encoder, **changed)
    load_strictly(other.net, encoder.net.state_dict(), "the encoder")
    load_relative(other, encoder)
    return other.eval()


def make_config(
    options: Transfer,
    asked: dict[str, Any],
    reasons: dict[str, str],
    task: TransferTask,
    scratch: bool,
    here: Machine,
    console: Console,
) -> dict[str, Any]:
    """Plans, measures a few steps and prints both; errors are raised here, before anything is written."""
    plan, encoder = Plan(asked_for(options), dict(reasons)), task.encoder
    plan.choose("init", "run", "the run's own weights")
    task.plan(plan, scratch, here)
    has_val = task.has_val
    plan.choose("patience", max(5.0, 0.25 * plan.settings["epochs"]) if has_val else 0.0, _patience(has_val))
    settings, fabric = plan.settings, make_fabric(runtime_of(plan.settings))
    settings |= {"image_size": list(encoder.grid.size), "patch_size": encoder.arguments.get("patch_size")}
    settings |= {"model": model_text(encoder), "channels": encoder.channels}
    if settings["batch"] % settings["accumulate"]:
        raise UserError(f"a batch of {settings['batch']} cannot be worked off in {settings['accumulate']} equal parts")
    measured = trial(
        lambda: ready(task.make_objective(typed(task.settings, settings), scratch), runtime_of(settings)),
        lambda size: task.make_loader(typed(task.settings, settings), size),
        plan,
        fabric,
        retry=options.accumulate is None,
    )
    fitting = make_fit(settings, task.count)
    plan.choose("log_every", max(1, min(100, fitting.steps // 50)), "steps")
    seconds = fitting.steps * measured.seconds
    console.print(plan_table(plan, f"{task.count:,} labelled images"))
    console.print(f"Expected: {clock(seconds)} for {fitting.steps:,} steps, and the time to test.", soft_wrap=True)
    packages = ("torch", "torchvision", "timm", "lightning", "torchmetrics")
    return {
        "task": options.to,
        "asked": asked,
        "settings": settings,
        "reasons": plan.reasons,
        **task.facts(),
        "mean": encoder.mean.tolist(),
        "std": encoder.std.tolist(),
        "timm": encoder.arguments,
        "fit": {"steps": fitting.steps, "seconds": None},
        "expected": {"seconds": seconds, "memory_mb": measured.memory_mb},
        "data": {"fingerprint": task.data.sheet.fingerprint, "count": task.count, **task.data_facts()},
        "machine": dataclasses.asdict(here),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"unmask": __version__, "python": platform.python_version()} | {n: version(n) for n in packages},
    }


def _train(config: dict[str, Any], task: TransferTask, scratch: bool, out: Path, console: Console) -> nn.Module:
    settings, fabric = config["settings"], make_fabric(runtime_of(config["settings"]))
    log = Log(out, console, settings["batch"], task.count)
    epoch = max(1, round(task.count / settings["batch"]))  # steps
    every = max(epoch, -(-config["fit"]["steps"] // task.looks))
    save_every = max(1, min(2000, int(120 * config["fit"]["steps"] / max(config["expected"]["seconds"], 1e-3))))
    chosen = typed(task.settings, settings)
    keeper = Keeper(task, chosen, out, fabric.device, every=every, patience=settings["patience"])
    fitting = make_fit(settings, task.count, log_every=settings["log_every"], save_every=save_every)
    objective, loader = task.make_objective(chosen, scratch), task.make_loader(chosen)
    ready(objective, runtime_of(settings))
    try:
        fit(objective, loader, fitting, out, fabric, log, watch=keeper.of(objective))
    finally:
        log.close()
    model = keeper.best_of(objective)
    facts = {"model": settings["model"], "classes": "|".join(config["classes"])}
    save_state(model, out / weights_file(config["task"]), facts)
    summary = {"finished": False, "seconds": round(log.last[1], 1), "steps": log.last[0], "memory_mb": memory_mb()}
    write_json(out / "training.json", summary | {"kept_step": keeper.kept_step(log.last[0])})
    return model


def _judge(config: dict[str, Any], model: nn.Module, task: TransferTask, out: Path, console: Console) -> None:
    device = torch.device(config["settings"]["device"])
    sentence = task.judge(model.to(device), config, out, device)
    training = Run(out).read("training.json") | {"finished": True}
    write_json(out / SUMMARY, training)
    write_report(out)
    console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"Weights, figures and report: {out / 'report.html'}", soft_wrap=True)
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


def _patience(has_val: bool) -> str:
    return "epochs without a better val score that end training" if has_val else "no val split to stop on"
