"""The plan of a pretraining run: every setting chosen, each with its reason, as a table."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from unmask.choice import Choice
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.settings import DataSettings
from unmask.data.sheet import Sheet
from unmask.errors import many
from unmask.files import Json
from unmask.methods.mae import MAE
from unmask.methods.settings import MethodSettings
from unmask.models.encoder import Encoder
from unmask.models.settings import ModelSettings
from unmask.planning.build import build
from unmask.planning.initial_weights import Start
from unmask.planning.length import COPIES, plan_length
from unmask.planning.loaders import make_loader, note_readers, plan_order
from unmask.planning.measure import ENOUGH, Measured, measure, note_cost
from unmask.planning.method import note_teachers
from unmask.planning.model import plan_model
from unmask.planning.plan import Plan
from unmask.planning.runtime import plan_devices, plan_runtime
from unmask.planning.safety import plan_caution
from unmask.planning.workers import plan_supply, plan_workers
from unmask.runs.config import Config, Expected, Record
from unmask.runtime.command_line import command_line
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.machine import Machine
from unmask.runtime.progress import doing
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import duration
from unmask.training.resolution import firsts
from unmask.training.resolution import parse as parse_resolutions
from unmask.training.settings import TrainingSettings
from unmask.version import __version__

PACKAGES = ("torch", "torchvision", "timm")


@dataclass(frozen=True)
class Given:
    """Inputs of a plan: the user's options, and facts about data and machine."""

    asked: Json  # options as the user gave them, by name
    options: Json  # with the options of a recipe filled in
    reasons: dict[str, str]  # for that
    sheet: Sheet
    samples: Samples | StreamSamples
    machine: Machine
    fastest: Mapping[str, Choice]  # `choices` of the machine
    strategy: str = "auto"  # how several devices share the model
    share: float = 1.0  # of the length that is chosen where none is given: one of several trainings in a row

    @property
    def packed(self) -> str | None:
        """The pack's facts, as recorded in a configuration."""
        return self.samples.source.packed if isinstance(self.samples, Samples) else None


def make_plan(
    given: Given,
    start: Start,
    began: float,
    console: Console,
    ranks: Ranks | None = None,
    assumed: Measured | None = None,
) -> tuple[Config, Table]:
    """Chooses, builds, measures a few steps; returns the configuration and the plan as a table.

    start: the weights that `--init` names; began: start time of the command; assumed: what a step costs, so that none
    is measured. Every process makes the same plan, since `given` and the measurements are the same in all.
    """
    ranks, plan = ranks or Ranks(), Plan(dict(given.options), dict(given.reasons))
    plan.share = given.share
    for line in start.lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    doing("choosing the model and its settings")
    draft = choose_parts(plan, given, start)
    for line in plan.remarks:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if assumed is not None:
        return choose_length(draft, [assumed], 0.0), plan_table(plan, many(len(given.samples), given.sheet.word))
    doing("measuring a few steps")
    console.print(f"Measuring a few steps of {plan.settings['batch']:,} {given.sheet.word}s ...")
    measured = measure_stages(draft, start, ranks)
    config = choose_length(draft, measured, ranks.most(time.monotonic() - began)[0])
    return config, plan_table(plan, many(len(given.samples), given.sheet.word))


@dataclass(frozen=True)
class Draft:
    """A plan that becomes a configuration."""

    plan: Plan
    given: Given
    start: Start
    encoder: Encoder
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def config(self, record: Record | None = None, **length: Any) -> Config:
        """The current choices as a configuration. length: settings of the loop's length; before it is chosen, a single
        step."""
        given, settings = self.given, self.plan.settings
        spike = settings["spike"]
        loop: dict[str, Any] = {"steps": 1, "warmup": 0, "fused": settings["fused"] != "off"} | length
        loop["lasting_copies"] = COPIES if given.options["keep_every"] is None else 0
        loop["fixed_weight_decay"] = given.options["weight_decay"] is not None
        loop["tidy"] = given.options["keep_last"] is None
        loop["spike"] = None if spike in (None, "off") else float(spike)
        facts: dict[str, Any] = {"fingerprint": given.sheet.fingerprint, "count": len(given.samples)}
        facts |= {"split": "train" if given.sheet.splits else None, "packed": given.packed}
        facts |= {"mean": self.mean, "std": self.std, "max_side": given.samples.max_side}
        name = {"name": settings["model"], "timm": self.encoder.arguments}
        return Config(
            data=self.plan.fill(DataSettings, paths=settings["data"], **facts),
            model=self.plan.fill(ModelSettings, **name),
            method=self.plan.fill(MethodSettings, name=settings["method"]),
            training=self.plan.fill(TrainingSettings, warmup_epochs=settings["warmup"] or 0.0, **loop),
            runtime=self.plan.fill(RuntimeSettings),
            record=record or make_record(given, self.start, self.plan, {}, Expected()),
        )


def choose_parts(plan: Plan, given: Given, start: Start) -> Draft:
    """Makes all choices that need no measurement. Raises UserError for a model that cannot be built or a batch that
    cannot be divided."""
    sheet, samples = given.sheet, given.samples
    plan.settings["modality"] = sheet.modality
    start.guide(plan, sheet.channels)
    encoder = plan_model(plan, sheet, given.machine)
    plan_runtime(plan, given.machine, given.fastest)
    plan_order(plan, samples)
    plan_supply(plan, sheet, given.machine, given.packed, stream=isinstance(samples, StreamSamples))
    own = sheet.statistics(plan.settings["channels"])  # refuses channels that the data cannot be brought to
    mean, std = start.statistics(own, plan)
    plan.settings["strategy"] = given.strategy
    draft = Draft(plan, given, start, encoder, tuple(mean), tuple(std))
    objective, method = build(draft.config(), Start()), draft.config().method
    plan.new_decoder = start.new_decoder(method.decoder, objective, method.target or "")
    note_teachers(plan, objective)
    note_cost(plan, objective, MAE.defaults(encoder, sheet, given.machine)["decoder"].value)
    parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    plan_devices(plan, given.strategy, parameters, given.machine.memory)
    samples.channels = plan.settings["channels"]
    make_loader(draft.config(), samples)  # refuses a batch that cannot be divided
    return draft


def measure_stages(draft: Draft, start: Start, ranks: Ranks, enough: float = ENOUGH) -> list[Measured]:
    """Measures a few steps at every image size of the run, the final one last; all use its number of micro-batches.
    enough: seconds after which no further step of a size is run."""
    given = draft.given
    retry = given.options["accumulate"] is None
    measured = [measure(draft.config, draft.plan, given.samples, start, ranks, retry=retry, enough=enough)]
    for stage in reversed(parse_resolutions(draft.plan.settings["resolutions"])[:-1]):

        def at_size(size: tuple[int, int] = stage.size) -> Config:
            return draft.config().at_size(size)

        measured.insert(0, measure(at_size, draft.plan, given.samples, start, ranks, retry=False, enough=enough))
    return measured


def choose_length(draft: Draft, measured: list[Measured], spent: float) -> Config:
    """Chooses workers and length from the measurements. spent: seconds since the command began."""
    plan, given, final = draft.plan, draft.given, measured[-1]
    stages = parse_resolutions(plan.settings["resolutions"])
    shares = [stage.share for stage in stages] or [1.0]
    preparing = sum(share * part.preparing for share, part in zip(shares, measured))
    computing = sum(share * part.computing for share, part in zip(shares, measured))
    per_step = plan_workers(plan, given.machine, preparing, computing)
    note_readers(plan, given.samples)
    count, batch = len(given.samples), plan.settings["batch"]
    steps, seconds = plan_length(plan, count, per_step, given.machine, spent)
    plan_caution(plan)
    length: dict[str, Any] = {"steps": steps, "seconds": seconds}
    length["warmup"] = round(plan.settings["warmup"] * count / batch)
    if stages:
        length["begins"] = tuple(firsts(stages, steps))
        length["costs"] = tuple(round(part.seconds / final.seconds, 4) for part in measured)
    expected = Expected(seconds=steps * per_step, images_per_second=batch / per_step, memory_mb=final.memory_mb)
    return draft.config(make_record(given, draft.start, plan, final.context, expected), **length)


def make_record(given: Given, start: Start, plan: Plan, context: dict[str, float], expected: Expected) -> Record:
    """The provenance of the run."""
    versions = {"unmask": __version__, "python": platform.python_version()}
    return Record(
        asked=given.asked,
        reasons=plan.reasons,
        words=plan.words,
        context=context,
        expected=expected,
        weights=start.facts,
        licence=start.facts["licence"] if start.facts else None,
        teachers=plan.teachers,
        machine=given.machine,
        launch=launch(),
        command=command_line(),
        versions=versions | {name: version(name) for name in PACKAGES},
    )


def expectation(config: Config, here: Machine) -> str:
    """Time and memory in words, before training starts."""
    expected = config.record.expected
    speed = f"{many(config.training.steps, 'step')} at {expected.images_per_second:.0f} {config.data.word}s/s"
    memory = f"peak memory {expected.memory_mb:,} MB of {here.memory / 2**20:,.0f} MB free on {here.name}"
    return f"Expected: {duration(expected.seconds)} for {speed}; {memory}."


def plan_table(plan: Plan, title: str) -> Table:
    """Every choice with its reason, for a terminal."""
    table = Table("setting", "value", "why", title=f"Plan for {title}", title_justify="left", box=None, pad_edge=False)
    for row in plan.rows():
        table.add_row(*row)
    return table
