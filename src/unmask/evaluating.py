"""The verb `evaluate`, step by step: open the encoder and its rivals, read the labelled pictures, judge, draw, say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from unmask import checkpoint
from unmask.encoder import Encoder, same_again
from unmask.errors import UserError
from unmask.features import Features
from unmask.judge import draw_verdict, judge, table
from unmask.labelled import Labelled
from unmask.log import make_console
from unmask.opening import require_known
from unmask.report import write_report
from unmask.run import CONFIG, load_encoder
from unmask.runtime import autocast_dtype, machine, tune
from unmask.seeds import mix
from unmask.verb import Place, numbers, texts
from unmask.verbs.evaluate import Evaluate
from unmask.verdict import Verdict, rows

RESULT, PICTURE = "evaluation.json", "evaluation.png"


def evaluating(options: Evaluate) -> Verdict:
    """See `unmask.verbs.evaluate.evaluate`."""
    console, here = make_console(), machine(options.device)
    tune(here.device)
    out = results_folder(options.run, options.out)
    encoder = load_encoder(options.run)
    rivals = {name: load_encoder(name) for name in texts(options.against)}
    labelled = read_labelled(options, encoder, console)
    if labelled.multi_label:
        raise UserError(
            f"{', '.join(texts(options.on))} has several labels per picture; kNN and logistic regression judge one."
            " Use: unmask transfer RUN --to classify --protocol linear"
        )
    autocast = autocast_dtype(here.precision)
    console.print(f"{len(labelled.classes)} classes; {labelled.said} pictures")

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
    console.print(f"Written: {out / RESULT}, {out / PICTURE}", soft_wrap=True)
    return verdict


def read_labelled(options: Evaluate, encoder: Encoder, console: Console) -> Labelled:
    """The labelled data, with a progress bar while it is looked at."""
    say: Callable[[str], Any] = lambda text: console.print(text, soft_wrap=True)  # noqa: E731
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the labelled pictures", total=None)
        return Labelled(
            texts(options.on),
            max_side=4 * max(encoder.grid.size),
            batch=options.batch,
            most=options.most,
            seed=options.seed,
            say=say,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def at_random(encoder: Encoder, seed: int) -> Encoder:
    """The same encoder with MAE's initialisation and the same normalisation: what pretraining started from."""
    torch.manual_seed(mix(seed, 0xE7A1))
    return same_again(encoder)


def results_folder(run: Place, asked: Place | None) -> Path:
    """The run folder, or the folder asked for; a place that cannot work is refused before the work."""
    require_known(run)
    if asked is None and not (Path(run) / CONFIG).exists():
        raise UserError(f"{run} is no run folder; say with --out where the results should go")
    out = Path(asked or run)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    return out


def _write(verdict: Verdict, out: Path, options: Evaluate) -> None:
    out.mkdir(parents=True, exist_ok=True)
    heading, lines = rows(verdict)
    content = verdict.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "table": [heading, *lines]}
    checkpoint.write_json(out / RESULT, content)
    draw_verdict(verdict, out / PICTURE)
    if (out / CONFIG).exists():
        write_report(out)
