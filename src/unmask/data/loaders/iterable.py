"""The loader of streams. The order of samples is a pure function of (seed, position), as in `Loader`.

The shards of all epochs are one endless line, every epoch a fresh permutation. Readers (ranks times worker processes)
take turns along that line, so each sample comes once per epoch over all readers, whatever the number of shards; where
shards are fewer than readers, each is shared out sample by sample. Readers with more samples fall behind in epochs;
none waits for another. Within a reader's part, `mixed` shuffles over a window: like a shuffle buffer, but a pure
function too, so that a resumed run reads again at most the window and decodes nothing of it.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from unmask.data.batch import Batch
from unmask.data.captions.table import captions_in
from unmask.data.captions.tokenizer import CaptionTokenizer
from unmask.data.captions.tokens import DRAWN
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.images import append_bad_file as append_once
from unmask.data.loaders.map_style import (
    View,
    batches_ahead,
    begin_worker,
    collate_for,
    in_one_line,
    require_even,
    views_of,
)
from unmask.data.shards.stream import Sample, Stream
from unmask.data.value_range import UsualRange
from unmask.errors import DataError, UserError, many
from unmask.seeds import mix

TRIES = 100_000  # bad samples in a row that are passed over
NEAR, SPREAD = 8, 16  # bad ones in a row for which one good one stands; samples that stand for more
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample and where it stands."""

    epoch: int
    shard: int
    number: int  # within its shard
    sample: Sample

    @property
    def index(self) -> int:
        """The same in every epoch, and of no other sample."""
        return self.shard << 32 | self.number


@dataclass
class Counts:
    """Samples per shard as far as they are known. What is found is kept in a file, so that a resumed run passes over
    whole shards without reading them; readers in several processes share it."""

    stream: Stream
    path: Path | None = None
    by_shard: dict[int, int] = field(default_factory=dict)

    def __post_init__(self):
        if self.path is not None and self.path.exists():
            numbers = {shard.place: number for number, shard in enumerate(self.stream.shards)}
            for line in self.path.read_text(encoding="utf-8").splitlines():
                place, _, count = line.partition("\t")
                if place in numbers and count.isdigit():
                    self.by_shard[numbers[place]] = int(count)

    def get(self, shard: int) -> int | None:
        if shard not in self.by_shard and self.stream.exact and (told := self.stream.count(shard)) is not None:
            self.by_shard[shard] = told
        return self.by_shard.get(shard)

    def put(self, shard: int, count: int) -> None:
        """What reading to the end has shown."""
        if self.path is not None:
            append_once(self.path, self.stream.shards[shard].place, str(count))
        self.by_shard[shard] = count
        if len(self.by_shard) == len(self.stream.shards) and not any(self.by_shard.values()):
            raise DataError(f"the shards of {self.stream.where} are empty")


@dataclass(frozen=True, kw_only=True)
class StreamLoader:
    """`loader(n)` yields micro-batches from the n-th on, without end, as `Loader` does: the same batches for the same
    stream, seed, window, batch and number of readers. `label` is -1 where it is no number and no declared class."""

    stream: Stream
    view: View
    batch: int  # samples per micro-batch on this device
    channels: int
    max_side: int | None = None  # pixels, as for `decode`
    window: int = 1000  # samples over which the order is mixed; 1 keeps that of the shards
    crops: int = 1  # samples made of each decoded one, as in `Loader`; divides `batch`
    seed: int = 0
    workers: int = 0  # processes; 0 reads in the main one
    pin: bool = False  # page-locked memory, for CUDA
    rank: int = 0
    world: int = 1
    counts: Path | None = None  # file in which the numbers of samples per shard are kept
    bad: Path | None = None  # file in which bad samples are listed
    usual_range: UsualRange | None = None  # of the values; samples that are unlike are bad. None: not looked at
    tokenizer: CaptionTokenizer | None = None  # a caption of each sample goes into the batch as "tokens"

    def __post_init__(self):
        require_even(self.crops, self.batch)

    def __call__(self, first: int = 0) -> Iterator[Batch]:
        loader = DataLoader(
            _Reader(self, first),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.pin,
            collate_fn=_as_it_is,
            prefetch_factor=batches_ahead(self.view, self.batch, self.channels, self.workers),
            worker_init_fn=begin_worker,
            generator=torch.Generator(),  # else it draws from the chance that masks are made of
        )
        return _raised(in_one_line(iter(loader)))

    def batches(self, worker: int, first: int) -> Iterator[Batch]:
        """Those of one reader; batch n of this rank is from reader n modulo the number of workers."""
        workers = max(1, self.workers)
        turn = first + worker
        reader, count = turn % workers * self.world + self.rank, self.batch // self.crops
        readers, counts = workers * self.world, Counts(self.stream, self.counts)

        def part(begin: int) -> Iterator[Drawn]:
            return drawn(self.stream, reader, readers, self.seed, begin, counts)

        places = mixed(part, self.window, mix(self.seed, reader, 0x3F1E), turn // workers * count)
        samples = steady(places, self.window, self._content, self._report)
        stack = collate_for(self.view)
        while True:
            drawn_now = itertools.islice(samples, count)
            yield stack([self._item(item, content, crop) for item, content in drawn_now for crop in range(self.crops)])

    def _content(self, drawn: Drawn) -> Any:
        """A sample as its modality decodes it. Raises BadImage."""
        modality, data = self.stream.modality, drawn.sample.data
        if drawn.sample.problem or data is None:
            raise BadImage(drawn.sample.problem or f"no {modality.word}")
        decoded = modality.decode(data, self.max_side)
        if self.usual_range is not None:
            self.usual_range.require(decoded.ends)
        content = modality.fitted(decoded.content, self.channels)
        if self.crops == 1:
            return content
        return modality.repeated(content, torch.Generator().manual_seed(mix(self.seed, drawn.epoch, drawn.index, -1)))

    def _item(self, drawn: Drawn, content: Any, crop: int) -> Batch:
        which = (crop,) if crop else ()
        chance = torch.Generator().manual_seed(mix(self.seed, drawn.epoch, drawn.index, *which))
        views = views_of(self.view, content, chance)
        item = {"views": views, "index": drawn.index, "label": number(drawn.sample.label, self.stream.classes)}
        return item if self.tokenizer is None else item | {"tokens": self._tokens(drawn, crop)}

    def _tokens(self, drawn: Drawn, crop: int) -> Tensor:
        """A caption of the sample, at random; zeros where it has none."""
        assert self.tokenizer is not None
        captions = captions_in(drawn.sample.columns)
        if not captions:
            return torch.zeros(self.tokenizer.context, dtype=torch.long)
        return self.tokenizer([captions[mix(self.seed, drawn.epoch, drawn.index, crop, DRAWN) % len(captions)]])[0]

    def _report(self, drawn: Drawn, reason: str) -> None:
        if self.bad is not None:
            append_once(self.bad, self.stream.name(drawn.shard, drawn.sample), " ".join(reason.split()))


def drawn(stream: Stream, reader: int, readers: int, seed: int, first: int, counts: Counts) -> Iterator[Drawn]:
    """The part of one of `readers` from its sample number `first` on, without end, shard after shard."""
    num = len(stream.shards)
    shares = -(-readers // num)  # of a shard, each for another reader: 1 unless shards are fewer than readers
    epoch, order = -1, []
    for place in itertools.count(reader, readers):
        if place // (num * shares) != epoch:
            epoch = place // (num * shares)
            chance = torch.Generator().manual_seed(mix(seed, epoch))
            order = torch.randperm(num * shares, generator=chance).tolist()
        shard, share = divmod(order[place % (num * shares)], shares)
        start, count = 0, counts.get(shard) if first else None
        if count is not None:
            mine = len(range(share, count, shares))
            if first >= mine:
                first -= mine
                continue
            start, first = share + first * shares, 0
        at = start - 1
        for at, sample in enumerate(stream.samples(shard, start), start):
            if (at - share) % shares:
                continue
            if first:  # the first pass was cut off within this shard: it is not known how long it is
                first -= 1
                continue
            yield Drawn(epoch, shard, at, sample)
        counts.put(shard, at + 1)


def mixed(part: Callable[[int], Iterator[Thing]], window: int, seed: int, first: int) -> Iterator[Thing]:
    """Things in an order mixed over a window, from the one at place `first` of that order on.

    Thing i gets the key i + c, where c is chance below `window`, a function of (seed, i); the order is that of keys.
    As soon as thing j is read, all with keys up to j may go out: later ones have larger keys. So no more than `window`
    are held, nothing waits for a buffer to fill, and whatever stands before `first - window` is out by then.
    """
    start = max(0, first - window + 1)
    held, passed = [], first - start
    for place, thing in enumerate(part(start), start):
        heapq.heappush(held, (place + mix(seed, place) % window, place, thing))
        while held and held[0][0] <= place:
            thing = heapq.heappop(held)[2]
            if passed:
                passed -= 1
            else:
                yield thing


def steady(
    things: Iterator[Drawn], window: int, open_: Callable[[Drawn], Any], report: Callable[[Drawn, str], None]
) -> Iterator[tuple[Drawn, Any]]:
    """One sample for each thing, so that places do not shift: for a bad one, that of the next good one. In a long row
    of bad ones, such as the rest of a damaged shard, the next `SPREAD` good ones take turns, so that one does not fill
    whole batches. What takes a place is a function of what comes after it: the same again after a restart.
    """
    good: deque[tuple[int, Drawn, Any]] = deque()  # opened, not passed yet: each with the number of bad ones before
    bad, since = 0, -1  # behind the last good one: so many, from this epoch on

    def look() -> None:
        nonlocal bad, since
        thing = next(things)
        try:
            good.append((bad, thing, open_(thing)))
            bad = 0
        except BadImage as error:
            report(thing, str(error))
            bad, since = bad + 1, since if bad else thing.epoch
            every = bad > 2 * window and thing.epoch > since + 2  # sample was tried: epochs mix within the window
            if bad > TRIES or every:
                text = f"{many(bad, 'sample')} in a row cannot be used, the last: {error}"
                raise DataError(f"{text}; they are listed in bad_files.txt") from error

    while True:
        while not good:
            look()
        for distance in range(good[0][0], 0, -1):
            place = distance % SPREAD if distance > NEAR else 0
            while len(good) <= place:
                look()
            yield good[place][1:]
        yield good.popleft()[1:]


def number(label: str | None, classes: list[str] | None) -> int:
    """A label as a number: its index in the classes, or its own value; otherwise -1."""
    if label is None:
        return -1
    if classes is not None:
        return classes.index(label) if label in classes else -1
    return int(label) if label.isascii() and label.isdigit() else -1


class _Reader(IterableDataset):
    def __init__(self, loader: StreamLoader, first: int):
        self.loader, self.first = loader, first

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        try:
            yield from self.loader.batches(worker.id if worker else 0, self.first)
        except UserError as error:
            yield error


def _raised(batches: Iterator[Any]) -> Iterator[Batch]:
    """An error raised in a worker would come with the worker's traceback, so it comes as a value."""
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch
