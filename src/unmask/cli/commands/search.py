"""The command `search`: open the encoder, index the images, find the nearest, find copies, write and draw."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.cli.continue_run import own
from unmask.cli.options.search import Search
from unmask.cli.outputs import below, choose_place, require_folder, say_replaced
from unmask.cli.subject import Subject, open_subject
from unmask.cli.verb import verb
from unmask.data.source import Source, open_source
from unmask.errors import DataError, UserError
from unmask.evaluation.best_features import AUTO, PLAIN, is_whitened
from unmask.evaluation.features import ATTENTIVE, Whitening
from unmask.files import write_json, write_table
from unmask.models.encoder import Encoder
from unmask.models.state import at_random
from unmask.plain import texts
from unmask.runs.text import POOLING
from unmask.runtime.progress import doing, make_console, make_say, progress
from unmask.tasks.retrieval.across import LEARN, Across, Recall, recalls
from unmask.tasks.retrieval.duplicates import FILES, Copies, find_copies, write_copies
from unmask.tasks.retrieval.gallery import Cell, Line, draw_gallery, opened, write_page
from unmask.tasks.retrieval.index import Index, encode, index_folder, open_index_with_bar
from unmask.tasks.retrieval.neighbours import Scale, unit
from unmask.tasks.retrieval.queries import (
    SHOWN,
    Hit,
    Query,
    find_hits,
    precision_by_label,
    precision_in_words,
    read_queries,
)
from unmask.tasks.retrieval.words import find_words, open_words, told_apart

__all__ = ["search"]

RESULTS, PNG, PAGE = "results.csv", "gallery.png", "gallery.html"
RECALL = "recall.json"
SAID = 5  # queries on the screen


@dataclass(frozen=True)
class SearchResults:
    """What `unmask.search` returns."""

    out: Path
    hits: list[Hit]
    copies: Copies | None
    precision: dict[str, dict[int, float]]  # competitor -> k -> share of the k nearest others with the same label
    computed: int  # images whose features were not in the index yet
    recalls: list[Recall]  # of encoders that were aligned with images, where --recall asks for it


@verb(Search)
def search(options: Search) -> SearchResults:
    """Writes the results into OUT and returns them. Bad images are named and left out, unless none is good.

    Features are kept in an index folder and computed only for images that are new to it. Raises UserError for a
    pooling that the encoder does not have, DataError where no image can be used.
    """
    console, out = make_console(), require_folder(choose_place(options.run, options.out, "search"))
    own(out, "search", texts(options.data))
    say, name = make_say(console), Path(options.run).name
    words, images = told_apart(texts(options.query))
    text = open_words(options.run, words, say) if words else None
    across = _across(options)
    subject = open_subject(options.run, _by_mean(options) if words or across else options, "knn", console)
    encoder, device = subject.encoder, subject.device
    for line in across.unseen(images) if across else ():
        say(line)
    queries = read_queries(images, encoder, say, across and across.query) if images else []
    source = open_source(texts(options.data), across.data if across else encoder.modality)
    shared = below(options.run) / "search" if options.out is None else out
    kept = "-".join([subject.pooling, *(across.searched if across else [])])
    folder = index_folder(options.index, options.run, shared, texts(options.data), kept)
    index = subject.index(folder, source)
    new = f"{index.computed:,} computed, the others were known" if index.computed else "all were known"
    say(f"{source.modality.many(len(index.numbers))} in the index ({new}): {folder}")
    written = [*([RESULTS, PNG, PAGE] if options.query else []), *(FILES if options.duplicates else [])]
    written += [RECALL] if options.recall else []
    say_replaced([out / file for file in written], console)
    out.mkdir(parents=True, exist_ok=True)

    hits: list[Hit] = []
    precision: dict[str, dict[int, float]] = {}
    if options.query:
        doing("searching")
        facts, drawn = [], []
        if text is not None:
            drawn, hits = find_words(words, text, index, source, options.top, device)
            facts.append(f"By words, with what {name} learnt from captions, cosine.")
        if queries:
            image_hits, fact = _hits_of_images(options, queries, across, subject, index, source)
            hits += image_hits
            facts.append(fact)
        precision = precision_by_label(index, _rival(options, subject, index, source, folder), source, name, device)
        sentences = precision_in_words(precision, source.modality.word)
        doing("drawing the nearest images")
        _write(out, [*drawn, *queries], hits, index, source, [*facts, *sentences])
        for line in [*_best_in_words(hits), *sentences, f"Written: {out / RESULTS}, {out / PNG}, {out / PAGE}"]:
            say(line)

    judged = _recalls(options, across, index, subject, out) if across and options.recall else []
    for recall in judged:
        say(recall.sentence())
    copies = None
    if options.duplicates:
        with progress(console, "comparing all with all") as update:
            copies = find_copies(index, source, options.by, options.threshold, device, update)
        doing("drawing copies")
        for sentence in write_copies(copies, index, source, out):
            say(sentence)
    return SearchResults(out, hits, copies, precision, index.computed, judged)


def _across(options: Search) -> Across | None:
    """What is searched by what, of a run that was aligned with images; None for others, and where only copies are
    sought. Raises UserError for options that are for such runs."""
    if not (options.query or options.recall or options.among):
        return None
    across = Across.of(Path(options.run), texts(options.among))
    if across is None and options.recall:
        raise UserError(f"--recall is for encoders that were aligned with images, and {options.run} was not; {LEARN}")
    return across


def _hits_of_images(
    options: Search, queries: list[Query], across: Across | None, subject: Subject, index: Index, source: Source
) -> tuple[list[Hit], str]:
    """The nearest samples of queries that are no words, and by what they were found."""
    encoder, device, pooling = subject.encoder, subject.device, subject.pooling
    if across is not None:
        vectors = across.of_queries(queries, device), across.of_index(index)
        others = [dataclasses.replace(query, file=b"", pixels=b"") for query in queries]  # its own partner is no copy
        return find_hits(others, *vectors, index, source, options.top, device), across.sentence
    scale = _scale(options, encoder, index, make_say(subject.console))
    features = encode(encoder, [query.view for query in queries], pooling, options.batch, device)
    hits = find_hits(queries, scale(features), scale(index.features), index, source, options.top, device)
    standardised = "standardised " if options.standardize else ""
    return hits, f"By {standardised}{pooling} features of {Path(options.run).name}, cosine."


def _recalls(options: Search, across: Across, index: Index, subject: Subject, out: Path) -> list[Recall]:
    """Of the samples in the index that have an image too; written into OUT."""
    samples = across.samples(texts(options.data), index.numbers)
    with progress(subject.console, "comparing pairs", len(samples)) as update:
        judged = recalls(across.objective, samples, options.batch, subject.device, update)
    if not judged:
        raise DataError(
            f"recall needs two samples or more that have an image and something else, and {samples.source.where} has"
            " fewer: one alone is always found"
        )
    write_json(out / RECALL, {"recall": [recall.to_json() for recall in judged]})
    return judged


def _rival(options: Search, subject: Subject, index: Index, source: Source, folder: Path) -> Index | None:
    """The same images by the same encoder with random weights, where that is wanted and can be compared."""
    if not options.compare:
        return None
    beside, random = folder.with_name(folder.name + "-random"), at_random(subject.encoder, 0).to(subject.device)
    plain = PLAIN if subject.pooling == ATTENTIVE else subject.pooling  # what was learnt for other weights: no meaning
    rival = open_index_with_bar(beside, random, source, plain, options.batch, subject.device, subject.console)
    return rival if rival.numbers == index.numbers else None


def _by_mean(options: Search) -> Search:
    """The same with the features that words and other kinds of data are compared with. Raises UserError where others
    are asked for."""
    if options.pooling not in (AUTO, POOLING):
        what = f"words and other kinds of data are compared with the features {POOLING}"
        raise UserError(f"--pooling {options.pooling}: {what}; leave it out")
    return dataclasses.replace(options, pooling=POOLING)


def _scale(
    options: Search, encoder: Encoder, index: Index, say: Callable[[str], object]
) -> Callable[[np.ndarray], np.ndarray]:
    """How features are brought to vectors of length 1."""
    if options.standardize and options.pooling == AUTO and is_whitened(options.run, encoder):
        white = Whitening(index.features)
        say("Features are whitened: evaluate found that better for neighbours")
        return lambda x: unit(white(x))
    return Scale(index.features) if options.standardize else unit


def _best_in_words(hits: list[Hit]) -> list[str]:
    """A line for each of the first queries."""
    lines = []
    for query in list(dict.fromkeys(hit.query for hit in hits))[:SAID]:
        best = [hit for hit in hits if hit.query == query][:3]
        inside = next((f" ({hit.same} in the data: {hit.path})" for hit in best if hit.same), "")
        lines.append(
            f"{query}{inside}: {', '.join(f'{hit.path} {hit.similarity:.3f}' for hit in best if not hit.same)}"
        )
    return lines


def _write(out: Path, queries: list[Query], hits: list[Hit], index: Index, source: Source, facts: list[str]) -> None:
    heading = ["query", "rank", "path", "similarity", "same", "label", "split"]
    rows = [(h.query, h.rank, h.path, f"{h.similarity:.6f}", h.same, h.label, h.split) for h in hits]
    write_table(out / RESULTS, heading, rows)
    lines = []
    for query in queries:
        own = [hit for hit in hits if hit.query == query.name]
        inside = own[0].same if own else ""
        cells = [Cell(opened(query.thumb), ("query",), f"{inside} in the data" if inside else "")]
        lines.append(Line(query.name, cells + [_cell(hit, index, source) for hit in own]))
    draw_gallery(lines, out / PNG, " ".join(facts))
    write_page(lines, out / PAGE, f"Nearest {source.modality.word}s", facts)


def _cell(hit: Hit, index: Index, source: Source) -> Cell:
    words = [
        hit.path,
        f"{hit.rank}. similarity {hit.similarity:.3f}",
        " · ".join(text for text in (hit.label, hit.split) if text),
    ]
    image = index.larger(hit.row, source, SHOWN)
    return Cell(opened(image), tuple(text for text in words if text), hit.same)
