"""Shards where samples are needed in any order (to judge, to embed, to fine-tune): read once and held in memory."""

from unmask.data.modality import IMAGE
from unmask.data.shards.buffer import Held, hold
from unmask.data.shards.expand import names_shards
from unmask.data.shards.stream import open_stream
from unmask.data.source import Source

__all__ = ["Streamed"]

MOST = 2 << 30  # bytes of encoded samples


class Streamed(Held):
    """Tar shards, parquet files, remote places, if together they are small; `unmask pretrain` takes larger ones."""

    sorts = True

    def __init__(self, path: str, kind: str | None = IMAGE):
        stream = open_stream(path, kind=kind)
        held = hold(stream, MOST)
        Source.__init__(self, path)
        self.modality = stream.modality
        self.samples, self.items, self.remarks = held.samples, held.items, [*stream.remarks, *held.remarks]
        self.plural, self.multi_label = held.plural, held.multi_label

    @classmethod
    def accepts(cls, path: str) -> bool:
        return names_shards(path)
