"""The command `compare`: refuse what cannot work, look at the data, plan, forecast, train and judge, write."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.cli.commands.pretrain import asked_for
from unmask.cli.continue_run import absolute, own, refuse_other_settings, require_new_study, settings_of_study
from unmask.cli.options.compare import Compare
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode_side
from unmask.files import Json
from unmask.plain import numbers, plain, texts
from unmask.planning.initial_weights import Start
from unmask.planning.validate import refuse_early
from unmask.runtime.machine import Machine, machine, tune
from unmask.runtime.progress import make_console, make_say
from unmask.studies.comparison.judging import open_weights_of
from unmask.studies.comparison.pieces import COMMAND
from unmask.studies.comparison.report import PAGE, RESULT
from unmask.studies.comparison.settings import Budget, Judging
from unmask.studies.comparison.study import STUDY, Data, Study, Wanted, begin, run, say_plan
from unmask.studies.opening import Opening

__all__ = ["compare"]

NOT_SETTINGS = ("out", "dry_run", "parts", "jobs", "config")
GROWING = ("methods", "against", "seeds", "labels_per_class", "draws")  # a study may be extended by these
STAND_IN = 1000  # steps, until the budget is divided by what a step costs
PASSED_ON = (
    "model", "modality", "image_size", "patch_size", "channels", "batch", "compile", "seed", "precision",
    "device", "workers", "max_bad",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What `unmask.compare` returns."""

    path: Path
    results: Json  # as in comparison.json


@verb(Compare)
def compare(options: Compare) -> Comparison | None:
    """Runs the study, or continues or extends it, and returns its results; None for a dry run.

    Raises UserError for options or data that cannot work, DataError for data without labels, Interrupted on a signal:
    what is finished is kept, and a training resumes from its last checkpoint.
    """
    console, out, asked = make_console(), Path(options.out), settings_of_study(options, NOT_SETTINGS)
    study = _saved(out, asked)
    if not options.dry_run:
        own(out, COMMAND, (*texts(options.data), *texts(options.on)))
    here = machine(options.device, options.precision)
    tune(here.device)
    wanted = _wanted(options, here)
    begun = {one.name for one in study.setting.contestants} if study else set()
    for name, training in _trainings(options).items():
        if name not in begun:
            refuse_early(plain(training), Start(), here)
    open_weights_of(tuple(place for place in wanted.against if place not in begun))
    data = Data.open(wanted.opening, console, COMMAND)
    study = begin(asked, wanted, data, console, study)
    say_plan(study, wanted, options.jobs, console)
    if options.dry_run:
        return None
    results = run(study, wanted, data, out, options.jobs, console)
    say = make_say(console)
    say(results["sentence"])
    say(f"Page, tables, figure: {out / PAGE}, {out / RESULT}")
    return Comparison(out, results)


def _wanted(options: Compare, here: Machine) -> Wanted:
    counts = numbers(options.labels_per_class)
    return Wanted(
        trainings={name: asked_for(training) for name, training in _trainings(options).items()},
        against=tuple(dict.fromkeys(map(absolute, texts(options.against)))),
        budget=Budget(options.hours, options.images, options.flops),
        judging=Judging(
            texts(options.evaluators), tuple(map(int, counts)), options.draws, options.finetune_epochs, options.points
        ),
        seeds=range(options.seed, options.seed + options.seeds),
        opening=Opening(
            data=texts(options.data),
            on=texts(options.on),
            modality=options.modality,
            max_side=decode_side(numbers(options.image_size or 224)),
            channels=options.channels,
            max_bad=options.max_bad,
            labels=options.labels or None,
            test=options.test or None,
            seed=options.seed,
        ),
        machine=here,
    )


def _trainings(options: Compare) -> dict[str, Pretrain]:
    """What `pretrain` would be asked for each method."""
    shared: dict[str, Any] = {name: getattr(options, name) for name in PASSED_ON} | {"steps": STAND_IN}
    return {name: Pretrain(options.data, method=name, **shared) for name in texts(options.methods)}


def _saved(out: Path, asked: Json) -> Study | None:
    """The study in the folder, if there is one; it must have the same settings, but for those that it may grow by."""
    if (out / STUDY).exists():
        study = Study.read(out)
        given, recorded = ({k: v for k, v in of.items() if k not in GROWING} for of in (asked, study.asked))
        refuse_other_settings(given, recorded, {}, out)
        return study
    require_new_study(out)
    return None
