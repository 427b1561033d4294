"""The command `labels`: open data and competitors, run unfinished trainings, assemble the curve."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from unmask.cli.continue_run import own
from unmask.cli.options.labels import Labels
from unmask.cli.outputs import results_folder, say_replaced
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.errors import Interrupted
from unmask.files import write_json
from unmask.plain import numbers, texts
from unmask.runs.run import CONFIG
from unmask.runtime.machine import machine
from unmask.runtime.progress import doing, make_console
from unmask.studies.engine import run_pieces
from unmask.studies.label_curve.classification import ClassificationStudy, Setting
from unmask.studies.label_curve.curve import Curve, draw_curve
from unmask.studies.label_curve.kinds import find_study
from unmask.studies.label_curve.segmentation import SegmentSetting
from unmask.studies.label_curve.study import Design, Study, records_in, scores_of
from unmask.tasks.open import load_encoder
from unmask.tasks.pages import write_report

__all__ = ["labels"]

RESULT, IMAGE, RECORDS = "labels.json", "labels.png", "labels.jsonl"


@verb(Labels)
def labels(options: Labels) -> Curve:
    """Trains and evaluates every competitor on the same draws; writes labels.json and .png and the report. Finished
    trainings are kept: the same command resumes where it was interrupted.

    Raises UserError for a path that is neither a run nor a timm name, DataError for data that cannot be used.
    """
    console, out = make_console(), results_folder(options.run, options.out)
    own(out, "labels", texts(options.on), within=True)
    say: Callable[[str], None] = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
    say_replaced([out / RESULT, out / IMAGE], console)
    study = _segmentation(options, console) if options.to == "segment" else _classification(options, say)
    say(f"{len(study.classes)} classes; {study.said}")
    against = texts(options.against)
    sizes = options.labels_per_class
    sizes = (sizes,) if isinstance(sizes, int | str) else sizes
    design = Design(texts(options.protocols), sizes, numbers(options.fractions), options.draws, against)
    cells = study.cells(design)
    for text in study.skipped:
        say(text)
    out.mkdir(parents=True, exist_ok=True)
    records = records_in(out / RECORDS, study.fingerprint())
    try:
        run_pieces(
            study.work(),
            study.waves(cells),
            records,
            console,
            lambda line: f"{study.score} {line['accuracy']:.1%}",
            words="trainings of the label curve",
            lines=False,
        )
    except (KeyboardInterrupt, Interrupted) as error:
        signum = 2 if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
        kept = f"stopped; {len(records.lines)} of {len(cells)} trainings are kept in {out}, the same command goes on"
        raise Interrupted(kept, signum) from error
    curve = study.curve(scores_of(records))
    doing("drawing the curve")
    _write(curve, out, options)
    say(curve.sentence())
    say(f"Written: {out / RESULT}, {out / IMAGE}")
    return curve


def _classification(options: Labels, say: Callable[[str], None]) -> Study:
    hardware = machine(options.device, options.precision)
    setting = Setting(
        run=str(options.run),
        reading=tuple(reading_of(options).items()),
        on=texts(options.on),
        most=options.most,
        most_test=options.most_test,
        seed=options.seed,
        device=hardware.device,
        precision=hardware.precision,
        epochs=options.epochs,
    )
    study = ClassificationStudy(setting, options.jobs, say)
    for line in study.data.check():
        say(line)
    return study


def _segmentation(options: Labels, console: Console) -> Study:
    setting = SegmentSetting(
        run=str(options.run),
        reading=tuple(reading_of(options).items()),
        on=texts(options.on),
        images=None if options.images is None else Path(options.images),
        classes=None if options.classes is None else Path(options.classes),
        void=None if options.void is None else texts(options.void),
        max_bad=options.max_bad,
        crop_size=None if options.crop_size is None else numbers(options.crop_size),
        side=options.side,
        most=options.most,
        head=options.head,
        epochs=options.epochs,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
    )
    encoder = load_encoder(setting.run, **dict(setting.reading))
    return find_study(encoder.modality)(setting, encoder, console)


def _write(curve: Curve, out: Path, options: Labels) -> None:
    content = curve.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "draws": options.draws}
    task = {"to": "segment"} if options.to == "segment" else {}
    write_json(out / RESULT, content | {"seed": options.seed} | task)
    draw_curve(curve, out / IMAGE)
    if (out / CONFIG).exists():
        write_report(out)
