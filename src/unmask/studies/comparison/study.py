"""A comparison from plan to page: begun, extended, continued; for the command and for studies that need trials."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.sheet import Sheet
from unmask.errors import UserError, many
from unmask.files import Json, read_json, write_json
from unmask.methods.settings import MethodSettings
from unmask.planning.method import TEXTS
from unmask.planning.pretrain import Given
from unmask.registry import keep_sources
from unmask.runs.config import typed
from unmask.runtime.command_line import command_line
from unmask.runtime.machine import Machine, choices
from unmask.runtime.progress import doing, make_say
from unmask.studies.comparison.findings import Findings
from unmask.studies.comparison.judging import encoder_of, judge_frozen
from unmask.studies.comparison.pieces import FIELDS, FROZEN, Bench, said, waves, work_of
from unmask.studies.comparison.plan import Forecast, forecast, plan_method
from unmask.studies.comparison.report import Facts, write_results
from unmask.studies.comparison.settings import PIXELS, RANDOM, WEIGHTS, Budget, Contestant, Judging, Setting
from unmask.studies.engine import Records, run_pieces
from unmask.studies.in_words import encoder_words
from unmask.studies.opening import Opening
from unmask.studies.same_part import same_part
from unmask.training.log import clock

STUDY, LINES = "study.json", "results.jsonl"
OFTEN = 60.0  # seconds between two writings of the page


@dataclass(frozen=True)
class Wanted:
    """What a comparison is asked for."""

    trainings: Mapping[str, Json]  # method -> all options of its pretraining, as plain values
    against: tuple[str, ...]  # weights to compare with
    budget: Budget
    judging: Judging
    seeds: range
    opening: Opening
    machine: Machine


@dataclass(frozen=True)
class Data:
    """What is looked at, open."""

    sheet: Sheet
    samples: Samples
    labelled: Labelled

    @classmethod
    def open(cls, opening: Opening, console: Console, command: str) -> "Data":
        sheet, samples = opening.samples(console)
        return cls(sheet, samples, opening.of_kind(samples).labelled(console, command))

    @property
    def fingerprints(self) -> list[str]:
        return [self.sheet.fingerprint, self.labelled.sheet.fingerprint]


@dataclass(frozen=True)
class Study:
    """What a study is made of, as study.json keeps it."""

    asked: Json  # options as the user gave them
    setting: Setting
    forecast: Forecast
    fingerprints: list[str]
    measured: list[Json]  # results of random initialisation, with which judging was measured
    command: str

    @classmethod
    def read(cls, out: Path) -> "Study":
        return typed(cls, read_json(out / STUDY), str(out / STUDY), "")


def begin(asked: Json, wanted: Wanted, data: Data, console: Console, earlier: Study | None = None) -> Study:
    """Plans the methods, and measures what judging costs. earlier: the study that this one extends, whose plans stay.

    Raises UserError for a method that does not work here, a budget below one step, or other data.
    """
    planned = () if earlier is None else earlier.setting.contestants
    if earlier is not None and earlier.fingerprints != data.fingerprints:
        raise UserError("the data changed since the study was begun; start anew with another --out")
    contestants = _contestants(wanted, data, planned, console)
    reference = next(contestant.config for contestant in contestants if contestant.config)
    numbers = _numbers(wanted.judging.labels_per_class, data.labelled, console)
    judging = replace(wanted.judging, labels_per_class=numbers)
    opening = wanted.opening.of_kind(data.samples)
    setting = Setting(opening, contestants, reference, judging, wanted.machine, "", wanted.seeds[0])
    if earlier is None:
        doing("measuring what judging costs")
        console.print("Measuring what judging costs ...")
        random, tell = setting.contestant(RANDOM), lambda what, share: None
        measured = judge_frozen(setting, data.labelled, random, setting.seed, 1.0, judging.evaluators, tell)
    else:
        measured = earlier.measured
    seconds = {result["judge"]: result["seconds"] for result in measured}
    encoder = encoder_of(setting, setting.contestant(RANDOM), setting.seed)
    predicted = forecast(setting, data.labelled, encoder, seconds)
    command = command_line()
    return Study(asked, setting, predicted, data.fingerprints, measured, command)


def _contestants(wanted: Wanted, data: Data, planned: Sequence[Contestant], console: Console) -> tuple[Contestant, ...]:
    """Those planned before, then new ones: methods, baselines, weights."""
    names = {contestant.name for contestant in planned}
    fastest = choices(wanted.machine.device)
    methods = [contestant for contestant in planned if contestant.trained]
    for name, options in wanted.trainings.items():
        if name in names:
            continue
        console.print(f"Measuring a few steps of {name} ...", markup=False)
        given = Given(options, options, {}, data.sheet, data.samples, wanted.machine, fastest)
        methods.append(plan_method(name, given, data.samples, wanted.budget))
        _refuse_twin(methods)
    weights = [contestant for contestant in planned if contestant.kind == WEIGHTS]
    weights += [Contestant(place, WEIGHTS) for place in dict.fromkeys(wanted.against) if place not in names]
    return (*methods, Contestant(RANDOM, RANDOM), Contestant(PIXELS, PIXELS), *weights)


def _refuse_twin(methods: Sequence[Contestant]) -> None:
    """Raises UserError where the last method is another one in other words: "mae" and "mae(mask=random)"."""
    *others, last = methods
    for other in others:
        if other.config and last.config and _same(other.config.method, last.config.method):
            raise UserError(
                f"--methods names {other.name} and {last.name}: with what is chosen for them both are the same"
                " training. Tell them apart by an option, or repeat the study with --seeds"
            )


def _same(first: MethodSettings, second: MethodSettings) -> bool:
    texts = [(getattr(first, kind), getattr(second, kind)) for kind in TEXTS]
    if not all(one == other or (one and other and same_part(k, one, other)) for k, (one, other) in zip(TEXTS, texts)):
        return False
    numbers = ("masks_per_image", "decoder_warmup")
    equal = all(getattr(first, name) == getattr(second, name) for name in numbers)
    return equal and same_part("method", first.name, second.name)


def _numbers(asked: Sequence[int], labelled: Labelled, console: Console) -> tuple[int, ...]:
    """Of labels per class: those that the data has."""
    fewest = min(count for count in labelled.class_counts("train").values() if count)
    for number in (number for number in asked if number > fewest):
        console.print(f"{number} labels per class: left out, the smallest class has {fewest}", markup=False)
    return tuple(number for number in asked if number <= fewest)


def say_plan(study: Study, wanted: Wanted, jobs: int, console: Console) -> None:
    """The plan as a table, and the forecast."""
    word = study.setting.reference.data.word
    columns = "method", "batch", "steps", f"{word}s", f"MFLOP/{word}", "time", "MB"
    table = Table(*columns, title="Plan", title_justify="left", box=None, pad_edge=False)
    chosen = chosen_now(study.setting, wanted)
    for contestant in chosen:
        if contestant.config:
            training = contestant.config.training
            cells = (
                f"{training.batch:,}",
                f"{training.steps:,}",
                f"{contestant.images:,}",
                f"{contestant.flops / 1e6:,.0f}",
            )
            table.add_row(contestant.name, *cells, clock(contestant.seconds), f"{contestant.memory_mb:,}")
    console.print(table)
    say = make_say(console)
    rest = [contestant.name for contestant in chosen if not contestant.trained]
    say(f"Also judged: {', '.join(rest)}. All train {encoder_words(study.setting.reference)}.")
    say(study.forecast.sentence(chosen, study.setting.judging, len(wanted.seeds), jobs, word))


def chosen_now(setting: Setting, wanted: Wanted) -> tuple[Contestant, ...]:
    """The contestants that this call asks for, and the baselines; the study may hold more."""
    names = {*wanted.trainings, *wanted.against, RANDOM, PIXELS}
    return tuple(contestant for contestant in setting.contestants if contestant.name in names)


def run(study: Study, wanted: Wanted, data: Data, out: Path, jobs: int, console: Console) -> Json:
    """Trains and judges what is missing in the folder `out`; returns the results, which lie there as JSON and page."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / STUDY, dataclasses.asdict(study))
    keep_sources(out)
    setting = replace(study.setting, out=str(out), opening=wanted.opening.of_kind(data.samples))
    data.samples.channels = setting.reference.data.channels
    records = Records(out / LINES, FIELDS)
    first = (FROZEN, RANDOM, setting.seed, "1", 0)
    if first not in records.lines:
        records.add(dict(zip(FIELDS, first)) | {"results": study.measured})
    planned = waves(replace(setting, contestants=chosen_now(setting, wanted)), study.forecast, wanted.seeds)
    missing = sum(piece.key not in records.lines for wave in planned for piece in wave)
    seeds = sorted({*wanted.seeds, *(int(key[2]) for key in records.lines)})  # an earlier call may have had more
    facts = _facts(study, wanted, data, seeds, len(records.lines) + missing)
    if missing < sum(map(len, planned)) - 1:  # more than what was measured is there
        left = sum(piece.cost for wave in planned for piece in wave if piece.key not in records.lines)
        make_say(console)(f"Of these, {clock(left / jobs)} are left to do.")
    write = _writer(out, setting, records, facts)
    try:
        bench = Bench(setting, data.sheet, data.samples, data.labelled)
        saying = partial(said, word=setting.reference.data.word)
        run_pieces(work_of(bench, jobs), planned, records, console, saying, after=lambda: write(False))
    finally:  # what is finished is worth a page, however the study ends
        results = write(True)
    return results


def _writer(out: Path, setting: Setting, records: Records, facts: Facts) -> Callable[[bool], Json]:
    """Writes the results so far: now and then, or always."""
    last = [-OFTEN]

    def write(always: bool) -> Json:
        if not always and time.monotonic() - last[0] < OFTEN:
            return {}
        findings = Findings.of(setting.contestants, records.lines)
        seconds = sum(map(_seconds, records.lines.values()))
        results = write_results(out, findings, len(records.lines), seconds, facts)
        last[0] = time.monotonic()
        return results

    return write


def _seconds(line: Json) -> float:
    return line.get("seconds", 0.0) + sum(result["seconds"] for result in line.get("results", ()))


def _facts(study: Study, wanted: Wanted, data: Data, seeds: Sequence[int], planned: int) -> Facts:
    opening, config = wanted.opening, study.setting.reference
    where, of = _listed(opening.on or opening.data), _listed(opening.data)
    samples = f"{config.data.word}s"
    pairs = [
        ("encoder", encoder_words(config)),
        ("budget", wanted.budget.text(config.data.word)),
        ("pretrained on", f"{many(config.data.count, config.data.word)} of {of}"),
        ("judged on", f"{data.labelled.said} {samples} of {len(data.labelled.classes)} classes"),
        ("seeds", ", ".join(map(str, seeds))),
        ("machine", f"{wanted.machine.name}, precision {wanted.machine.precision}"),
    ]
    notes = []
    if study.asked.get("batch"):
        batch = many(study.asked["batch"], config.data.word)
        notes.append(f"But all trained on batches of {batch}, as asked for, in place of what each method chooses.")
    if not data.sheet.splits and opening.on in ((), opening.data):
        notes.append(
            f"The data has no splits, so the test {samples} were among those that were pretrained on, without their"
            " labels: the same for all methods, but not for weights from elsewhere."
        )
    return Facts(where, study.command, pairs, planned, notes, config.data.word)


def _listed(places: Sequence[str]) -> str:
    return ", ".join(Path(place).name for place in places)
