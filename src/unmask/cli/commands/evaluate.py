"""The command `evaluate`, step by step: open the encoder and its rivals, read the labelled images, compare, draw."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from unmask.cli.continue_run import own
from unmask.cli.options.evaluate import Evaluate
from unmask.cli.outputs import results_folder, say_replaced
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.classification import Labelled
from unmask.errors import UserError
from unmask.evaluation.best_features import best_features
from unmask.evaluation.compare import judge
from unmask.evaluation.features import Features, searched, split_features, split_pixels
from unmask.evaluation.verdict import PIXELS, PRETRAINED, RANDOM, Verdict, draw_verdict, rows, table
from unmask.files import write_json
from unmask.models.encoder import Encoder
from unmask.models.state import at_random, weights_hash
from unmask.plain import numbers, texts
from unmask.runs.run import CONFIG
from unmask.runtime.machine import Machine, autocast_dtype, machine, tune
from unmask.runtime.progress import doing, make_console, make_say, progress, stage
from unmask.tasks.open import load_encoder
from unmask.tasks.pages import write_report

__all__ = ["evaluate"]
RESULT, IMAGE = "evaluation.json", "evaluation.png"


@verb(Evaluate)
def evaluate(options: Evaluate) -> Verdict:
    """Evaluates frozen features with kNN and a linear classifier; writes evaluation.json and .png and the report.

    Raises UserError for a path that is neither a run nor a timm name, DataError for images without labels.
    """
    console, here = make_console(), machine(options.device)
    tune(here.device)
    out = results_folder(options.run, options.out)
    own(out, "evaluate", texts(options.on), within=True)
    say_replaced([out / RESULT, out / IMAGE], console)
    doing("opening the encoder")
    encoder = load_encoder(options.run, **reading_of(options))
    rivals = {name: load_encoder(name) for name in texts(options.against)}
    labelled = read_labelled(options, encoder, console)
    with stage(console, "judging") as say_stage:
        verdict = judge(
            competitors(options, encoder, rivals, labelled, here),
            classes=labelled.classes,
            evaluators=texts(options.evaluators),
            labels_per_class=numbers(options.labels_per_class),
            draws=options.draws,
            seed=options.seed,
            progress=say_stage,
        )
    doing("drawing the results")
    write_results(verdict, out, options, weights_hash(encoder))
    console.print(table(verdict))
    console.print(verdict.sentence(), soft_wrap=True)
    console.print(f"Written: {out / RESULT}, {out / IMAGE}", soft_wrap=True)
    return verdict


def read_labelled(options: Evaluate, encoder: Encoder, console: Console) -> Labelled:
    """The labelled data with one label per image; UserError for several labels."""
    with progress(console, "looking at the labelled images") as update:
        labelled = Labelled(
            texts(options.on),
            max_side=decode_side(encoder.grid.size),
            batch=options.batch,
            most=options.most,
            seed=options.seed,
            say=make_say(console),
            progress=update,
        )
    if labelled.multi_label:
        raise UserError(
            f"{', '.join(texts(options.on))} has several labels per image; kNN and logistic regression judge one."
            " Use: unmask transfer RUN --to classify --protocol linear"
        )
    for line in labelled.sheet.unlike(*encoder.statistics):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"{len(labelled.classes)} classes; {labelled.said} images")
    return labelled


def competitors(
    options: Evaluate, encoder: Encoder, rivals: dict[str, Encoder], labelled: Labelled, here: Machine
) -> dict[str, Callable[[str], Features]]:
    """Functions from a split to features: the encoder, itself at random, raw pixels, and the rivals."""
    autocast = autocast_dtype(here.precision)

    def of(who: Encoder) -> Callable[[str], Features]:
        def features(split: str) -> Features:
            return split_features(labelled, who.to(here.device).eval(), split, here.device, autocast, searched(who))

        return features

    subject = PRETRAINED if (Path(options.run) / CONFIG).exists() else str(options.run)
    result: dict[str, Callable[[str], Features]] = {subject: of(encoder)}
    result[RANDOM] = of(at_random(encoder, options.seed))
    result[PIXELS] = partial(split_pixels, labelled, channels=encoder.channels, size=encoder.grid.size)
    return result | {name: of(rival) for name, rival in rivals.items()}


def write_results(verdict: Verdict, out: Path, options: Evaluate, weights: str) -> None:
    """evaluation.json, with the best features of these weights, and .png; the report, where `out` is a run's folder."""
    out.mkdir(parents=True, exist_ok=True)
    heading, lines = rows(verdict)
    content = verdict.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "table": [heading, *lines]}
    content |= {"weights": weights, "features": best_features(content["scores"], verdict.competitors[0])}
    write_json(out / RESULT, content)
    draw_verdict(verdict, out / IMAGE)
    if (out / CONFIG).exists():
        write_report(out)
