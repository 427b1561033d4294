"""The command `evaluate`, step by step: open the encoder and its rivals, read the labelled images, compare, draw."""

import json
from collections.abc import Callable, Sequence
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
from unmask.evaluation.attentive import Probed, attentive_probe, rows_that_fit
from unmask.evaluation.best_features import LEARNT, RESULT, best_features, best_in_words
from unmask.evaluation.compare import judge
from unmask.evaluation.features import ATTENTIVE, Features, searched, split_features, split_pixels
from unmask.evaluation.intervals import wilson
from unmask.evaluation.verdict import PIXELS, PRETRAINED, RANDOM, Verdict, draw_verdict, rows, table
from unmask.files import Json, write_json
from unmask.models.encoder import Encoder
from unmask.models.state import at_random, weights_hash
from unmask.plain import numbers, texts
from unmask.runs.run import CONFIG
from unmask.runs.text import has_text, open_text
from unmask.runtime.machine import Machine, autocast_dtype, machine, memory_here, tune
from unmask.runtime.progress import doing, make_console, make_say, progress, stage
from unmask.tasks.classification.frozen import keep_learnt
from unmask.tasks.classification.zero_shot import ZeroShotScore, zero_shot
from unmask.tasks.open import load_encoder
from unmask.tasks.pages import write_report
from unmask.tasks.retrieval.across import Recall, open_aligned, recalls

__all__ = ["evaluate"]
IMAGE = "evaluation.png"
TOKENS = 4  # of the free memory, the part that tokens of the attentive probe may take: a fourth


@verb(Evaluate)
def evaluate(options: Evaluate) -> Verdict:
    """Evaluates frozen features with kNN and a linear classifier; writes evaluation.json and .png and the report, and
    evaluation.safetensors: the best classifier on frozen features, for `predict`, and the attentive pooling.

    Raises UserError for a path that is neither a run nor a timm name, DataError for images without labels.
    """
    console, here = make_console(), machine(options.device)
    tune(here.device)
    out = results_folder(options.run, options.out)
    own(out, "evaluate", texts(options.on), within=True)
    say_replaced([out / RESULT, out / IMAGE, out / LEARNT], console)
    doing("opening the encoder")
    encoder = load_encoder(options.run, **reading_of(options))
    rivals = {name: load_encoder(name) for name in texts(options.against)}
    labelled = read_labelled(options, encoder, console)
    features = competitors(options, encoder, rivals, labelled, here)
    subject = next(iter(features))
    kept: dict[str, Features] = {}  # of the subject, by split
    with stage(console, "judging") as say_stage:
        verdict = judge(
            features | {subject: partial(_kept, features[subject], kept)},
            classes=labelled.classes,
            evaluators=[name for name in texts(options.evaluators) if name != ATTENTIVE],
            labels_per_class=numbers(options.labels_per_class),
            draws=options.draws,
            seed=options.seed,
            progress=say_stage,
            word=labelled.source.modality.word,
        )
        probed = None
        if ATTENTIVE in options.evaluators:
            say_stage(f"{subject}: {ATTENTIVE}")
            probed = _probe(options, encoder, labelled, here)
    doing("drawing the results")
    by_words = _by_words(options, kept["test"], labelled, make_say(console))
    judged = _across(options, labelled, here, make_say(console))
    best = write_results(verdict, out, options, weights_hash(encoder), probed, by_words, judged)
    facts = {"weights": weights_hash(encoder), "on": json.dumps(list(texts(options.on)), ensure_ascii=False)}
    facts |= {"clips": str(clips_of(options, encoder, labelled))}
    keep_learnt(out, best, probed, kept["train"], facts, labelled.classes)
    console.print(table(verdict, _words_row(by_words, verdict)))
    for sentence in (verdict.sentence(), *([by_words.sentence()] if by_words else []), *(r.sentence() for r in judged)):
        console.print(sentence, soft_wrap=True)
    console.print(best_in_words(best), soft_wrap=True)
    console.print(f"Written: {out / RESULT}, {out / IMAGE}, {out / LEARNT}", soft_wrap=True)
    return verdict


def _kept(features_of: Callable[[str], Features], kept: dict[str, Features], split: str) -> Features:
    """The features of a split, which are put into `kept` too."""
    kept[split] = features_of(split)
    return kept[split]


def _by_words(
    options: Evaluate, test: Features, labelled: Labelled, say: Callable[[str], object]
) -> ZeroShotScore | None:
    """The accuracy by the names of the classes alone; None for a run that knows no words."""
    if not has_text(Path(options.run)):
        return None
    try:
        return zero_shot(open_text(Path(options.run)), test, labelled.classes, texts(options.templates))
    except UserError as error:  # classes that are no words are no reason to judge nothing
        say(f"Not judged by words: {error}")
        return None


def _across(options: Evaluate, labelled: Labelled, here: Machine, say: Callable[[str], object]) -> list[Recall]:
    """How well images of the test split find their other parts, and the other way round; none for a run that was not
    aligned with images."""
    try:
        objective = open_aligned(Path(options.run))
    except UserError as error:  # the frozen encoder of images is gone, which is no reason to judge nothing
        say(f"Not judged by pairs: {error}")
        return []
    if objective is None:
        return []
    samples = labelled.samples("test", objective.encoder.channels)
    return recalls(objective, samples, options.batch, here.device)


def _words_row(by_words: ZeroShotScore | None, verdict: Verdict) -> list[list[str]]:
    """The row of a table, or none."""
    return [] if by_words is None else [by_words.row(verdict.competitors[0], len(rows(verdict)[0]))]


def _probe(options: Evaluate, encoder: Encoder, labelled: Labelled, here: Machine) -> Probed:
    """The attentive probe of the encoder, on as many training images as there is memory for."""
    rows = rows_that_fit(encoder, len(labelled.splits["train"]), memory_here() // TOKENS, options.seed)
    autocast = autocast_dtype(here.precision)
    return attentive_probe(encoder.to(here.device), labelled, here.device, autocast, options.seed, rows=rows)


def read_labelled(options: Evaluate, encoder: Encoder, console: Console) -> Labelled:
    """The labelled data with one label per image; UserError for several labels."""
    with progress(console, "looking at the labelled data") as update:
        labelled = Labelled(
            texts(options.on),
            max_side=decode_side(encoder.grid.size),
            batch=options.batch,
            most=options.most,
            seed=options.seed,
            say=make_say(console),
            progress=update,
            modality=encoder.modality,
        )
    if labelled.multi_label:
        raise UserError(
            f"{', '.join(texts(options.on))} has several labels per image; kNN and logistic regression judge one."
            " Use: unmask transfer RUN --to classify --protocol linear"
        )
    for line in labelled.sheet.unlike(*encoder.statistics):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"{len(labelled.classes)} classes; {labelled.said} {labelled.source.modality.word}s")
    return labelled


def competitors(
    options: Evaluate, encoder: Encoder, rivals: dict[str, Encoder], labelled: Labelled, here: Machine
) -> dict[str, Callable[[str], Features]]:
    """Functions from a split to features: the encoder, itself at random, raw pixels, and the rivals."""
    autocast, clips = autocast_dtype(here.precision), clips_of(options, encoder, labelled)

    def of(who: Encoder) -> Callable[[str], Features]:
        def features(split: str) -> Features:
            return split_features(
                labelled, who.to(here.device).eval(), split, here.device, autocast, searched(who), clips
            )

        return features

    subject = PRETRAINED if (Path(options.run) / CONFIG).exists() else str(options.run)
    result: dict[str, Callable[[str], Features]] = {subject: of(encoder)}
    result[RANDOM] = of(at_random(encoder, options.seed))
    result[PIXELS] = partial(split_pixels, labelled, channels=encoder.channels, size=encoder.grid.size)
    return result | {name: of(rival) for name, rival in rivals.items()}


def clips_of(options: Evaluate, encoder: Encoder, labelled: Labelled) -> int:
    """Of each sample. Raises UserError where several are asked for of what has one view."""
    modality, size = labelled.source.modality, encoder.grid.size
    choice = modality.num_views(labelled.sheet, size)
    if choice is None and options.clips not in (None, 1):
        modality.views_at_test(size, options.clips)  # raises
    return options.clips or (1 if choice is None else int(choice.value))


def write_results(
    verdict: Verdict,
    out: Path,
    options: Evaluate,
    weights: str,
    probed: Probed | None = None,
    by_words: ZeroShotScore | None = None,
    judged: Sequence[Recall] = (),
) -> dict[str, Json]:
    """evaluation.json, with the best features of these weights, and .png; the report, where `out` is a run's folder.
    Returns what was best."""
    out.mkdir(parents=True, exist_ok=True)
    heading, lines = rows(verdict)
    lines += _words_row(by_words, verdict)
    content = verdict.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "table": [heading, *lines]}
    best = best_features(content["scores"], verdict.competitors[0], probed)
    content |= {"weights": weights, "features": best, "best_features": best_in_words(best)}
    if probed is not None:
        right, count = int(probed.correct.sum()), len(probed.correct)
        low, high = wilson(right, count)
        content["attentive"] = {
            "setting": probed.setting,
            "learnt_from": len(probed.train.labels),
            "val_accuracy": probed.val_accuracy,
            "accuracy": right / count,
            "low": low,
            "high": high,
        }
    if by_words is not None:
        content["zero_shot"] = by_words.to_json()
        content["sentence"] += " " + by_words.sentence()
    if judged:
        content["recall"] = [recall.to_json() for recall in judged]
    write_json(out / RESULT, content)
    draw_verdict(verdict, out / IMAGE)
    if (out / CONFIG).exists():
        write_report(out)
    return best
