"""Samples of a stream held in memory, so that they can be read in any order, like any other source."""

from collections.abc import Sequence

import numpy as np

from unmask.data.codecs.image import BadImage
from unmask.data.modality import IMAGE, Modality, make_modality
from unmask.data.shards.stream import Sample, Stream, further_files
from unmask.data.source import Item, Source, has_several
from unmask.errors import DataError

Named = tuple[str, Sample, str | None]  # full name, sample, split


class Held(Source):
    """Samples of a stream by number."""

    def __init__(self, where: str, named: Sequence[Named], plural: bool = False, modality: Modality | None = None):
        super().__init__(where)
        self.modality = modality or make_modality(IMAGE)
        self.samples = [sample for _, sample, _ in named]
        self.items = [Item(name, sample.label, split, sample.columns) for name, sample, split in named]
        self.remarks = further_files(self.samples, self.modality)
        self.plural, self.multi_label = plural, plural and has_several(item.label for item in self.items)

    @classmethod
    def accepts(cls, path: str) -> bool:
        return False  # made from a stream, not from a place

    def read(self, index: int) -> bytes | np.ndarray:
        sample = self.samples[index]
        if sample.problem or sample.data is None:
            raise BadImage(sample.problem or f"no {self.modality.word}")
        return sample.data


def hold(stream: Stream, most_bytes: int) -> Held:
    """All samples of a small stream. Raises DataError early for a large one."""
    stated_bytes = sum(shard.size or 0 for shard in stream.shards)
    named, size = [], 0
    if stated_bytes <= most_bytes:
        for shard, info in enumerate(stream.shards):
            for sample in stream.samples(shard):
                named.append((stream.name(shard, sample), sample, info.split))
                size += len(sample.data) if isinstance(sample.data, bytes) else 0
                if size > most_bytes:
                    break
    if max(stated_bytes, size) > most_bytes:
        raise DataError(
            f"{stream.where} is {max(stated_bytes, size) / 2**30:,.1f} GiB or more, too large to be read at random:"
            f" up to {most_bytes / 2**30:g} GiB are held in memory. Name fewer shards, or unpack it into a folder;"
            " unmask pretrain reads it as it comes"
        )
    if not any(split == "train" for _, _, split in named):
        named = [(name, sample, None) for name, sample, _ in named]
    return Held(stream.where, named, stream.plural, stream.modality)
