"""The verb `evaluate`, step by step: open the encoder and its rivals, read the labelled images, judge, draw, say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from unmask.cli.continue_run import results_folder
from unmask.cli.options.evaluate import Evaluate
from unmask.cli.verb import verb
from unmask.data.datasets.classification import Labelled
from unmask.errors import UserError
from unmask.evaluation.compare import judge
from unmask.evaluation.features import Features
from unmask.evaluation.verdict import Verdict, draw_verdict, rows, table
from unmask.files import write_json
from unmask.models.encoder import Encoder
from unmask.models.state import at_random
from unmask.plain import numbers, texts
from unmask.runs.run import CONFIG
from unmask.runtime.machine import autocast_dtype, machine, tune
from unmask.tasks.open import load_encoder
from unmask.tasks.pages import write_report
from unmask.training.log import make_console

__all__ = ["evaluate"]
if TYPE_CHECKING:
    from unmask.evaluation.verdict import Verdict


RESULT, IMAGE = "evaluation.json", "evaluation.png"


def evaluating(options: Evaluate) -> Verdict:
    """See `unmask.cli.commands.evaluate.evaluate`."""
    console, here = make_console(), machine(options.device)
    tune(here.device)
    out = results_folder(options.run, options.out)
    encoder = load_encoder(options.run)
    rivals = {name: load_encoder(name) for name in texts(options.against)}
    labelled = read_labelled(options, encoder, console)
    if labelled.multi_label:
        raise UserError(
            f"{', '.join(texts(options.on))} has several labels per image; kNN and logistic regression judge one."
            " Use: unmask transfer RUN --to classify --protocol linear"
        )
    autocast = autocast_dtype(here.precision)
    console.print(f"{len(labelled.classes)} classes; {labelled.said} images")

    def of(who: Encoder) -> Callable[[str], Features]:
        return lambda split: labelled.features(who.to(here.device).eval(), split, here.device, autocast)

    subject = "pretrained" if (Path(options.run) / CONFIG).exists() else str(options.run)
    competitors = {subject: of(encoder), "random init": of(at_random(encoder, options.seed))}
    competitors["raw pixels"] = partial(labelled.pixels, channels=encoder.channels, size=encoder.grid.size)
    competitors |= {name: of(rival) for name, rival in rivals.items()}
    settings = {"labels_per_class": numbers(options.labels_per_class), "draws": options.draws, "seed": options.seed}
    with console.status("judging") as status:
        verdict = judge(competitors, classes=labelled.classes, **settings, progress=status.update)
    _write(verdict, out, options)
    console.print(table(verdict))
    console.print(verdict.sentence(), soft_wrap=True)
    console.print(f"Written: {out / RESULT}, {out / IMAGE}", soft_wrap=True)
    return verdict


def read_labelled(options: Evaluate, encoder: Encoder, console: Console) -> Labelled:
    """The labelled data, with a progress bar while it is looked at."""
    say: Callable[[str], Any] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the labelled images", total=None)
        return Labelled(
            texts(options.on),
            max_side=4 * max(encoder.grid.size),
            batch=options.batch,
            most=options.most,
            seed=options.seed,
            say=say,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _write(verdict: Verdict, out: Path, options: Evaluate) -> None:
    out.mkdir(parents=True, exist_ok=True)
    heading, lines = rows(verdict)
    content = verdict.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "table": [heading, *lines]}
    write_json(out / RESULT, content)
    draw_verdict(verdict, out / IMAGE)
    if (out / CONFIG).exists():
        write_report(out)


@verb(Evaluate)
def evaluate(options: Evaluate) -> "Verdict":
    """Judges with kNN and a linear classifier on frozen features; writes evaluation.json and .png and the report.

    Raises UserError for what is no run and no timm name, DataError for images without labels.
    """
    return evaluating(options)
