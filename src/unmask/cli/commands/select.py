"""The command `select`: index the images and those that are labelled, ask the classifier, pick, forecast, write."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from unmask.cli.continue_run import own
from unmask.cli.options.select import Select
from unmask.cli.outputs import below, choose_place, require_folder, say_replaced
from unmask.cli.subject import Subject, open_subject
from unmask.cli.verb import verb
from unmask.data.source import Source, open_source
from unmask.errors import DataError, many
from unmask.files import read_json
from unmask.plain import plain, texts
from unmask.runtime.progress import doing, make_console, make_say
from unmask.studies.label_curve.forecast import Forecast, forecast_linear, forecast_recorded
from unmask.studies.selection.candidates import (
    LabelledImages,
    alike_in,
    is_labelled,
    labelled_images,
    linear_probabilities,
)
from unmask.studies.selection.pick import DIVERSE, Pool, margins, pick
from unmask.studies.selection.results import FILES, Counts, Selection, describe, write_selection
from unmask.tasks.retrieval.duplicates import THRESHOLD
from unmask.tasks.retrieval.index import Index, index_folder
from unmask.tasks.retrieval.neighbours import Scale

__all__ = ["select"]


@verb(Select)
def select(options: Select) -> Selection:
    """Writes select.csv, a gallery and select.json into OUT and returns what they hold.

    Near copies are chosen once, and nothing that is labelled already. Raises DataError where nothing is left to choose
    or the labelled images are of one class, UserError for a pooling that the encoder does not have.
    """
    console, out = make_console(), require_folder(choose_place(options.run, options.out, "select"))
    own(out, "select", [*texts(options.data), *texts(options.on)])
    say = make_say(console)
    subject = open_subject(options.run, options, "linear", console, with_classifier=True)
    pool_source = open_source(texts(options.data), subject.encoder.modality)
    pool = _indexed(options, texts(options.data), pool_source, subject, out)
    labelled = None
    if options.on:
        if texts(options.on) == texts(options.data):  # opened and told of once
            index, on_source = pool, pool_source
        else:
            on_source = open_source(texts(options.on), subject.encoder.modality)
            index = _indexed(options, texts(options.on), on_source, subject, out)
        labelled = labelled_images(index, on_source)
        word = on_source.modality.word
        say(f"{many(len(labelled), f'labelled {word}')} of {many(len(labelled.names), 'class')}")
    say_replaced([out / file for file in FILES], console)
    out.mkdir(parents=True, exist_ok=True)

    doing("choosing")
    threshold = THRESHOLD if options.threshold is None else options.threshold
    own_labels, copies = is_labelled(pool, pool_source, labelled, threshold, subject.device)
    free = ~(own_labels | copies)
    if not free.any():
        raise DataError(
            f"nothing is left to choose from in {pool_source.where}: all {pool_source.modality.many(len(free))} are"
            f" labelled, or near copies of labelled ones (likeness of {threshold:g} or more; --threshold)"
        )
    classes_and_p = None if options.by == DIVERSE else _asked(subject, labelled, pool, pool_source)
    scale = Scale(pool.features if labelled is None else np.concatenate([pool.features, labelled.features]))
    vectors, labelled_vectors = scale(pool.features), scale(labelled.features if labelled else pool.features[:0])
    several = subject.classifier is not None and subject.classifier.multi_label
    lead = None if classes_and_p is None else margins(classes_and_p[1], several)
    near = np.concatenate([labelled_vectors, vectors[own_labels]])
    picks = pick(Pool(vectors, free, alike_in(pool, threshold), lead), near, options.most, options.by, options.seed)
    selection = Selection(
        out,
        options.by,
        pool_source.modality.word,
        describe(picks, pool, pool_source, vectors, (labelled, labelled_vectors) if labelled else None, classes_and_p),
        Counts(len(pool_source.items), len(pool.bad), len(labelled_vectors), int(own_labels.sum()), int(copies.sum())),
        _named(subject, options),
        _forecast(subject, labelled, len(picks), options),
    )
    doing("drawing the gallery")
    write_selection(selection, pool, pool_source, options.most, {"settings": plain(options)})
    for sentence in selection.sentences(options.most):
        say(sentence)
    say("Written: " + ", ".join(str(out / name) for name in FILES))
    return selection


def _indexed(options: Select, places: tuple[str, ...], source: Source, subject: Subject, out: Path) -> Index:
    """The index of some images; bad ones are named and left out."""
    shared = below(options.run) / "select" if options.out is None else out
    folder = index_folder(None, options.run, shared, places, subject.pooling)
    # several data sets have a folder each there
    return subject.index(folder if options.index is None else Path(options.index) / folder.name, source)


def _asked(
    subject: Subject, labelled: LabelledImages | None, pool: Index, source: Source
) -> tuple[list[str], Float[np.ndarray, "n k"]]:
    """Classes and probabilities of the pool: the classifier's, or those of a linear one on frozen features."""
    if subject.classifier is None:
        assert labelled is not None  # the options say so
        return linear_probabilities(labelled, pool.features)
    return subject.classifier.classes, subject.answers(source, pool.numbers)


def _named(subject: Subject, options: Select) -> str:
    if options.by == DIVERSE:
        return ""
    name = Path(options.run).name
    return f"the classifier {name}" if subject.classifier else f"a linear classifier on frozen features of {name}"


def _forecast(subject: Subject, labelled: LabelledImages | None, more: int, options: Select) -> Forecast:
    """What the labels will give, or why that cannot be said."""
    doing("forecasting")
    if labelled is None:
        return Forecast(0, more, reason="nothing is labelled yet")
    now, word = int((~labelled.is_test).sum()), labelled.source.modality.word
    if labelled.source.multi_label:
        return Forecast(now, now + more, reason=f"label curves are for one label per {word}, and this data has several")
    if subject.classifier is not None:
        run = Path(options.run).resolve()
        curves = [run / "labels.json", run.parent / "labels.json"]
        curve = next((content for path in curves if (content := read_json(path))), {})
        return forecast_recorded(curve, now, more, options.seed, word=word)
    return forecast_linear(*labelled.to_learn(), more, labelled.to_test(), options.seed, word=word)
