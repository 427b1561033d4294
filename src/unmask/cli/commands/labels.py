"""The verb `labels`, step by step: draw labelled images, train every competitor on each draw, put the curve together.

Frozen protocols run here; trainings run side by side in processes that each open the data for themselves.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

from unmask.cli.continue_run import results_folder
from unmask.cli.options.labels import PROTOCOLS, Labels
from unmask.cli.verb import verb
from unmask.errors import Interrupted, UserError
from unmask.files import write_json
from unmask.plain import texts
from unmask.runs.run import CONFIG
from unmask.runtime.machine import machine
from unmask.studies.label_curve.curve import ALL, PRETRAINED, RANDOM, SCRATCH, Curve, draw_curve, make_point, worths
from unmask.studies.label_curve.segmentation import segment_labelling
from unmask.studies.label_curve.study import Cell, Records, Setting, Study
from unmask.tasks.pages import write_report
from unmask.training.log import make_console

__all__ = ["labels"]
if TYPE_CHECKING:
    from unmask.studies.label_curve.curve import Curve


RESULT, IMAGE, RECORDS = "labels.json", "labels.png", "labels.jsonl"
PER_JOB = 2 * 2**30  # bytes of memory that a training process is reckoned to take


def labelling(options: Labels) -> Curve:
    """See `unmask.cli.commands.labels.labels`."""
    if options.to == "segment":
        return segment_labelling(options)
    console, here, out = (
        make_console(),
        machine(options.device, options.precision),
        results_folder(options.run, options.out),
    )
    say: Callable[[str], Any] = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
    setting = Setting(
        str(options.run), texts(options.on), options.most, options.most_test, options.seed, here.device,
        here.precision, options.epochs, 0,
    )  # fmt: skip
    study = Study(setting, say)
    competitors = {PRETRAINED: study.encoder(PRETRAINED)}
    competitors |= {name: study.encoder(name) for name in texts(options.against)}  # fails before the slow part
    for line in study.labelled.check():
        say(line)
    say(f"{len(study.labelled.classes)} classes; {study.labelled.said} images")
    sizes, skipped = study.sizes(options)
    if not sizes:
        raise UserError(f"nothing to draw: {'; '.join(skipped)}. Give smaller numbers, {ALL}, or --fractions")
    for text in skipped:
        say(text)
    cells = list(_cells(options, sizes, list(competitors)))
    out.mkdir(parents=True, exist_ok=True)
    records = Records(out / RECORDS, study.fingerprint(competitors))
    todo = [cell for cell in cells if cell not in records.found]
    if len(todo) < len(cells):
        console.print(f"{len(cells) - len(todo)} of {len(cells)} trainings were done before and are not repeated.")
    try:
        _work(study, todo, options, records, console)
    except (KeyboardInterrupt, Interrupted) as error:
        signum = 2 if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
        kept = f"stopped; {len(records.found)} of {len(cells)} trainings are kept in {out}, the same command goes on"
        raise Interrupted(kept, signum) from error
    curve = _curve(study, skipped, records)
    _write(curve, out, options)
    console.print(curve.sentence(), soft_wrap=True)
    console.print(f"Written: {out / RESULT}, {out / IMAGE}", soft_wrap=True)
    return curve


def _cells(options: Labels, sizes: list[str], encoders: list[str]) -> Iterator[Cell]:
    for protocol in texts(options.protocols):
        rivals = [SCRATCH] if protocol == "full" else [RANDOM]
        for size in sizes:
            for draw in range(1 if size == ALL else options.draws):
                for competitor in [encoders[0], *rivals, *encoders[1:]]:
                    yield Cell(protocol, competitor, size, draw)


def _work(study: Study, todo: list[Cell], options: Labels, records: Records, console: Console) -> None:
    frozen = [cell for cell in todo if cell.protocol in ("knn", "linear")]
    trained = [cell for cell in todo if cell not in frozen]
    weights = {cell: 1.0 if cell in frozen else 40.0 + _seen(study, cell) / 100 for cell in todo}
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("label curve", total=sum(weights.values()))

        def done(cell: Cell, accuracy: float) -> None:
            records.add(cell, accuracy)
            bar.advance(task, weights[cell])
            if not console.is_terminal:
                share = f"{len(records.found)} done"
                text = (
                    f"{cell.protocol} {cell.competitor}, {cell.size} labels, draw {cell.draw}: {accuracy:.1%}; {share}"
                )
                console.print(text, soft_wrap=True)

        for cell in frozen:
            done(cell, study.accuracy(cell))
        jobs = min(_jobs(options, study), max(1, len(trained)))
        if jobs == 1:
            for cell in trained:
                done(cell, study.accuracy(cell))
        else:
            _side_by_side(study.setting, trained, jobs, done)


def _side_by_side(setting: Setting, cells: list[Cell], jobs: int, done: Callable[[Cell, float], None]) -> None:
    """In processes; the longest first, so that no core idles at the end."""
    threads = max(1, machine("cpu", "32").cores // jobs)
    shared = Setting(**(asdict(setting) | {"on": setting.on, "threads": threads}))
    order = sorted(cells, key=lambda c: (c.size != ALL, -_number(c.size), c.competitor != SCRATCH))
    work = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs")
    results: Any = work(delayed(_elsewhere)(shared, cell) for cell in order)
    for cell, accuracy in results:
        done(cell, accuracy)


def _elsewhere(setting: Setting, cell: Cell) -> tuple[Cell, float]:
    torch.set_num_threads(setting.threads)
    return cell, _study(setting).accuracy(cell)


@lru_cache(maxsize=1)
def _study(setting: Setting) -> Study:
    return Study(setting)


def _jobs(options: Labels, study: Study) -> int:
    here = machine(study.setting.device, study.setting.precision)
    if options.jobs is not None:
        return options.jobs
    if here.device != "cpu":
        return 1
    cores = min(here.cores, int(os.environ.get("OMP_NUM_THREADS", here.cores)))
    held = sum(image.nbytes for image in study.labelled.cache.values())
    return max(1, min(cores, here.memory // (PER_JOB + held)))


def _seen(study: Study, cell: Cell) -> float:
    """Images that a training looks at, about."""
    rows = len(study.labels) if cell.size == ALL else len(study.rows(cell.size, cell.draw))
    return rows * min(150.0, 20 * (2000 / rows) ** 0.5) * (2 if cell.competitor == SCRATCH else 1)


def _curve(study: Study, skipped: list[str], records: Records) -> Curve:
    """Of everything that was ever finished in this folder, so that a curve can grow."""
    counts = {split: len(study.labelled.splits[split]) for split in ("train", "test")}
    groups: dict[tuple[str, str, str], list[float]] = {}
    for cell in sorted(records.found, key=_order):
        groups.setdefault((cell.protocol, cell.competitor, cell.size), []).append(records.found[cell])
    points = []
    for (protocol, competitor, size), draws in groups.items():
        per_class = len(study.rows(size, 0)) / len(study.labelled.classes)
        points.append(make_point(protocol, competitor, size, per_class, draws, counts["test"]))
    found = worths(points, counts["test"], study.setting.seed)
    return Curve(points, found, study.labelled.classes, counts, skipped)


def _write(curve: Curve, out: Path, options: Labels) -> None:
    content = curve.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "draws": options.draws}
    write_json(out / RESULT, content | {"seed": options.seed})
    draw_curve(curve, out / IMAGE)
    if (out / CONFIG).exists():
        write_report(out)


def _order(cell: Cell) -> tuple:
    """Whatever was finished first: protocols as listed, the run before its rivals, few labels before many."""
    last = cell.size == ALL
    return (
        PROTOCOLS.index(cell.protocol),
        cell.competitor != PRETRAINED,
        cell.competitor,
        last,
        _number(cell.size),
        cell.draw,
    )


def _number(size: str) -> float:
    return 0.0 if size == ALL else float(size.rstrip(" %"))


@verb(Labels)
def labels(options: Labels) -> "Curve":
    """Trains and judges every competitor on the same draws; writes labels.json and .png and the report. Finished
    trainings are kept: the same command goes on where it was interrupted.

    Raises UserError for what is no run and no timm name, DataError for data that cannot be used.
    """
    return labelling(options)
