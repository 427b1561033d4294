"""Shards where images are needed in any order (to judge, to embed, to fine-tune): read once and held in memory."""

from unmask.data.shards.buffer import Held, hold
from unmask.data.shards.expand import names_shards
from unmask.data.shards.stream import open_stream
from unmask.data.source import Source

__all__ = ["Streamed"]

MOST = 2 << 30  # bytes of encoded images


class Streamed(Held):
    """Tar shards, parquet files, remote places, if together they are small; `unmask pretrain` takes larger ones."""

    def __init__(self, path: str):
        stream = open_stream(path)
        held = hold(stream, MOST)
        Source.__init__(self, path)
        self.samples, self.items, self.remarks = held.samples, held.items, [*stream.remarks, *held.remarks]
        self.plural, self.multi_label = held.plural, held.multi_label

    @classmethod
    def accepts(cls, path: str) -> bool:
        return names_shards(path)
