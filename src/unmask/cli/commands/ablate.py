"""The command `ablate`, step by step: inspect the data, plan the baseline, forecast, run unfinished runs, write."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unmask.cli.commands.pretrain import asked_for
from unmask.cli.continue_run import STUDY, begun_study, own, settings_of_study
from unmask.cli.options.ablate import Ablate
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.modality import IMAGE
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.files import Json, read_json, write_json
from unmask.plain import numbers, texts
from unmask.planning.initial_weights import initial
from unmask.planning.plan import Plan
from unmask.planning.pretrain import Given, make_plan
from unmask.registry import keep_sources
from unmask.runs.config import Config
from unmask.runs.run import make_encoder
from unmask.runtime import stopwatch
from unmask.runtime.command_line import command_line
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import Machine, choices, machine, tune
from unmask.runtime.progress import make_console
from unmask.studies.ablation.any_axis import needs_plan, read_axes, replanned
from unmask.studies.ablation.axes import BASELINE, IMAGES, Axis, Changes, chosen, decoder_size, make_axes
from unmask.studies.ablation.findings import records_in, scratch
from unmask.studies.ablation.forecast import Forecast, make_forecast
from unmask.studies.ablation.one_run import Bench, Doing
from unmask.studies.ablation.report import PAGE, RESULT, Facts, write_results
from unmask.studies.engine import Piece, run_pieces
from unmask.studies.in_words import encoder_words
from unmask.studies.opening import Opening
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.classification.settings import ClassifySettings

__all__ = ["ablate"]


NOT_SETTINGS = ("out", "dry_run", "parts", "jobs")
PASSED_ON = (
    "model", "modality", "image_size", "patch_size", "channels", "decoder", "batch", "lr", "seed", "precision",
    "device", "workers", "max_bad",
)  # fmt: skip
NOISE = (  # {word}: what one sample is called
    "Intervals are 95 %, Student's over seeds; differences are paired by seed. Of twenty comparisons one is apart by"
    " chance. Test {word}s are the same for all, so their choice is not in the intervals."
)


@dataclass(frozen=True)
class Ablation:
    """What `unmask.ablate` returns."""

    path: Path
    results: Json  # as in ablation.json


@dataclass(frozen=True)
class Begun:
    """What a study was begun with, as study.json keeps it."""

    asked: Json  # options as the user gave them
    config: Config  # of the baseline
    configs: dict[str, Config]  # by key, of values that were planned for themselves
    forecast: Forecast
    labelled: str  # fingerprint of the labelled data
    command: str

    @classmethod
    def from_json(cls, path: Path) -> "Begun":
        content = read_json(path)
        config = Config.from_plain(content["config"], str(path))
        configs = {key: Config.from_plain(value, f"{path}: {key}") for key, value in content["configs"].items()}
        forecast = Forecast.from_json(content["forecast"], path)
        return cls(content["asked"], config, configs, forecast, content["labelled"], content["command"])


@verb(Ablate)
def ablate(options: Ablate) -> Ablation | None:
    """Runs the study, or continues it, and returns its results; None for a dry run.

    Raises UserError for options or data that cannot work, DataError for data without labels, Interrupted on a signal:
    finished runs are kept, and the current run resumes from its last checkpoint.
    """
    began, console, out = stopwatch.began(), make_console(), Path(options.out)
    own_axes = read_axes(texts(options.axis), texts(options.axes))
    factors = [float(factor) for factor in numbers(options.sizes) if factor != 1]
    names, asked = chosen(texts(options.axes), bool(own_axes)), settings_of_study(options, NOT_SETTINGS)
    begun = begun_study(out, asked, Begun.from_json)
    if not options.dry_run:
        own(out, "ablate", (*texts(options.data), *texts(options.on)))
    here = machine(options.device, options.precision)
    tune(here.device)
    basis = Pretrain(options.data, **{name: getattr(options, name) for name in PASSED_ON}, steps=1)
    opening = _opening(options, begun.config if begun else None)
    sheet, samples = opening.samples(console)
    opening = opening.of_kind(samples)
    _require_images(sheet, names, factors)
    labelled = opening.labelled(console, "ablate")
    if begun is None:
        given = _given(basis, sheet, samples, here)
        config, _ = make_plan(given, initial(str(basis.init)), began, console)
        if {"depth", "width"} & {*names}:
            decoder_size(config)  # refuses a decoder whose size cannot be varied
        values = _values([*make_axes(names, config, 800)[0], *(axis.axis(config) for axis in own_axes)])
        configs = {key: replanned(given, config, changes) for key, changes in values.items() if needs_plan(changes)}
        tuning = plan_tuning(config, labelled, here)
        bench = Bench(config, 0, tuning, samples, labelled, make_devices(config.runtime), configs, factors=factors)
        console.print("Measuring what the runs cost ...")
        length = {"hours": options.hours, "steps": options.steps, "tuning_epochs": options.finetune_epochs}
        forecast = make_forecast(bench, values, began, seeds=options.seeds, equal=options.equal, **length)
        command = command_line()
        begun = Begun(asked, config, configs, forecast, labelled.sheet.fingerprint, command)
    elif (begun.config.data.fingerprint, begun.labelled) != (sheet.fingerprint, labelled.sheet.fingerprint):
        raise UserError(f"the data changed since the study in {out} was begun; start anew with another --out")
    config, forecast = begun.config, begun.forecast
    samples.channels = config.data.channels
    planned = {"configs": begun.configs, "lengths": forecast.lengths, "factors": factors}
    bench = Bench(config, forecast.steps, forecast.tuning, samples, labelled, make_devices(config.runtime), **planned)
    axes, remarks = make_axes(names, config, forecast.steps)
    axes += [axis.axis(config) for axis in own_axes]
    _say_plan(console, axes, remarks, bench, forecast, options)
    if options.dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / STUDY, dataclasses.asdict(begun))
    keep_sources(out)
    facts = _facts(begun.command, bench, axes, remarks, options)
    doing = Doing(out, _values(axes), opening, config, forecast.steps, forecast.tuning, **planned, bench=bench)
    records = records_in(out)
    try:
        run_pieces(doing.work(options.jobs), _pieces(axes, forecast, options), records, console, _said)
    finally:  # finished runs are worth a report, however the study ends
        results = write_results(out, axes, records.lines, facts) if records.lines else {}
    console.print(
        f"{len(records.lines)} runs. Tables, figures and report: {out / PAGE}, {out / RESULT}", soft_wrap=True
    )
    return Ablation(out, results)


def _opening(options: Ablate, config: Config | None) -> Opening:
    """config: of the baseline of a study that was begun."""
    return Opening(
        data=texts(options.data),
        on=texts(options.on),
        modality=config.data.modality if config else options.modality,
        max_side=config.data.max_side if config else decode_side(numbers(options.image_size or 224)),
        channels=options.channels or (config.data.channels if config else None),
        max_bad=options.max_bad,
        labels=options.labels or None,
        test=options.test or None,
        seed=options.seed,
    )


def _require_images(sheet: Sheet, names: Sequence[str], factors: Sequence[float]) -> None:
    """Raises UserError where the paper's axes, or other sizes, are asked for of another kind of data."""
    if sheet.modality != IMAGE and (names or factors):
        option = f"--axes {' '.join(names)}" if names else "--sizes"
        raise UserError(
            f"{option} is of images, as in the paper, and these are {sheet.word}s: say what to vary, such as"
            ' --axis "mask.ratio=0.6,0.75,0.9"'
        )


def plan_tuning(config: Config, labelled: Labelled, here: Machine) -> ClassifySettings:
    """Settings of fine-tuning, as `transfer` would choose them for these labels."""
    plan = Plan({"seed": config.training.seed, "compile": "off"})  # many short trainings
    return plan_transfer(plan, len(labelled.splits["train"]), make_encoder(config), False, labelled.sheet, here)


def _given(basis: Pretrain, sheet: Sheet, samples: Samples, here: Machine) -> Given:
    """The inputs of the baseline's plan."""
    asked = asked_for(basis)
    return Given(asked, asked, {}, sheet, samples, here, choices(here.device))


def _values(axes: list[Axis]) -> dict[str, Changes]:
    """The changes of every distinct run, by key. The baseline comes first and is part of all axes."""
    first: dict[str, Changes] = {BASELINE: {}, scratch().key: scratch().changes}
    return first | {value.key: value.changes for axis in axes for value in axis.values}


def _pieces(axes: list[Axis], forecast: Forecast, options: Ablate) -> list[list[Piece]]:
    """All values with the first seed, then with the next: an unfinished study is a complete one with fewer seeds."""
    names = {value.key: f"{axis.name} {value.label}" for axis in axes for value in axis.values}
    names |= {BASELINE: BASELINE, scratch().key: scratch().label}
    return [
        [Piece((key, seed), f"{names[key]}, seed {seed}", max(forecast.of(key), 1e-3)) for key in _values(axes)]
        for seed in range(options.seed, options.seed + options.seeds)
    ]


def _said(cell: Json) -> str:
    return f"linear {cell['linear']:.1%}, fine-tuned {cell['finetune']:.1%}"


def _say_plan(
    console: Console, axes: list[Axis], remarks: list[str], bench: Bench, forecast: Forecast, options: Ablate
) -> None:
    table = Table("axis", "values", title="Plan", title_justify="left", box=None, pad_edge=False)
    for axis in axes:
        table.add_row(axis.name, "; ".join(v.label + ("*" if not v.changes else "") for v in axis.values))
    console.print(table)
    config, count, samples = bench.config, len(bench.samples), f"{bench.config.data.word}s"
    images = forecast.steps * config.training.batch
    words = [
        "* the baseline, run once for all axes.",
        f"Baseline: {config.model.name}, {config.method.decoder}, {forecast.steps:,} steps of {config.training.batch}"
        f" {samples} ({images / count:.2g} passes over {count:,}); fine-tuned for"
        f" {bench.tuning.epochs:.3g} passes over {len(bench.labelled.splits['train']):,} labelled {samples}.",
        *remarks,
        forecast.sentence(len(_values(axes)), options.seeds),
    ]
    for line in words:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _facts(command: str, bench: Bench, axes: list[Axis], remarks: list[str], options: Ablate) -> Facts:
    """Facts about the study for its report, besides its results."""
    config, labelled, tuning = bench.config, bench.labelled, bench.tuning
    samples, splits = f"{config.data.word}s", labelled.splits
    on = ", ".join(Path(place).name for place in texts(options.on) or texts(options.data))
    baseline = [
        ("model", encoder_words(config)),
        ("decoder", config.method.decoder),
        ("mask and target", f"{config.method.mask}; {config.method.target} (the paper's ablations: raw pixels)"),
        ("equal for all", samples if options.equal == IMAGES else options.equal),
        ("augmentation", f"random crops of {config.data.crop:g} to 1 of the area, mirrored: {config.data.flip}"),
        (
            "pretraining",
            f"{bench.steps:,} steps of {config.training.batch} {samples}, {len(bench.samples):,} {samples}",
        ),
        ("fine-tuning", f"{tuning.epochs:.3g} passes over {len(splits['train']):,} labelled {samples}"),
        ("tested on", f"{len(splits['test']):,} {samples} of {len(labelled.classes)} classes"),
        ("seeds", ", ".join(str(options.seed + i) for i in range(options.seeds))),
        ("machine", f"{config.record.machine.name}, precision {config.runtime.precision}"),
    ]
    notes = [NOISE.format(word=config.data.word), *remarks]
    return Facts(on, command, baseline, len(_values(axes)) * options.seeds, notes, config.data.word)
