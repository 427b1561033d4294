"""An index of images for searching: a folder with features, looks and thumbnails, by the content of each image.

Rows belong to contents, not to names: what was renamed or added costs only what is new, a changed file is computed
anew, and nothing is decoded twice. Whether a file changed is told by its size and time without reading it, where it
lies in a folder. The folder belongs to one set of weights; for others it is made anew.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress

from unmask.data.codecs.decode import decode, decode_side, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.scan import digest
from unmask.data.source import Source, why
from unmask.data.transforms.crops import WholeImage
from unmask.errors import DataError
from unmask.evaluation.features import check_poolings, finite, judged, pooled
from unmask.models.encoder import Encoder
from unmask.models.state import weights_hash
from unmask.plain import Place
from unmask.runs.run import CONFIG
from unmask.runtime.cores import in_order
from unmask.tasks.retrieval.likeness import look, pixel_digest, thumbnail
from unmask.tasks.retrieval.store import Row, Store, thumbs

CHUNK = 512  # images per file: at most so many are lost to an interruption
PIECE = 16  # images that a thread works off at a time
THUMB = 112  # pixels of the longer side
VERSION = 1  # of what rows hold
Say = Callable[[str], Any]


@dataclass
class Index:
    """The good images of some data, in the data's order; arrays have a row for each."""

    places: list[int]  # in the source
    features: Float[np.ndarray, "n d"]
    looks: Float[np.ndarray, "n 768"]
    files: list[bytes]  # digests of files
    pixels: list[bytes]  # digests of decoded pixels
    bad: list[tuple[str, str]]  # name and reason of images that are left out
    computed: int  # contents that were decoded and computed in this call
    at: list[tuple[Path, int]] = field(repr=False)  # where each row lies
    held: dict[Path, list[bytes]] = field(default_factory=dict, repr=False)  # thumbnails of files that were opened

    def thumb(self, row: int) -> bytes:
        """A JPEG of at most 112 pixels."""
        path, place = self.at[row]
        if path not in self.held:
            self.held[path] = thumbs(path)
        return self.held[path][place]


def open_index(
    folder: Path,
    encoder: Encoder,
    source: Source,
    *,
    pooling: str = "mean",
    batch: int = 64,  # images at a time
    device: torch.device | str = "cpu",  # where the encoder is
    say: Say = lambda text: None,
    progress: Callable[[int], Any] = lambda done: None,  # told the number of images looked at
) -> Index:
    """The index of all images of `source`, after computing what the folder does not hold yet.

    Raises UserError for a folder with other things in it, DataError where no image is good.
    """
    check_poolings(encoder, [pooling])
    size = (encoder.grid.size[0], encoder.grid.size[1])
    key = hashlib.blake2b(
        f"{VERSION} {weights_hash(encoder)} {encoder.arguments} {pooling} {size}".encode()
    ).hexdigest()
    store = Store(Path(folder), key, say)
    work = _Worker(source, store.stamps, store.rows.keys() | store.bad.keys(), encoder.channels, size)
    digests: list[bytes | None] = []
    unread: dict[int, str] = {}
    fresh: dict[bytes, Row] = {}
    computed = 0
    with judged(encoder):
        for found, rows, bad, errors in _threaded(work, len(source.items)):
            digests += found
            store.bad |= {key: reason for key, reason in bad.items() if key not in store.rows}
            fresh |= {key: row for key, row in rows.items() if key not in store.rows}
            unread |= errors
            progress(len(digests))
            if len(fresh) >= CHUNK:
                computed += store.add(fresh, _features(encoder, fresh, pooling, batch, device))
                fresh = {}
        if fresh:
            computed += store.add(fresh, _features(encoder, fresh, pooling, batch, device))
    store.settle(work.stamps(digests), {found for found in digests if found})
    return _assembled(store, source, digests, unread, computed)


def _features(encoder: Encoder, fresh: dict[bytes, Row], pooling: str, batch: int, device: Any) -> np.ndarray:
    views, found = [row.view for row in fresh.values()], []
    for start in range(0, len(views), batch):
        x = torch.stack([view.float() for view in views[start : start + batch]]).to(device)
        found.append(finite(pooled(encoder, x, [pooling])[pooling].cpu().numpy(), "computed"))
    return np.concatenate(found)


def _assembled(
    store: "Store", source: Source, digests: list[bytes | None], unread: dict[int, str], computed: int
) -> Index:
    bad = [
        (item.name, unread[place] if found is None else store.bad[found])
        for place, (item, found) in enumerate(zip(source.items, digests))
        if found not in store.rows
    ]
    places = [place for place, found in enumerate(digests) if found in store.rows]
    if not places:
        examples = "; ".join(f"{name}: {reason}" for name, reason in bad[:3])
        raise DataError(f"no image in {source.where} can be used: {examples}")
    files = [digests[place] or b"" for place in places]
    at = [store.rows[found] for found in files]
    features, looks, pixels = store.gather(at)
    return Index(places, features, looks, files, pixels, bad, computed, at)


class _Worker:
    """Looks at some images: which content each is, and, where that is new, what is kept of it."""

    def __init__(self, source: Source, known: dict[bytes, bytes], there: set[bytes], channels: int, size: Any):
        self.source, self.known, self.there = source, known, frozenset(there)
        self.channels, self.max_side, self.view = channels, decode_side(size), WholeImage(size)

    def __call__(self, places: Sequence[int]) -> Any:
        found: list[bytes | None] = []
        rows: dict[bytes, Row] = {}
        bad: dict[bytes, str] = {}
        unread: dict[int, str] = {}
        for place in places:
            content = self.known.get(self.stamp(place) or b"")
            if content not in self.there:
                try:
                    data = self.source.read(place)
                    content = digest(data)
                    if content not in self.there and content not in rows:
                        rows[content] = self._row(content, data)
                except BadImage as error:
                    content = content if isinstance(content, bytes) else None
                    if content is None:
                        unread[place] = why(error)
                    else:
                        bad[content] = why(error)
                except OSError as error:
                    content, unread[place] = None, why(error)
            found.append(content)
        return found, rows, bad, unread

    def stamp(self, place: int) -> bytes | None:
        """Of path, size and time of a file; None where it is told only by reading."""
        stamp = self.source.stamp(place)
        return None if stamp is None else digest(stamp.encode("utf-8", "surrogateescape"))

    def stamps(self, digests: Sequence[bytes | None]) -> dict[bytes, bytes]:
        pairs = ((self.stamp(place), found) for place, found in enumerate(digests))
        return {stamp: found for stamp, found in pairs if stamp and found}

    def _row(self, content: bytes, data: bytes | np.ndarray) -> Row:
        pixels = decode(data, max_side=self.max_side).pixels
        view = self.view(to_channels(pixels, self.channels))
        return Row(content, pixel_digest(pixels), look(pixels).numpy(), thumbnail(pixels, THUMB), view)


def _threaded(work: _Worker, count: int) -> Iterator[Any]:
    """Pieces in order."""
    pieces = (range(start, min(start + PIECE, count)) for start in range(0, count, PIECE))
    return in_order(work, pieces, ahead=4)


def index_folder(asked: Place | None, run: Place, out: Path, data: Sequence[str], pooling: str) -> Path:
    """The folder asked for; else one for these places of data in the run's folder, or in OUT where there is no run."""
    if asked is not None:
        return Path(asked)
    places = "\n".join(os.path.abspath(os.path.expanduser(place)) for place in data)
    name = re.sub(r"\W+", "-", Path(data[0]).name or "data").strip("-")[:40]
    name = f"{name}-{pooling}-{hashlib.blake2b(places.encode(errors='surrogateescape'), digest_size=4).hexdigest()}"
    return (Path(run) if (Path(run) / CONFIG).exists() else out) / "index" / name


def look_at(
    folder: Path, encoder: Encoder, source: Source, pooling: str, batch: int, device: str, console: Console
) -> Index:
    """The index of a source in its folder, with a bar while new images are looked at."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the images", total=len(source.items))
        return open_index(
            folder,
            encoder,
            source,
            pooling=pooling,
            batch=batch,
            device=device,
            say=lambda text: console.print(text, soft_wrap=True, markup=False),
            progress=lambda done: bar.update(task, completed=done),
        )


def say_bad(bad: Sequence[tuple[str, str]], say: Callable[[str], Any], most: int = 10) -> None:
    """Names images that are left out."""
    for name, reason in bad[:most]:
        say(f"left out: {name}: {reason}")
    if len(bad) > most:
        say(f"left out: {len(bad) - most:,} more")
