"""Query images, their nearest images, and how often these have the same label."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.scan import digest
from unmask.data.source import Source, open_source, why
from unmask.errors import DataError
from unmask.models.encoder import Encoder
from unmask.tasks.retrieval.index import Index, say_bad
from unmask.tasks.retrieval.likeness import pixel_digest, thumbnail
from unmask.tasks.retrieval.neighbours import Scale, nearest, precision, unit

SHOWN = 224  # pixels of the longer side of an image in the page
SAME_FILE, SAME_PIXELS = "same file", "same pixels"


@dataclass(frozen=True)
class Query:
    name: str
    file: bytes  # digests of the file and of the pixels
    pixels: bytes
    thumb: bytes  # JPEG
    view: Shaped[Tensor, "c *size"]  # as the encoder sees it


@dataclass(frozen=True)
class Hit:
    """One of the images nearest to a query."""

    query: str
    rank: int  # from 1
    path: str
    similarity: float  # cosine of the features, -1 to 1
    same: str  # "same file" or "same pixels" as the query; else empty
    label: str
    split: str
    row: int = field(repr=False)  # in the index


def read_queries(
    places: Sequence[str], encoder: Encoder, say: Callable[[str], object], modality: str | None = None
) -> list[Query]:
    """Reads the queries; bad images are named and left out. modality: what they are read as, if not as the encoder's
    own. Raises DataError if none is good."""
    source = open_source(places, modality or encoder.modality)
    size, kind = encoder.grid.size, source.modality
    queries, bad = [], []
    for number, item in enumerate(source.items):
        try:
            data = source.raw(number)
            sample = kind.decode(data, 4 * max(size)).content
            view = kind.whole(size)(kind.fitted(sample, encoder.channels))
            pixels = kind.shown(sample, view)
        except (BadImage, OSError) as error:
            bad.append((item.name, why(error)))
            continue
        queries.append(Query(item.name, digest(data), pixel_digest(pixels), thumbnail(pixels, SHOWN), view))
    if not queries:
        raise DataError("no query can be used: " + "; ".join(f"{name}: {reason}" for name, reason in bad[:3]))
    say_bad(bad, say)
    return queries


def find_hits(
    queries: Sequence[Query],
    query_vectors: Float[np.ndarray, "q d"],
    vectors: Float[np.ndarray, "n d"],
    index: Index,
    source: Source,
    top: int,
    device: str,
) -> list[Hit]:
    """The query itself comes first if it is in the data, then its copies, then other images by similarity."""
    similarity, rows = nearest(query_vectors, vectors, top, device)
    files, pixels = _rows_by(index.files), _rows_by(index.pixels)
    hits = []
    for number, query in enumerate(queries):
        same = dict.fromkeys(files.get(query.file, ()), SAME_FILE)
        same |= {row: SAME_PIXELS for row in pixels.get(query.pixels, ()) if row not in same}
        scores = {row: float(vectors[row] @ query_vectors[number]) for row in same}
        scores |= {int(row): float(s) for row, s in zip(rows[number], similarity[number]) if row not in same}
        kinds = [SAME_FILE, SAME_PIXELS, ""]
        order = sorted(scores, key=lambda row: (kinds.index(same.get(row, "")), -scores[row]))
        for rank, row in enumerate(order[:top], 1):
            item = source.items[index.numbers[row]]
            facts = (item.name, scores[row], same.get(row, ""), item.label or "", item.split or "")
            hits.append(Hit(query.name, rank, *facts, row))
    return hits


def precision_by_label(
    index: Index, rival: Index | None, source: Source, name: str, device: str
) -> dict[str, dict[int, float]]:
    """Leave-one-out precision: competitor -> k -> share of the k nearest other images with the same label; empty if no
    two images share a label. name: the encoder's. rival: the same images by the encoder with random weights."""
    labels = [None if source.multi_label else source.items[number].label for number in index.numbers]
    rows = np.array([row for row, label in enumerate(labels) if label is not None], int)
    counts = Counter(labels[row] for row in rows)
    if len(counts) < 2 or max(counts.values()) < 2:
        return {}
    codes = {label: number for number, label in enumerate(counts)}
    numbers = np.array([codes[labels[row]] for row in rows])
    vectors = {}
    for competitor, features in ((name, index.features), ("random weights", rival.features if rival else None)):
        if features is not None:
            vectors |= {competitor: unit(features), f"{competitor} standardised": Scale(features)(features)}
    vectors["raw pixels, 16 x 16"] = index.tiny.astype(np.float32)
    shares = {competitor: precision(x[rows], numbers, device=device) for competitor, x in vectors.items()}
    total = len(rows)
    chance = sum(count * (count - 1) for count in counts.values()) / (total * (total - 1))
    return {**shares, "chance": dict.fromkeys(shares[name], chance)}


def precision_in_words(shares: Mapping[str, Mapping[int, float]], word: str) -> list[str]:
    """One sentence, or none. word: for a sample."""
    if not shares:
        return []
    texts = {name: ", ".join(f"{share:.1%} at {k}" for k, share in by_k.items()) for name, by_k in shares.items()}
    texts["chance"] = f"{next(iter(shares['chance'].values())):.1%}"
    return [
        f"Precision (of the {word}s nearest to each labelled {word}, the share that has its label): "
        + "; ".join(f"{name}: {text}" for name, text in texts.items())
    ]


def _rows_by(digests: Sequence[bytes]) -> dict[bytes, list[int]]:
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(digests):
        rows.setdefault(key, []).append(row)
    return rows
