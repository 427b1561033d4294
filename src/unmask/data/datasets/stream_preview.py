"""A stream seen through a few samples of it held in memory: for its data sheet, its length, and images by number."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from unmask.data.captions.tokens import Captions
from unmask.data.datasets.images import Samples
from unmask.data.shards.buffer import Held, Named
from unmask.data.shards.stream import COUNTS, Stream
from unmask.data.sheet import Sheet
from unmask.errors import DataError

LOOKED, LOOKED_SHARDS, LOOKED_BYTES = 1024, 4, 128 << 20  # what a data sheet is made from, at the most
SORTED, FEW_PAIRS = 0.9, 64  # share of neighbours with one label that looks sorted; pairs below which nothing is said
ASKED = 64  # shards whose number of samples is asked for


@dataclass(frozen=True)
class Glimpse:
    """The beginnings of a few shards, and estimates for the whole stream."""

    held: Held
    count: int  # samples of the stream
    how: str  # the number is known: exact, from an index, or an estimate
    remark: str  # how that is known, for people

    def amend(self, sheet: Sheet, stream: Stream) -> Sheet:
        """Turns the data sheet of the held samples into one of the stream."""
        changes = {"where": stream.where, "count": self.count, "fingerprint": stream.fingerprint()}
        return replace(sheet, **changes, remarks=[self.remark, *stream.remarks, *self._sorted(), *sheet.remarks])

    def _sorted(self) -> list[str]:
        labels = [item.label for item in self.held.items]
        pairs = [(a, b) for a, b in pairwise(labels) if a is not None and b is not None]
        alike = sum(a == b for a, b in pairs) / max(1, len(pairs))
        if len(pairs) < FEW_PAIRS or alike < SORTED:
            return []
        return [
            f"{alike:.0%} of neighbours have the same label: where shards are sorted by class, batches hold few classes"
            " however they are mixed; write them in random order (docs/streams.md)"
        ]


def glimpse(stream: Stream, most: int = LOOKED) -> Glimpse:
    """Reads at most `most` samples (and 128 MiB) from the beginnings of up to four shards, spread over all."""
    num = len(stream.shards)
    chosen = sorted({i * num // LOOKED_SHARDS for i in range(LOOKED_SHARDS)})
    share, room = -(-most // len(chosen)), LOOKED_BYTES // len(chosen)
    named: list[Named] = []
    seen: dict[int, tuple[int, bool, int]] = {}  # shard -> samples read, to the end or not, bytes up to there
    for shard in chosen:
        count, size, end, whole = 0, 0, 0, True
        for sample in stream.samples(shard):
            if count >= share or size >= room:
                whole = False
                break
            count, end = count + 1, sample.end
            size += len(sample.data) if isinstance(sample.data, bytes) else 0
            named.append((stream.name(shard, sample), sample, None))
        seen[shard] = count, whole, end
    if not named:
        raise DataError(f"no samples in {stream.where}: the {len(chosen)} shards looked into are empty")
    count, how = _count(stream, seen)
    begins = f"the first {len(named):,} of" if len(chosen) == 1 else f"{len(named):,} from the beginnings of"
    shards = f"{len(chosen)} of {num:,} shards" if num > 1 else "1 shard"
    return Glimpse(
        Held(stream.where, named, stream.plural, stream.modality),
        count,
        how,
        f"looked at {begins} {shards}; the number of all is {how}",
    )


class StreamSamples:
    """The interface of `Samples` for a stream: its length, and images by index, for which the held samples stand in,
    spread over the whole length."""

    def __init__(self, stream: Stream, held: Samples, count: int):
        self.stream, self.held, self.count = stream, held, count
        self.names = _Spread(self)
        self.max_side = held.max_side
        self.bad: Path | None = None  # file in which bad samples are listed
        self.counts: Path | None = None  # file in which the lengths of shards are kept

    def __len__(self) -> int:
        return self.count

    @property
    def captions(self) -> Captions:
        """Of the held samples, from which the tokenizer is learnt."""
        return self.held.captions

    @property
    def channels(self) -> int:
        return self.held.channels

    @channels.setter
    def channels(self, channels: int) -> None:
        self.held.channels = channels

    def image(self, i: int) -> Any:
        return self.held.image(self.place(i))

    def megabytes(self, window: int) -> float:
        """What a window of this many samples takes in memory: half of it is held on average."""
        assert isinstance(self.held.source, Held)
        sizes = [len(sample.data or b"") for sample in self.held.source.samples]
        return window / 2 * sum(sizes) / len(sizes) / 2**20

    def place(self, i: int) -> int:
        """Which of those held stands for number `i` of the stream."""
        return i * len(self.held) // self.count

    def report_bad_to(self, path: str | Path) -> None:
        """Makes every process add samples that turn out bad to this file, each once."""
        self.bad, self.counts = Path(path), Path(path).with_name(COUNTS)


class _Spread(Sequence[str]):
    def __init__(self, samples: StreamSamples):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: Any) -> Any:
        return self.samples.held.names[self.samples.place(i)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples.held.names)


def _count(stream: Stream, seen: dict[int, tuple[int, bool, int]]) -> tuple[int, str]:
    """The number of samples, and how it is known."""
    whole_counts = {shard: count for shard, (count, whole, _) in seen.items() if whole}
    every = len(stream.shards) <= ASKED or not stream.exact
    ask = [shard for shard in (range(len(stream.shards)) if every else seen) if shard not in whole_counts]
    sure = stream.exact or not ask
    with ThreadPoolExecutor(8 if stream.exact else 1) as pool:
        whole_counts |= {shard: told for shard, told in zip(ask, pool.map(stream.count, ask)) if told is not None}
    if len(whole_counts) == len(stream.shards):
        return max(1, sum(whole_counts.values())), "exact" if sure else "from an index beside them"
    counts = {shard: whole_counts.get(shard, count) for shard, (count, _, _) in seen.items()}
    sizes = {s: (stream.shards[s].size or 0) if s in whole_counts else end for s, (_, _, end) in seen.items()}
    measured = sum(sizes.values())
    per_byte = sum(counts[s] for s in sizes if sizes[s]) / measured if measured else None
    per_shard = sum(counts.values()) / len(counts)
    total = 0.0
    for number, shard in enumerate(stream.shards):
        total += whole_counts.get(number, per_byte * shard.size if per_byte and shard.size else per_shard)
    return max(1, round(total)), "an estimate from their bytes"
