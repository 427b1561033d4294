"""The command `tune`, step by step: look at the data, plan the baseline, forecast, run the rounds, write."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from unmask.cli.commands.pretrain import asked_for
from unmask.cli.continue_run import STUDY, begun_study, own, settings_of_study
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.options.tune import Tune
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode_side
from unmask.errors import UserError, many
from unmask.files import Json, read_json, write_json
from unmask.plain import numbers, texts
from unmask.planning.build import flops_per_image
from unmask.planning.initial_weights import initial
from unmask.planning.pretrain import Given, make_plan
from unmask.registry import keep_sources, parse, require
from unmask.runs.config import Config, typed
from unmask.runs.run import make_encoder
from unmask.runtime import stopwatch
from unmask.runtime.command_line import command_line
from unmask.runtime.machine import autocast_dtype, choices, machine
from unmask.runtime.machine import tune as tune_machine
from unmask.runtime.progress import make_console
from unmask.studies.engine import Records
from unmask.studies.in_words import encoder_words
from unmask.studies.opening import Opening
from unmask.studies.tuning.findings import Outcome
from unmask.studies.tuning.halving import rungs
from unmask.studies.tuning.judging import JUDGED, deal, judge_on_validation, validation_features
from unmask.studies.tuning.report import PAGE, RESULT, Facts, write_results
from unmask.studies.tuning.run import COMMAND, FIELDS, RECORDS, Bench, Doing, Length, Tuning, chosen_by
from unmask.studies.tuning.space import axis_of, chosen_axes
from unmask.training.log import clock

__all__ = ["tune"]

NOT_SETTINGS = ("out", "dry_run", "parts", "jobs", "config")
PASSED_ON = (
    "model", "modality", "image_size", "patch_size", "channels", "method", "mask", "target", "decoder", "batch", "lr",
    "seed", "precision", "device", "workers", "max_bad",
)  # fmt: skip
HOURS = 1.0  # of a study, when neither hours nor steps are given
RESERVE = 0.05  # share of the time kept for pages and errors of the forecast
FEW = 100  # steps of a whole run below which little can be told apart


@dataclass(frozen=True)
class Tuned:
    """What `unmask.tune` returns."""

    path: Path
    results: Json  # as in tuning.json


@dataclass(frozen=True)
class Begun:
    """What a study was begun with, as study.json keeps it."""

    asked: Json  # options as the user gave them
    config: Config  # of the baseline
    length: Length
    fingerprints: list[str]
    command: str

    @classmethod
    def from_json(cls, path: Path) -> "Begun":
        return typed(cls, read_json(path), str(path), "")


@verb(Tune)
def tune(options: Tune) -> Tuned | None:
    """Runs the study, or continues it, and returns its results; None for a dry run.

    Raises UserError for options or data that cannot work, DataError for data without labels, Interrupted on a signal:
    finished runs are kept, and the current run resumes from its last checkpoint.
    """
    began, console, out = stopwatch.began(), make_console(), Path(options.out)
    axes, asked, evaluator = (
        chosen_axes(texts(options.axes)),
        settings_of_study(options, NOT_SETTINGS),
        texts(options.evaluators)[0],
    )
    require("evaluator", evaluator)
    begun = begun_study(out, asked, Begun.from_json)
    if not options.dry_run:
        own(out, COMMAND, (*texts(options.data), *texts(options.on)))
    here = machine(options.device, options.precision)
    tune_machine(here.device)
    opening = _opening(options, begun.config if begun else None)
    sheet, samples = opening.samples(console)
    opening = opening.of_kind(samples)
    labelled = opening.labelled(console, COMMAND, JUDGED)
    basis = Pretrain(options.data, **{name: getattr(options, name) for name in PASSED_ON}, steps=1)
    given = Given(asked_for(basis), asked_for(basis), {}, sheet, samples, here, choices(here.device))
    fingerprints = [sheet.fingerprint, labelled.sheet.fingerprint]
    bench = Bench(samples, labelled)
    if begun is None:
        config, _ = make_plan(given, initial(str(basis.init)), began, console)
        console.print("Measuring what a run costs ...")
        length = _length(config, bench, evaluator, axes, options, began)
        command = command_line()
        begun = Begun(asked, config, length, fingerprints, command)
    elif begun.fingerprints != fingerprints:
        raise UserError(f"the data changed since the study in {out} was begun; start anew with another --out")
    samples.channels = begun.config.data.channels
    doing = Doing({}, begun.length, opening, samples.channels, evaluator, out, options.seed, bench)
    seeds = range(options.seed, options.seed + options.seeds)
    tuning = Tuning(given, begun.config, axes, doing, seeds, options.jobs)
    _say_plan(console, tuning)
    if options.dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / STUDY, dataclasses.asdict(begun))
    keep_sources(out)
    records, facts = Records(out / RECORDS, FIELDS), _facts(begun, bench, options)

    def written(outcomes: list[Outcome]) -> Json:
        seconds = sum(line.get("seconds", 0.0) for line in records.lines.values())
        return write_results(out, outcomes, chosen_by(outcomes), seconds, facts)

    results = written(tuning.run(records, console, written))
    console.print(f"To go on: {results['next']}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"Page, tables, figures: {out / PAGE}, {out / RESULT}", soft_wrap=True)
    return Tuned(out, results)


def _length(config: Config, bench: Bench, evaluator: str, axes: list[str], options: Tune, began: float) -> Length:
    """Measures judging, and chooses the length of a whole run. Raises UserError for too little time, and for axes with
    nothing to choose between."""
    start = time.monotonic()
    device, autocast = config.runtime.device, autocast_dtype(config.runtime.precision)
    features = validation_features(bench.labelled, make_encoder(config), device, autocast)
    deal(features.labels, options.seed)  # refuses classes that are too small
    judge_on_validation(features, evaluator, options.seed)
    judging = time.monotonic() - start
    batch = config.training.batch
    step, flops = batch / config.record.expected.images_per_second, batch * flops_per_image(config, bench.samples)
    if options.steps is not None:
        return Length(options.steps, flops, step, judging)
    rounds = [rung for text in axes for rung in rungs(_count(text, config), options.seeds)]
    whole, runs = sum(rung.cost for rung in rounds), sum(rung.values * rung.seeds for rung in rounds)
    hours = options.hours or HOURS
    seconds = (1 - RESERVE) * (3600 * hours - (time.monotonic() - began)) - runs * judging / options.jobs
    steps = int(seconds * options.jobs / (whole * step))
    if steps < 4:  # a quarter of which is a step
        raise UserError(
            f"{hours:g} hours are too short: judging {runs} runs alone takes {clock(runs * judging)}. Give more"
            " --hours, fewer --axes or --seeds, or fewer --labels"
        )
    return Length(steps, flops, step, judging)


def _count(text: str, config: Config) -> int:
    return len(axis_of(text, config).axis(config).values)


def _say_plan(console: Console, tuning: Tuning) -> None:
    length, config, seconds, runs = tuning.doing.length, tuning.baseline, 0.0, 0
    lines = []
    for text in tuning.axes:
        axis = axis_of(text, config).axis(config)
        labels = [value.label + ("*" if not value.changes else "") for value in axis.values]
        rounds = rungs(len(axis.values), len(tuning.seeds))
        runs += sum(rung.values * rung.seeds for rung in rounds)
        seconds += sum(rung.values * rung.seeds * length.seconds(rung.share) for rung in rounds)
        spelled = ", ".join(f"{rung.values} at {rung.share:.0%}" for rung in rounds)
        lines.append(
            f"{axis.name}: {'; '.join(labels)} (rounds: {spelled}; the last with {many(len(tuning.seeds), 'seed')})"
        )
    batch = config.training.batch
    lines += [
        "* the baseline; later axes start from what was better before.",
        f"Baseline: {config.model.name}, {config.method.decoder or config.method.name}; a whole run has"
        f" {length.steps:,} steps of {batch} {config.data.word}s, all others as many FLOPs.",
        f"Forecast: {clock(seconds / tuning.jobs)} for at most {runs} runs"
        f" ({clock(length.seconds(1.0))} for a whole one with its judging).",
    ]
    if length.steps < FEW:
        lines.append(f"A run of {length.steps} steps learns little: more hours, fewer axes or a smaller model help.")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _opening(options: Tune, config: Config | None) -> Opening:
    """config: of the baseline of a study that was begun."""
    return Opening(
        data=texts(options.data),
        on=texts(options.on),
        modality=config.data.modality if config else options.modality,
        max_side=config.data.max_side if config else decode_side(numbers(options.image_size or 224)),
        channels=options.channels or (config.data.channels if config else None),
        max_bad=options.max_bad,
        labels=options.labels or None,
        test=None,
        seed=options.seed,
    )


def _facts(begun: Begun, bench: Bench, options: Tune) -> Facts:
    config, length, splits = begun.config, begun.length, bench.labelled.splits
    word, batch = config.data.word, config.training.batch
    judged = len(splits["train"]) + len(splits["val"])
    on = ", ".join(Path(place).name for place in texts(options.on) or texts(options.data))
    pairs = [
        ("model", encoder_words(config)),
        ("method", ", ".join(text for text in (config.method.name, config.method.mask, config.method.target) if text)),
        ("decoder", config.method.decoder or "none"),
        ("a whole run", f"{length.steps:,} steps of {many(batch, word)}; {many(len(bench.samples), word)}"),
        ("judged on", f"{many(judged, word)} of {len(bench.labelled.classes)} classes"),
        ("judge", texts(options.evaluators)[0]),
        ("seeds of the last round", str(options.seeds)),
        ("machine", f"{config.record.machine.name}, precision {config.runtime.precision}"),
    ]
    usual = Tune(options.data)
    given = {name: value for name in PASSED_ON if (value := getattr(options, name)) != getattr(usual, name)}
    return Facts(on, begun.command, pairs, texts(options.data), given, word, parse(config.data.modality)[0])
