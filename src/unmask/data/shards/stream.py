"""Data too large to be read in any order: shards, each read from its beginning. Parts in `streams/` know one format.

A `Source` can read image 17 directly; a `Stream` cannot, and may not know its length. It reads a shard from a given
sample on.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from unmask import registry
from unmask.data.shards.expand import ENDINGS, Shard, expand, names_shards
from unmask.data.shards.remote import Patience
from unmask.errors import DataError, UserError, many

PARTS = "stream"
BRIEF = 3  # tries before a run begins, when somebody sits before it


@dataclass(slots=True)
class Sample:
    key: str  # unique within its shard
    data: bytes | np.ndarray | None  # an image's bytes or values, as `decode` takes them
    label: str | None = None
    columns: dict[str, str] = field(default_factory=dict)  # what else is told of it, such as a caption
    problem: str | None = None  # why it cannot be used, where that shows before decoding
    end: int = 0  # bytes into the shard behind it; 0 where not known
    unused: tuple[str, ...] = ()  # further images of the same sample


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


def open_stream(data: str | Path | Sequence[str | Path], patience: Patience | None = None) -> Stream:
    """The shards at one place or several, all of one kind. Raises UserError or DataError where that cannot be."""
    places = [os.fspath(place) for place in ([data] if isinstance(data, (str, Path)) else data)]
    patience, where = patience or Patience(), ", ".join(places)
    brief = replace(patience, tries=min(BRIEF, patience.tries))  # a name that is wrong is said soon
    parts = {name: registry.find(PARTS, name) for name in registry.names(PARTS)}
    shards = [
        shard
        for place in places
        for shard in ([Shard(place)] if place.startswith("hf:") and "://" not in place else expand(place, brief))
    ]
    kinds = {next((n for n, part in parts.items() if part.accepts(shard.place)), None) for shard in shards}
    if None in kinds:
        raise UserError(f"{where} is no kind of shard that unmask knows; their names end in {', '.join(ENDINGS)}")
    if len(kinds) > 1:
        raise UserError(
            f"{where} has shards of several kinds, {' and '.join(sorted(map(str, kinds)))}: use one of them"
        )
    if len({shard.place for shard in shards}) < len(shards):
        raise DataError(f"{where} names some shards twice")
    return parts[str(kinds.pop())](where, shards, patience)


def further_images(samples: Iterable[Sample]) -> list[str]:
    """A remark where samples hold several images, of which one is used."""
    several = [sample for sample in samples if sample.unused]
    if not several:
        return []
    shown = ", ".join(several[0].unused[:3])
    return [
        f"{many(len(several), 'sample')} {'hold' if len(several) > 1 else 'holds'} more than one image, of which one is"
        f" used; left out of {several[0].key}: {shown}. To use all, give each a name of its own before the first dot"
    ]


COUNTS = "shard_counts.txt"
