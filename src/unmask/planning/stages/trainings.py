"""The trainings of a run, planned: its stages, and the method itself at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unmask.choice import Choice
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.sheet import Sheet
from unmask.files import STAGE, STAGES, Json, read_json, write_json
from unmask.methods.settings import START
from unmask.planning.initial_weights import Start
from unmask.planning.measure import Measured
from unmask.planning.pretrain import Given, expectation, make_plan
from unmask.planning.stages.divide import OF_THE_WEIGHTS, budgets, own_share, reasons_of, stage_options, stages_of
from unmask.planning.stages.same import key_of
from unmask.registry import parse
from unmask.runs.config import Config
from unmask.runs.run import CONFIG
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.machine import Machine
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import duration
from unmask.training.objective import Stage

AS_IT_RUNS = {field.name for field in fields(RuntimeSettings)} | {"in_memory", "workers", "resize", "shuffle_buffer"}


@dataclass(frozen=True)
class Training:
    """One of several trainings in a row."""

    config: Config
    folder: Path
    stage: Stage | None = None  # None for the method itself
    table: Table | None = None  # of its plan

    def title(self, count: int) -> str:
        """In a line. count: of all trainings of the run."""
        if self.stage is None:
            return f"Training {count} of {count}, {self.config.method.name}"
        number = self.folder.name.split("-")[0]
        return f"Training {number} of {count}, {self.stage.method}: {self.stage.says}"


def plan_in_stages(
    given: Given, start: Start, out: Path, began: float, console: Console, ranks: Ranks | None = None
) -> list[Training]:
    """Plans the method and, where it has any, the stages before it; prints every plan. The method itself is the last.

    out: the folder of the run; other arguments as of `make_plan`. The method is planned first, since its stages share
    its model and its images.
    """
    stages = stages_of(given.options["method"])
    parts = budgets(given.options, stages)
    own = _with_budget(given, parts[-1], own_share(stages))
    config, table = make_plan(own, start, began, console, ranks)
    trainings = _plan_stages(given, config, start, out, console, ranks)
    trainings.append(Training(taking_over(config, trainings), out, table=table))
    for training in trainings:
        _show(training, trainings, console, given.machine)
    return trainings


def trainings_of(
    config: Config, sheet: Sheet, samples: Samples | StreamSamples, out: Path, steps: int | None = None
) -> list[Training]:
    """The same for a run that is planned already, at the speed that it expects, without measuring: for studies.

    config: of the method; out: the folder of the run; steps: of all trainings together, by default those of the
    configuration. What the method itself is given is the configuration's, but for the number of steps.
    """
    training, expected, options = config.training, config.record.expected, config.options()
    total = steps or training.steps
    per_step = training.batch / expected.images_per_second if expected.images_per_second else 1.0
    asked = config.record.asked | {"steps": total, "epochs": None, "hours": None}
    asked |= {name: options[name] for name in asked if name in AS_IT_RUNS and name in options}
    given = Given(asked, asked, {}, sheet, samples, config.record.machine, {}, config.runtime.strategy)
    assumed = Measured(per_step, expected.memory_mb, {}, 0.0)
    trainings = _plan_stages(given, config, Start(), out, Console(quiet=True), None, assumed)
    left = total - sum(planned.config.training.steps for planned in trainings)
    training = replace(training, steps=left, warmup=round(training.warmup * left / training.steps))
    return [*trainings, Training(taking_over(replace(config, training=training), trainings), out)]


def _plan_stages(
    given: Given,
    config: Config,
    start: Start,
    out: Path,
    console: Console,
    ranks: Ranks | None,
    assumed: Measured | None = None,
) -> list[Training]:
    """The stages before a method. config: the method's plan; others as of `make_plan`."""
    method, trainings = given.options["method"], []
    stages = stages_of(method)
    for number, (stage, part) in enumerate(zip(stages, budgets(given.options, stages)), start=1):
        options, begin = stage_options(given.asked, stage, config.options()), Start()
        if stage.option == START and not any(before.stage.option == START for before in trainings):
            options |= {name: given.asked[name] for name in OF_THE_WEIGHTS}  # the first encoder of all starts there
            begin = start
        own = replace(given, asked=options, options=options, reasons=reasons_of(given.reasons, method, options))
        own = _with_budget(own, part, stage.share)
        planned, table = make_plan(own, begin, time.monotonic(), console, ranks, assumed)
        folder = out / STAGES / f"{number}-{Path(parse(stage.method)[0]).stem}"
        trainings.append(Training(taking_over(planned, trainings), folder, stage, table))
    return trainings


def _with_budget(given: Given, budget: dict[str, Choice], share: float) -> Given:
    values = {name: choice.value for name, choice in budget.items()}
    reasons = given.reasons | {name: choice.reason for name, choice in budget.items()}
    return replace(given, options=given.options | values, reasons=reasons, share=share)


def taking_over(config: Config, before: Sequence[Training]) -> Config:
    """With the folder of the training before it, and the licences of what that one learned from."""
    last = before[-1] if before else None
    if last is None or last.stage is None:
        return config
    handed, record = {last.stage.option: str(last.folder.resolve())}, config.record
    earlier = [facts for facts in last.config.record.teachers if facts not in record.teachers]
    licence = record.licence or last.config.record.licence
    record = replace(record, teachers=[*record.teachers, *earlier], licence=licence)
    return replace(config, method=replace(config.method, handed=handed), record=record)


def _show(training: Training, trainings: Sequence[Training], console: Console, here: Machine) -> None:
    many_of_them = len(trainings) > 1
    if many_of_them:
        console.print(f"\n{training.title(len(trainings))}", style="bold", soft_wrap=True, highlight=False)
    console.print(training.table)
    console.print(expectation(training.config, here), soft_wrap=True)
    if many_of_them and training is trainings[-1]:
        seconds = sum(t.config.record.expected.seconds for t in trainings)
        console.print(f"Expected in all: {duration(seconds)} for {len(trainings)} trainings in a row.", soft_wrap=True)


def write_plans(trainings: Sequence[Training]) -> None:
    """Writes what is needed to go on with each stage, whenever the command is stopped."""
    whole = trainings[0].config.method.handed is None  # else a training before is not among them, and may be any
    for number, training in enumerate(trainings, start=1):
        folder, stage = training.folder, training.stage
        if stage is None or (folder / CONFIG).exists():
            continue  # the method itself, or of an earlier call
        folder.mkdir(parents=True, exist_ok=True)
        facts: Json = {"number": number, "of": len(trainings), **vars(stage)}
        key = key_of([before.config for before in trainings[:number]]) if whole else None
        write_json(folder / STAGE, facts | {"key": key})
        training.config.to_json(folder / CONFIG)


def saved_trainings(config: Config, out: Path) -> list[Training]:
    """The trainings of a run that was begun. config: of the method itself."""
    trainings = []
    for path in sorted((out / STAGES).glob(f"*/{STAGE}"), key=lambda path: read_json(path)["number"]):
        facts = read_json(path)
        stage = Stage(**{name: facts[name] for name in ("method", "share", "says", "option")})
        trainings.append(Training(Config.from_json(path.with_name(CONFIG)), path.parent, stage))
    return [*trainings, Training(config, out)]
