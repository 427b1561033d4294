"""Samples named in a text file: a path per line, absolute or relative to that file. Lines with # are left out."""

import os
from dataclasses import replace

from unmask.data.kinds import Sorting
from unmask.data.labels import arrange, printable
from unmask.data.modality import IMAGE, Modality
from unmask.data.names import as_spelled
from unmask.data.regular_files import head_of, read_regular, stamp_of
from unmask.data.source import Source
from unmask.errors import DataError

__all__ = ["Listing"]


class Listing(Source):
    """The paths in the file's order. A path that leads nowhere is a bad file when it is read, and counted as such."""

    sorts = True

    def __init__(self, path: str, kind: str | None = IMAGE):
        super().__init__(path, kind)
        self.root = os.path.dirname(os.path.abspath(os.path.expanduser(path)))
        try:
            text = read_regular(os.path.expanduser(path)).decode("utf-8-sig", "surrogateescape")
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
        lines = [line for line in lines if line and not line.startswith("#")]
        self.paths = list(dict.fromkeys(lines))
        if len(self.paths) < len(lines):
            self.remarks.append(f"{len(lines) - len(self.paths):,} lines name an image again and are left out")
        if kind != IMAGE:
            self.modality = self._sorted(kind)
            groups, remarks = self.modality.grouped(self.paths, None)
            alone = {path for group in groups for path in group}
            self.paths = [path for path in self.paths if path in alone]
            self.remarks += remarks
        names = [path.replace("\\", "/").removeprefix("./").lstrip("/") for path in self.paths]
        layout = arrange(names, word=self.modality.word)
        self.items = [replace(item, name=printable(path)) for item, path in zip(layout.items, self.paths)]
        self.remarks += layout.remarks

    @classmethod
    def accepts(cls, path: str) -> bool:
        path = os.path.expanduser(path)
        return path.lower().endswith((".txt", ".lst", ".list")) and os.path.isfile(path)

    def read(self, index: int) -> bytes:
        return read_regular(self._file(index))

    def path(self, index: int) -> str:
        return self._file(index)

    def stamp(self, index: int) -> str | None:
        return stamp_of(self._file(index))

    def _file(self, index: int) -> str:
        path = os.path.join(self.root, os.path.expanduser(self.paths[index]))
        return as_spelled(path) or path

    def _sorted(self, kind: str | None) -> Modality:
        """What most of the files are; all are kept, so that those of another kind count as bad."""
        sorting = Sorting(kind)
        for index, path in enumerate(self.paths):
            sorting.put(path, lambda index=index: head_of(self._file(index)))
        return sorting.choose(self.where)[0]
