"""A search index: a folder with features, tiny images and thumbnails, keyed by the content of each image.

Rows belong to contents, not to names: only new content is computed, renamed files cost nothing, and no image is decoded
twice. Size and time tell whether a file in a folder changed, without reading it. The index belongs to one set of
weights; for others it is rebuilt.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from joblib import Parallel, cpu_count, delayed
from rich.console import Console
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.modality import IMAGE, Raw
from unmask.data.scan import digest
from unmask.data.source import Source, why
from unmask.errors import DataError
from unmask.evaluation.features import check_poolings, features_hash, finite, judged, pooled
from unmask.models.encoder import Encoder
from unmask.plain import Place
from unmask.runs.run import CONFIG
from unmask.runtime.progress import progress
from unmask.tasks.retrieval.likeness import pixel_digest, thumbnail, tiny_image
from unmask.tasks.retrieval.store import Row, Store, thumbs

CHUNK = 512  # images per file: at most so many are lost to an interruption
THUMB = 112  # pixels of the longer side
VERSION = 1  # of what rows hold
Say = Callable[[str], object]


@dataclass
class Index:
    """The good images of some data, in the data's order; arrays have a row for each."""

    numbers: list[int]  # in the source
    features: Float[np.ndarray, "n d"]
    tiny: Float[np.ndarray, "n 768"]  # see `likeness.py`
    files: list[bytes]  # digests of files
    pixels: list[bytes]  # digests of decoded pixels
    bad: list[tuple[str, str]]  # name and reason of images that are left out
    computed: int  # contents that were decoded and computed in this call
    at: list[tuple[Path, int]] = field(repr=False)  # where each row lies
    size: tuple[int, ...]  # of what the encoder sees
    held: dict[Path, list[bytes]] = field(default_factory=dict, repr=False)  # thumbnails of files that were opened

    def larger(self, row: int, source: Source, side: int) -> bytes:
        """A JPEG of at most `side` pixels, made anew from the source; the thumbnail where the sample is gone since."""
        modality = source.modality
        try:
            content = modality.decode(source.raw(self.numbers[row]), side).content
            view = content if modality.text == IMAGE else modality.whole(self.size)(content)
        except (BadImage, OSError):
            return self.thumb(row)
        return thumbnail(modality.shown(content, view), side)

    def thumb(self, row: int) -> bytes:
        """A JPEG of at most 112 pixels."""
        path, at = self.at[row]
        if path not in self.held:
            self.held[path] = thumbs(path)
        return self.held[path][at]


def open_index(
    folder: Path,
    encoder: Encoder,
    source: Source,
    *,
    pooling: str = "mean",
    batch: int = 64,  # images at a time
    device: torch.device | str = "cpu",  # where the encoder is
    say: Say = lambda text: None,
    progress: Callable[[int], object] = lambda done: None,  # told the number of images looked at
) -> Index:
    """The index of all images of `source`; what the folder lacks is computed.

    Raises UserError for a folder with other things in it, DataError where no image is good.
    """
    check_poolings(encoder, [pooling])
    size = encoder.grid.size
    facts = f"{VERSION} {features_hash(encoder, pooling)} {encoder.arguments} {pooling} {size}"
    facts += "" if source.modality.text == encoder.modality else f" {source.modality.text}"
    store = Store(Path(folder), hashlib.blake2b(facts.encode()).hexdigest(), say)
    read = _Reader(source, store.stamps, store.rows.keys() | store.bad.keys(), encoder.channels, size)
    digests: list[bytes | None] = []
    unread: dict[int, str] = {}  # row in the source -> why
    fresh: dict[bytes, Row] = {}
    computed, count = 0, len(source.items)

    def keep() -> int:
        features = encode(encoder, [row.view for row in fresh.values()], pooling, batch, device)
        return store.add(fresh, features)

    with judged(encoder), Parallel(n_jobs=min(8, cpu_count()), prefer="threads") as parallel:
        for start in range(0, count, CHUNK):  # in chunks, so that memory stays bounded
            contents: Any = parallel(delayed(read)(number) for number in range(start, min(start + CHUNK, count)))
            for number, content in enumerate(contents, start):
                digests.append(content.digest)
                if content.digest is None:
                    unread[number] = content.reason
                elif content.reason and content.digest not in store.rows:
                    store.bad[content.digest] = content.reason
                elif content.row and content.digest not in store.rows:
                    fresh[content.digest] = content.row
            progress(len(digests))
            if len(fresh) >= CHUNK or (fresh and len(digests) == count):
                computed, fresh = computed + keep(), {}
    store.settle(read.stamps(digests), {digest for digest in digests if digest})
    return _assembled(store, source, digests, unread, computed, size)


def encode(
    encoder: Encoder,
    views: Sequence[Shaped[Tensor, "c *size"]],
    pooling: str,
    batch: int,
    device: torch.device | str,
) -> Float[np.ndarray, "n d"]:
    """Features of views, `batch` at a time."""
    parts = []
    with judged(encoder):
        for start in range(0, len(views), batch):
            x = torch.stack([view.float() for view in views[start : start + batch]]).to(device)
            parts.append(pooled(encoder, x, [pooling])[pooling].cpu().numpy())
    return finite(np.concatenate(parts), "computed")


def _assembled(
    store: Store,
    source: Source,
    digests: list[bytes | None],
    unread: dict[int, str],
    computed: int,
    size: tuple[int, ...],
) -> Index:
    good = [number for number, digest in enumerate(digests) if digest in store.rows]
    bad = [
        (item.name, unread[number] if digest is None else store.bad[digest])
        for number, (item, digest) in enumerate(zip(source.items, digests))
        if digest not in store.rows
    ]
    if not good:
        examples = "; ".join(f"{name}: {reason}" for name, reason in bad[:3])
        raise DataError(f"no {source.modality.word} in {source.where} can be used: {examples}")
    files = [digests[number] or b"" for number in good]
    at = [store.rows[digest] for digest in files]
    features, tiny, pixels = store.gather(at)
    return Index(good, features, tiny, files, pixels, bad, computed, at, size)


@dataclass(frozen=True)
class _Content:
    """The content of an image."""

    digest: bytes | None  # of the file; None where it cannot be read
    row: Row | None = None  # where it is new and good
    reason: str = ""  # why it is bad


class _Reader:
    """Identifies the content of an image, and computes its index entry if it is new."""

    def __init__(
        self, source: Source, stamps: dict[bytes, bytes], indexed: set[bytes], channels: int, size: tuple[int, ...]
    ):
        self.source, self.digest_of, self.indexed = source, stamps, frozenset(indexed)
        self.channels, self.max_side, self.view = channels, 4 * max(size), source.modality.whole(size)

    def __call__(self, number: int) -> _Content:
        content = self.digest_of.get(self.stamp(number) or b"")
        if content in self.indexed:
            return _Content(content)
        content = None
        try:
            data = self.source.raw(number)
            content = digest(data)
            return _Content(content, None if content in self.indexed else self._row(content, data))
        except OSError as error:
            return _Content(None, reason=why(error))
        except BadImage as error:
            return _Content(content, reason=why(error))

    def stamp(self, number: int) -> bytes | None:
        """A stamp of path, size and time of a file; None if the file must be read to identify it."""
        stamp = self.source.stamp(number)
        return None if stamp is None else digest(stamp.encode("utf-8", "surrogateescape"))

    def stamps(self, digests: Sequence[bytes | None]) -> dict[bytes, bytes]:
        pairs = ((self.stamp(number), content) for number, content in enumerate(digests))
        return {stamp: content for stamp, content in pairs if stamp and content}

    def _row(self, content: bytes, data: Raw) -> Row:
        modality = self.source.modality
        sample = modality.decode(data, self.max_side).content
        view = self.view(modality.fitted(sample, self.channels))
        pixels = modality.shown(sample, view)
        return Row(content, pixel_digest(pixels), tiny_image(pixels).numpy(), thumbnail(pixels, THUMB), view)


def index_folder(given: Place | None, run: Place, out: Path, data: Sequence[str], pooling: str) -> Path:
    """The given folder; otherwise one for this data in the run's folder, or in OUT if there is no run."""
    if given is not None:
        return Path(given)
    places = "\n".join(os.path.abspath(os.path.expanduser(place)) for place in data)
    name = re.sub(r"\W+", "-", Path(data[0]).name or "data").strip("-")[:40]
    name = f"{name}-{pooling}-{hashlib.blake2b(places.encode(errors='surrogateescape'), digest_size=4).hexdigest()}"
    return (Path(run) if (Path(run) / CONFIG).exists() else out) / "index" / name


def open_index_with_bar(
    folder: Path, encoder: Encoder, source: Source, pooling: str, batch: int, device: str, console: Console
) -> Index:
    """Like `open_index`, with a progress bar."""
    with progress(console, f"indexing the {source.modality.word}s", len(source.items)) as update:
        return open_index(
            folder,
            encoder,
            source,
            pooling=pooling,
            batch=batch,
            device=device,
            say=lambda text: console.print(text, soft_wrap=True, markup=False),
            progress=update,
        )


def say_bad(bad: Sequence[tuple[str, str]], say: Callable[[str], object], most: int = 10) -> None:
    """Names images that are left out."""
    for name, reason in bad[:most]:
        say(f"left out: {name}: {reason}")
    if len(bad) > most:
        say(f"left out: {len(bad) - most:,} more")
