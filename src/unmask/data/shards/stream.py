"""Data too large to be read in any order: shards, each read from its beginning. Parts in `streams/` know one format.

A `Source` can read image 17 directly; a `Stream` cannot, and may not know its length. It reads a shard from a given
sample on.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from unmask import registry
from unmask.data.modality import IMAGE, Modality, make_modality
from unmask.data.shards.expand import ENDINGS, Shard, expand, names_shards
from unmask.data.shards.remote import Patience
from unmask.data.shards.wanted import Wanted, settled, wanted_of
from unmask.errors import DataError, UserError, many

PARTS = "stream"
LOOKED, LOOKED_SHARDS, LOOKED_BYTES = 48, 4, 128 << 20  # files that tell the kind of samples and settle its options
BRIEF = 3  # tries before a run begins, when somebody sits before it


@dataclass(slots=True)
class Sample:
    key: str  # unique within its shard
    data: bytes | np.ndarray | None  # a file's bytes or values, as the modality decodes them
    label: str | None = None
    columns: dict[str, str] = field(default_factory=dict)  # what else is told of it, such as a caption
    problem: str | None = None  # why it cannot be used, where that shows before decoding
    end: int = 0  # bytes into the shard behind it; 0 where not known
    unused: tuple[str, ...] = ()  # further files of the same sample that could be it
    file: str = ""  # what its file was called, where that is told beside its content


class Stream(ABC):
    """Shards in the order of their names. It can be pickled and used in any process: files are opened when read."""

    where: str  # as a person would name it
    shards: list[Shard]
    classes: list[str] | None = None  # where they are declared: a label is one of these
    remarks: list[str]
    plural: bool = False  # a label may name several classes, or none, joined by |
    exact: bool = False  # `count` looks into the shard; else it repeats what an index says, which may be wrong

    def __init__(self, where: str, shards: list[Shard], patience: Patience | None = None):
        self.where, self.shards, self.remarks = where, shards, []
        self.patience = patience or Patience()
        self.wanted = Wanted(make_modality(IMAGE))

    @property
    def modality(self) -> Modality:
        """What its samples are."""
        return self.wanted.modality

    def take(self, wanted: Wanted) -> None:
        """Has samples of this kind read from now on."""
        self.wanted = wanted

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of what may be samples of any kind, from the beginning of the first shard on."""
        for sample in self.samples(0):
            if isinstance(sample.data, bytes):
                yield sample.file, sample.data

    @classmethod
    @abstractmethod
    def accepts(cls, place: str) -> bool:
        """True if this part reads the shard at `place`."""

    @abstractmethod
    def samples(self, shard: int, first: int = 0) -> Iterator[Sample]:
        """The samples of a shard from the given one on, always the same in the same order; none is decoded.

        A shard that is damaged ends with a sample whose `problem` says so. Raises DataError where reading fails for
        good.
        """

    def count(self, shard: int) -> int | None:
        """Number of samples in a shard, if that is known without reading it."""
        return None

    def __iter__(self) -> Iterator[tuple[str, Sample]]:
        """Every sample once, in order, with its full name."""
        for number in range(len(self.shards)):
            for sample in self.samples(number):
                yield self.name(number, sample), sample

    def name(self, shard: int, sample: Sample) -> str:
        """Shard and key: how a sample is listed."""
        return f"{self.shards[shard].place}/{sample.key}"

    def training(self) -> "Stream":
        """Without the shards of other splits, where some are said to be for training."""
        splits = [shard.split for shard in self.shards]
        if "train" in splits and set(splits) != {"train"}:
            self.shards = [shard for shard, split in zip(self.shards, splits) if split in (None, "train")]
            self.remarks.append(f"{len(splits) - len(self.shards):,} shards of other splits are left out")
        return self

    def fingerprint(self) -> str:
        """Of the shards' names, sizes and tags."""
        total = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            total.update(f"{shard.name}\t{shard.size}\t{shard.tag}\n".encode())
        return total.hexdigest()


def is_stream(data: str | Path | Sequence[str | Path]) -> bool:
    """True if the data is read as a stream. Raises UserError if streams and other data are mixed."""
    places = [data] if isinstance(data, (str, Path)) else list(data)
    are_streams = [names_shards(os.fspath(place)) for place in places]
    if any(are_streams) and not all(are_streams):
        one, other = (os.fspath(places[are_streams.index(kind)]) for kind in (True, False))
        raise UserError(f"{one} is a stream and {other} is not: they cannot be mixed; use one of them, or pack both")
    return any(are_streams)


def open_stream(
    data: str | Path | Sequence[str | Path], patience: Patience | None = None, kind: str | None = IMAGE
) -> Stream:
    """The shards at one place or several, all of one form. kind: the text of the modality of their samples; None for
    the one that most of the first files are of. Raises UserError or DataError where that cannot be."""
    places = [os.fspath(place) for place in ([data] if isinstance(data, (str, Path)) else data)]
    patience, where = patience or Patience(), ", ".join(places)
    brief = replace(patience, tries=min(BRIEF, patience.tries))  # a name that is wrong is said soon
    parts = {name: registry.find(PARTS, name) for name in registry.names(PARTS)}
    shards = [
        shard
        for place in places
        for shard in ([Shard(place)] if place.startswith("hf:") and "://" not in place else expand(place, brief))
    ]
    forms = {next((n for n, part in parts.items() if part.accepts(shard.place)), None) for shard in shards}
    if None in forms:
        raise UserError(f"{where} is no kind of shard that unmask knows; their names end in {', '.join(ENDINGS)}")
    if len(forms) > 1:
        raise UserError(
            f"{where} has shards of several kinds, {' and '.join(sorted(map(str, forms)))}: use one of them"
        )
    if len({shard.place for shard in shards}) < len(shards):
        raise DataError(f"{where} names some shards twice")
    stream: Stream = parts[str(forms.pop())](where, shards, patience)
    if kind != IMAGE:
        stream.take(wanted_of(kind, islice(stream.files(), LOOKED), where))
        stream.take(settled(stream.wanted, _beginnings(stream)))
    return stream


def _beginnings(stream: Stream) -> Iterator[bytes | np.ndarray]:
    """Some samples, from the beginnings of a few shards."""
    num, left = len(stream.shards), LOOKED_BYTES
    for shard in sorted({i * num // LOOKED_SHARDS for i in range(LOOKED_SHARDS)}):
        for sample in islice(stream.samples(shard), LOOKED // LOOKED_SHARDS):
            if sample.data is not None and not sample.problem and left > 0:
                left -= len(sample.data) if isinstance(sample.data, bytes) else sample.data.nbytes
                yield sample.data


def further_files(samples: Iterable[Sample], modality: Modality) -> list[str]:
    """A remark where samples hold several files of their kind, of which one is used."""
    several = [sample for sample in samples if sample.unused]
    if not several:
        return []
    shown = ", ".join(several[0].unused[:3])
    hold = "hold" if len(several) > 1 else "holds"
    return [
        f"{many(len(several), 'sample')} {hold} more than one {modality.word}, of which one is used; left out of"
        f" {several[0].key}: {shown}. To use all, give each a name of its own before the first dot"
    ]


COUNTS = "shard_counts.txt"
