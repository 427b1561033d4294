"""One file given by itself, as in `unmask show RUN photo.jpg`."""

import os

from unmask.data.kinds import Sorting
from unmask.data.labels import printable
from unmask.data.modality import IMAGE, kinds
from unmask.data.regular_files import head_of, read_regular
from unmask.data.shards.expand import names_shards
from unmask.data.source import Item, Source

__all__ = ["One"]


class One(Source):
    sorts = True

    def __init__(self, path: str, kind: str | None = IMAGE):
        super().__init__(path, kind)
        self.file = os.path.abspath(os.path.expanduser(path))
        sorting = Sorting(kind)
        sorting.put(self.file, lambda: head_of(self.file))
        self.modality, files = sorting.choose(path)
        self.items = [Item(printable(os.path.basename(self.file)))] if files else []
        self.ignored, self.other_kinds = sorting.ignored, sorting.others

    @classmethod
    def accepts(cls, path: str) -> bool:
        """What some modality claims, images by their extension even where they cannot be read."""
        path = os.path.expanduser(path)
        if os.path.isdir(path) or not os.path.lexists(path) or names_shards(path):
            return False
        head = head_of(path)
        return any(part.claims(path, head) for part in kinds().values())

    def read(self, index: int) -> bytes:
        return read_regular(self.file)

    def path(self, index: int) -> str | tuple[str, ...]:
        paths = self.modality.around(self.file)
        return paths if len(paths) > 1 else next(iter(paths))
