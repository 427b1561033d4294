"""The verb `transfer`, step by step: open the encoder, read the labelled pictures, plan, train, judge, keep, report."""

import dataclasses
import platform
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from unmask import __version__, checkpoint
from unmask.classifier import Classifier, Predictions
from unmask.devices import make_fabric
from unmask.encoder import Encoder, same_again
from unmask.errors import UserError
from unmask.finetuning import answers, finetune, make_fit, make_loader, make_task
from unmask.keeper import Keeper
from unmask.labelled import Labelled
from unmask.log import Log, clock, make_console, memory_mb
from unmask.metrics import scores
from unmask.opening import require_known
from unmask.plan import Plan
from unmask.predicting import write_predictions
from unmask.pretraining import absolute, plan_table, refuse_other_settings
from unmask.ready import ready
from unmask.recipe import follow
from unmask.report import write_report
from unmask.results import PREDICTIONS, RESULT, draw_results, headline
from unmask.run import CLASSIFIER, CLASSIFY, CONFIG, SUMMARY, Run, load_encoder, open_classifier
from unmask.runtime import Machine, autocast_dtype, check, machine, settings_now, tune
from unmask.trial import trial
from unmask.tuning import plan_transfer
from unmask.verb import plain, texts
from unmask.verbs.transfer import Transfer
from unmask.weights import save_state

NOT_SETTINGS = ("out", "config", "dry_run")


@dataclass(frozen=True)
class Transferred:
    """What `unmask.transfer` returns: a folder with a classifier and how good it is."""

    path: Path

    @cached_property
    def classifier(self) -> Classifier:
        return open_classifier(self.path)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """As in metrics.json: shares from 0 to 1."""
        return Run(self.path).read(RESULT)


def transferring(options: Transfer) -> Transferred | None:
    """See `unmask.verbs.transfer.transfer`."""
    console, out = make_console(), _out(options)
    asked = asked_for(options)
    options, reasons = follow(options, "transfer")
    saved = Run(out).config if (out / CONFIG).exists() else None
    if saved is not None:
        refuse_other_settings(asked, saved, out)
        if Run(out).finished and not options.dry_run:
            console.print(f"{out} is finished; nothing to do. Look at {out / 'report.html'}", soft_wrap=True)
            return Transferred(out)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    here = machine(options.device, options.precision)
    check(asked)
    if said := tune(here.device, settings_now(saved) if saved else asked):
        console.print(said, soft_wrap=True)
    encoder, scratch = starting_encoder(options)
    for line in _other_size(options, encoder):
        console.print(line, soft_wrap=True, markup=False)
    labelled = read_labelled(options, encoder, console)
    if saved is None:
        config = make_config(options, asked, reasons, labelled, encoder, scratch, here, console)
    elif saved["data"]["fingerprint"] != labelled.sheet.fingerprint:
        raise UserError(f"the labelled data changed since {out} was begun; start in a new folder with --out")
    else:
        config = saved
    if options.dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(out / CONFIG, config)
    checkpoint.write_json(out / "data_sheet.json", dataclasses.asdict(labelled.sheet))
    classifier = _train(config, encoder, scratch, labelled, out, console)
    _judge(config, classifier, labelled, out, console)
    return Transferred(out)


def asked_for(options: Transfer) -> dict[str, Any]:
    """The options as plain values; paths absolute, so that the same data is the same from any folder."""
    asked = {k: v for k, v in plain(options).items() if k not in NOT_SETTINGS}
    init = asked["init"] if asked["init"] in (None, "run", "none") else absolute(asked["init"])
    return asked | {"run": absolute(asked["run"]), "init": init, "on": [absolute(place) for place in asked["on"]]}


def starting_encoder(options: Transfer) -> tuple[Encoder, bool]:
    """The encoder, and whether only its architecture counts. A classifier's folder gives the encoder it trained."""
    init = str(options.init or "run")
    encoder = load_encoder(options.run if init in ("run", "none") else init)
    return encoder, init == "none"


def read_labelled(options: Transfer, encoder: Encoder, console: Console) -> Labelled:
    """The labelled data, checked for this purpose. What a person should know is said."""
    say: Callable[[str], Any] = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the labelled pictures", total=None)
        labelled = Labelled(
            texts(options.on),
            max_side=4 * max(encoder.grid.size),
            most=options.most,
            seed=options.seed,
            hold_out_val=False,
            max_bad=options.max_bad,
            say=say,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    labelled.sheet.statistics(encoder.channels)  # refuses pictures that cannot be brought to these channels
    for line in labelled.check():
        say(line)
    say(f"{len(labelled.classes)} classes; {labelled.said} pictures")
    return labelled


def make_config(
    options: Transfer,
    asked: dict[str, Any],
    reasons: dict[str, str],
    labelled: Labelled,
    encoder: Encoder,
    scratch: bool,
    here: Machine,
    console: Console,
) -> dict[str, Any]:
    """Plans, measures a few steps, says both; what can be wrong is wrong here, before anything is written."""
    plan = Plan(asked_for(options), dict(reasons))
    plan.choose("init", "run", "the run's own weights")
    count = len(labelled.splits["train"])
    has_val = bool(labelled.splits["val"])
    plan_transfer(plan, count, encoder, scratch, labelled.sheet, here)
    plan.choose("patience", max(5.0, 0.25 * plan.settings["epochs"]) if has_val else 0.0, _patience(has_val))
    settings, fabric = plan.settings, make_fabric(plan.settings)
    settings |= {"image_size": list(encoder.grid.size), "patch_size": encoder.arguments.get("patch_size")}
    settings |= {"model": _model_text(encoder), "channels": encoder.channels}
    samples = labelled.samples("train", encoder.channels)
    if settings["batch"] % settings["accumulate"]:
        raise UserError(f"a batch of {settings['batch']} cannot be worked off in {settings['accumulate']} equal parts")
    shape = {"scratch": scratch, "multi_label": labelled.multi_label}
    measured = trial(
        lambda: ready(make_task(encoder, labelled.classes, settings, **shape), settings),
        lambda size: dataclasses.replace(make_loader(samples, settings, encoder), batch=size),
        plan,
        fabric,
        retry=options.accumulate is None,
    )
    fitting = make_fit(settings, count)
    plan.choose("log_every", max(1, min(100, fitting.steps // 50)), "steps")
    seconds = fitting.steps * measured.seconds
    console.print(plan_table(plan, f"{count:,} labelled pictures"))
    console.print(f"Expected: {clock(seconds)} for {fitting.steps:,} steps, and the time to test.", soft_wrap=True)
    packages = ("torch", "torchvision", "timm", "lightning", "torchmetrics")
    return {
        "task": options.to,
        "asked": asked,
        "settings": settings,
        "reasons": plan.reasons,
        "classes": labelled.classes,
        "multi_label": labelled.multi_label,
        "mean": encoder.mean.tolist(),
        "std": encoder.std.tolist(),
        "timm": encoder.arguments,
        "fit": {"steps": fitting.steps, "seconds": None},
        "expected": {"seconds": seconds, "memory_mb": measured.memory_mb},
        "data": {"fingerprint": labelled.sheet.fingerprint, "count": count, "counts": labelled.class_counts()},
        "machine": dataclasses.asdict(here),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"unmask": __version__, "python": platform.python_version()} | {n: version(n) for n in packages},
    }


def _train(
    config: dict[str, Any], encoder: Encoder, scratch: bool, labelled: Labelled, out: Path, console: Console
) -> Classifier:
    settings, fabric = config["settings"], make_fabric(config["settings"])
    samples = labelled.samples("train", encoder.channels)
    log = Log(out, console, settings["batch"], len(samples))
    every = max(1, round(len(samples) / settings["batch"]))  # about once an epoch
    save_every = max(1, min(2000, int(120 * config["fit"]["steps"] / max(config["expected"]["seconds"], 1e-3))))
    keeper = Keeper(labelled, settings, out, fabric.device, every)
    more = {"log_every": settings["log_every"], "save_every": save_every}
    try:
        task = finetune(
            encoder, samples, settings, fabric, scratch=scratch, out=out, log=log, watch=keeper.of, fit_options=more
        )
    finally:
        log.close()
    classifier = keeper.best_of(task)
    facts = {"model": settings["model"], "classes": "|".join(config["classes"])}
    save_state(classifier, out / CLASSIFIER, facts)
    summary = {"finished": False, "seconds": round(log.last[1], 1), "steps": log.last[0], "memory_mb": memory_mb()}
    checkpoint.write_json(out / "training.json", summary | {"kept_step": keeper.kept_step(log.last[0])})
    return classifier


def _judge(config: dict[str, Any], classifier: Classifier, labelled: Labelled, out: Path, console: Console) -> None:
    settings, device = config["settings"], torch.device(config["settings"]["device"])
    autocast = autocast_dtype(settings["precision"])
    result: dict[str, Any] = {"classes": config["classes"], "on": config["asked"]["on"]}
    classifier.to(device)
    for split in ("val", "test"):
        if not labelled.splits[split]:
            continue
        loader = labelled.loader(split, classifier.encoder.channels, classifier.view)
        found, truth = answers(classifier, loader, device, autocast), labelled.labels(split)
        result[split] = scores(found, truth, config["classes"])
        if split == "test":
            samples = labelled.samples("test", classifier.encoder.channels)
            predictions = Predictions(samples.names, config["classes"], found, labelled.multi_label)
            write_predictions(predictions, out / PREDICTIONS, labelled.texts("test"))
            draw_results(result["test"], predictions, truth, samples, out)
    checkpoint.write_json(out / RESULT, result)
    training = Run(out).read("training.json") | {"finished": True}
    checkpoint.write_json(out / SUMMARY, training)
    write_report(out)
    console.print(headline(result["test"], config["classes"]), soft_wrap=True)
    console.print(f"Classifier, figures and report: {out / 'report.html'}", soft_wrap=True)
    console.print(f"Use it: unmask predict {out} IMAGES... --out predictions.csv", soft_wrap=True)


def _out(options: Transfer) -> Path:
    """The folder asked for, or `classify` in the run's."""
    if options.out is not None:
        return Path(options.out)
    require_known(options.run)
    run = Path(options.run)
    if not (run / CONFIG).exists() or "task" in Run(run).config:
        raise UserError(f"{run} is no pretraining run; say with --out where the classifier should go")
    return run / CLASSIFY


def _model_text(encoder: Encoder) -> str:
    """The timm model with its options, as `--model` takes it; dropping paths matters to training alone."""
    arguments = same_again(encoder).arguments
    fixed = {"model_name", "num_classes", "global_pool", "in_chans", "img_size", "patch_size", "drop_path_rate"}
    options = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key not in fixed)
    return f"{arguments['model_name']}({options})" if options else arguments["model_name"]


def _other_size(options: Transfer, encoder: Encoder) -> list[str]:
    """A remark where a recipe was published for another size of encoder: its settings still count."""
    meant, model = re.search(r"vit_[a-z]+", options.recipe or ""), encoder.arguments["model_name"]
    if meant is None or model.startswith(meant[0]):
        return []
    return [f"recipe {options.recipe} was published for {meant[0]}; this encoder is {model}"]


def _patience(has_val: bool) -> str:
    return "epochs without a better val score that end training" if has_val else "no val split to stop on"
