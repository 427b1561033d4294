"""The verb `search`, step by step: open the encoder, index the images, ask for the nearest, look for copies, draw."""

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from unmask.cli.options.search import Search
from unmask.cli.verb import verb
from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.scan import digest
from unmask.data.source import Source, open_source, why
from unmask.data.transforms.crops import WholeImage
from unmask.errors import DataError, UserError
from unmask.evaluation.features import check_poolings, finite, judged, pooled
from unmask.files import write_atomically
from unmask.models.encoder import Encoder
from unmask.models.state import at_random
from unmask.plain import texts
from unmask.runtime.machine import machine, tune
from unmask.tasks.open import load_encoder
from unmask.tasks.retrieval.duplicates import Copies, find_copies, write_copies
from unmask.tasks.retrieval.gallery import Cell, Line, draw_gallery, opened, write_page
from unmask.tasks.retrieval.index import Index, index_folder, look_at, say_bad
from unmask.tasks.retrieval.likeness import pixel_digest, thumbnail
from unmask.tasks.retrieval.neighbours import Scale, nearest, precision, unit
from unmask.training.log import make_console

__all__ = ["search"]


RESULTS, PNG, PAGE = "results.csv", "gallery.png", "gallery.html"
SHOWN = 224  # pixels of the longer side of an image in the page
TITLE = "Nearest images"


@dataclass(frozen=True)
class Hit:
    """One image found for a query."""

    query: str
    rank: int  # from 1
    path: str
    similarity: float  # cosine of the features, -1 to 1
    same: str  # "same file" or "same pixels" as the query; else empty
    label: str
    split: str
    place: int = field(repr=False)  # row in the index


@dataclass(frozen=True)
class Found:
    """What `unmask.search` returns."""

    out: Path
    hits: list[Hit]
    copies: Copies | None
    precision: dict[str, dict[int, float]]  # who -> k -> share of the k nearest others with the same label
    computed: int  # images whose features were not in the index yet


@dataclass(frozen=True)
class _Query:
    name: str
    file: bytes  # digests of the file and of the pixels
    pixels: bytes
    thumb: bytes
    view: torch.Tensor


def searching(options: Search) -> Found:
    """See `unmask.cli.commands.search.search`."""
    console, out, device = make_console(), Path(options.out), machine(options.device, "32").device
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    tune(device)
    encoder = load_encoder(options.run).to(device)
    check_poolings(encoder, [options.pooling])
    say: Callable[[str], Any] = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
    queries = _read_queries(options, encoder, say) if options.query else []
    source = open_source(texts(options.data))
    for remark in source.remarks:
        say(remark)
    folder = index_folder(options.index, options.run, out, texts(options.data), options.pooling)
    index = look_at(folder, encoder, source, options.pooling, options.batch, device, console)
    say_bad(index.bad, say)
    new = f"{index.computed:,} computed, the others were known" if index.computed else "all were known"
    say(f"{len(index.places):,} images in the index ({new}): {folder}")
    out.mkdir(parents=True, exist_ok=True)
    scale = Scale(index.features) if options.standardize else unit
    vectors = scale(index.features)
    hits: list[Hit] = []
    judged_by: dict[str, dict[int, float]] = {}
    if queries:
        asked = scale(_features(queries, encoder, options, device))
        hits = _hits(queries, asked, vectors, index, source, options.top, device)
        judged_by = _precision(options, encoder, source, index, folder, device, console)
        how = "standardised " if options.standardize else ""
        facts = [f"By {how}{options.pooling} features of {Path(options.run).name}, cosine.", *_sentences(judged_by)]
        _write(out, queries, hits, index, source, facts)
        _say_hits(hits, say)
        for sentence in _sentences(judged_by):
            say(sentence)
        say(f"Written: {out / RESULTS}, {out / PNG}, {out / PAGE}")
    copies = None
    if options.duplicates:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("comparing all with all", total=None)
            step = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
            copies = find_copies(index, source, options.by, options.threshold, device, step)
        for sentence in write_copies(copies, index, source, out):
            say(sentence)
    return Found(out, hits, copies, judged_by, index.computed)


def _read_queries(options: Search, encoder: Encoder, say: Callable[[str], Any]) -> list[_Query]:
    source = open_source(texts(options.query))
    size = (encoder.grid.size[0], encoder.grid.size[1])
    found, bad = [], []
    for place, item in enumerate(source.items):
        try:
            data = source.read(place)
            pixels = decode(data, max_side=4 * max(size)).pixels
            view = WholeImage(size)(to_channels(pixels, encoder.channels))
        except (BadImage, OSError) as error:
            bad.append((item.name, why(error)))
            continue
        name = "/".join(dict.fromkeys(item.name.split("/")))  # of single files the name comes twice
        found.append(_Query(name, digest(data), pixel_digest(pixels), thumbnail(pixels, SHOWN), view))
    if not found:
        raise DataError("no query can be used: " + "; ".join(f"{name}: {reason}" for name, reason in bad[:3]))
    say_bad(bad, say)
    return found


def _features(queries: list[_Query], encoder: Encoder, options: Search, device: str) -> np.ndarray:
    found = []
    with judged(encoder):
        for start in range(0, len(queries), options.batch):
            x = torch.stack([query.view.float() for query in queries[start : start + options.batch]]).to(device)
            found.append(pooled(encoder, x, [options.pooling])[options.pooling].cpu().numpy())
    return finite(np.concatenate(found), "computed")


def _hits(
    queries: list[_Query], asked: np.ndarray, vectors: np.ndarray, index: Index, source: Source, top: int, device: str
) -> list[Hit]:
    """The query itself comes first where it is in the data, then its copies, then the others by likeness."""
    similarity, places = nearest(asked, vectors, top, device)
    files, pixels = _rows_by(index.files), _rows_by(index.pixels)
    hits = []
    for number, query in enumerate(queries):
        own = dict.fromkeys(files.get(query.file, ()), "same file")
        own |= {row: "same pixels" for row in pixels.get(query.pixels, ()) if row not in own}
        scored = {row: float(vectors[row] @ asked[number]) for row in own}
        scored |= {int(row): float(score) for row, score in zip(places[number], similarity[number]) if row not in own}
        order = sorted(scored, key=lambda row: (["same file", "same pixels", ""].index(own.get(row, "")), -scored[row]))
        for rank, row in enumerate(order[:top], 1):
            item = source.items[index.places[row]]
            facts = (item.name, scored[row], own.get(row, ""), item.label or "", item.split or "")
            hits.append(Hit(query.name, rank, *facts, row))
    return hits


def _rows_by(digests: Sequence[bytes]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for row, key in enumerate(digests):
        found.setdefault(key, []).append(row)
    return found


def _precision(
    options: Search,
    encoder: Encoder,
    source: Source,
    index: Index,
    folder: Path,
    device: str,
    console: Console,
) -> dict[str, dict[int, float]]:
    """Leave-one-out precision by label, where two images or more share one; beside raw pixels and chance."""
    labels = [None if source.multi_label else source.items[place].label for place in index.places]
    rows = np.array([row for row, label in enumerate(labels) if label is not None], int)
    counts = Counter(labels[row] for row in rows)
    if len(counts) < 2 or max(counts.values()) < 2:
        return {}
    names = {label: number for number, label in enumerate(counts)}
    numbers = np.array([names[labels[row]] for row in rows])
    name = Path(options.run).name
    who = {name: unit(index.features), f"{name} standardised": Scale(index.features)(index.features)}
    if options.compare:
        beside = folder.with_name(folder.name + "-random")
        rival = look_at(
            beside, at_random(encoder, 0).to(device), source, options.pooling, options.batch, device, console
        )
        if rival.places == index.places:
            who["random weights"] = unit(rival.features)
            who["random weights standardised"] = Scale(rival.features)(rival.features)
    who["raw pixels, 16 x 16"] = index.looks.astype(np.float32)
    found = {name: precision(x[rows], numbers, device=device) for name, x in who.items()}
    total = len(rows)
    chance = sum(count * (count - 1) for count in counts.values()) / (total * (total - 1))
    return {**found, "chance": dict.fromkeys(found[name], chance)}


def _sentences(judged_by: dict[str, dict[int, float]]) -> list[str]:
    if not judged_by:
        return []
    of = {name: ", ".join(f"{share:.1%} at {k}" for k, share in shares.items()) for name, shares in judged_by.items()}
    of["chance"] = f"{next(iter(judged_by['chance'].values())):.1%}"
    return [
        "Precision (every labelled image asks for the nearest others; share of them with its label): "
        + "; ".join(f"{name} {text}" for name, text in of.items())
    ]


def _say_hits(hits: list[Hit], say: Callable[[str], Any], most: int = 5) -> None:
    for query in list(dict.fromkeys(hit.query for hit in hits))[:most]:
        best = [hit for hit in hits if hit.query == query][:3]
        inside = next((f" ({hit.same} in the data: {hit.path})" for hit in best if hit.same), "")
        said = ", ".join(f"{hit.path} {hit.similarity:.3f}" for hit in best if not hit.same)
        say(f"{query}{inside}: {said}")


def _write(out: Path, queries: list[_Query], hits: list[Hit], index: Index, source: Source, facts: list[str]) -> None:
    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.writer(file)
            table.writerow(["query", "rank", "path", "similarity", "same", "label", "split"])
            for hit in hits:
                row = [hit.query, hit.rank, hit.path, f"{hit.similarity:.6f}", hit.same, hit.label, hit.split]
                table.writerow(row)

    lines = []
    for query in queries:
        mine = [hit for hit in hits if hit.query == query.name]
        inside = mine[0].same if mine else ""
        cells = [Cell(opened(query.thumb), ("query",), f"{inside} in the data" if inside else "")]
        cells += [_cell(hit, index, source) for hit in mine]
        lines.append(Line(query.name, cells))
    write_atomically(out / RESULTS, write)
    draw_gallery(lines, out / PNG, " ".join(facts))
    write_page(lines, out / PAGE, TITLE, facts)


def _cell(hit: Hit, index: Index, source: Source) -> Cell:
    words = [hit.path, f"{hit.rank}: {hit.similarity:.3f}", " · ".join(text for text in (hit.label, hit.split) if text)]
    try:  # larger than the index has it
        image = thumbnail(decode(source.read(index.places[hit.place]), max_side=SHOWN).pixels, SHOWN)
    except (BadImage, OSError):  # gone since
        image = index.thumb(hit.place)
    return Cell(opened(image), tuple(text for text in words if text), hit.same)


@verb(Search)
def search(options: Search) -> "Found":
    """Writes the results into OUT and returns them. Bad images are named and left out, unless none is good.

    Features are kept in an index folder and computed only for images that are new to it. Raises UserError for a
    pooling that the encoder does not have, DataError where no image can be used.
    """
    return searching(options)
