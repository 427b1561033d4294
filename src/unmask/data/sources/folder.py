"""Images in a folder, at any depth. Class and split folders and a labels.csv are understood (see `layout`)."""

import os
from collections import deque
from collections.abc import Iterator

from unmask.data.codecs.signature import HEAD, other_kind, sniff
from unmask.data.labels import PACK, arrange, find_tables, is_hidden, is_image_name, natural, printable
from unmask.data.shards.expand import names_shards
from unmask.data.source import Source, read_regular, stamp_of
from unmask.files import MARK

__all__ = ["Folder"]


class Folder(Source):
    """Files with an image's extension, and others that begin as images do. Hidden names are passed over, and folders
    inside that a command of ours wrote: a run among its own images is no data.

    Linked folders are followed, each real folder once, so that a link in a circle ends.
    """

    def __init__(self, path: str):
        super().__init__(path)
        self.root = os.path.abspath(os.path.expanduser(path))
        self.paths = sorted(self._walk(), key=natural)
        tables = find_tables(self.paths, lambda path: os.path.isfile(os.path.join(self.root, path)))
        self.ignored -= len(tables)  # they were passed over as no images, but are of use
        layout = arrange(self.paths, [(table, read_regular(os.path.join(self.root, table))) for table in tables])
        self.items = layout.items
        self.remarks += layout.remarks
        self.plural, self.multi_label = layout.plural, layout.multi_label

    @classmethod
    def accepts(cls, path: str) -> bool:
        path = os.path.expanduser(path)
        packed = os.path.isfile(os.path.join(path, PACK))
        return os.path.isdir(path) and not packed and not names_shards(path)

    def read(self, index: int) -> bytes:
        return read_regular(os.path.join(self.root, self.paths[index]))

    def stamp(self, index: int) -> str | None:
        return stamp_of(os.path.join(self.root, self.paths[index]))

    def _walk(self) -> Iterator[str]:
        """Relative paths of candidate files; real folders first, so that their images are not named after a link."""
        folders, links = deque([""]), deque()
        seen: set[tuple[int, int]] = set()
        while folders or links:
            folder = folders.popleft() if folders else links.popleft()
            try:
                status = os.stat(os.path.join(self.root, folder))
                with os.scandir(os.path.join(self.root, folder)) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self.remarks.append(f"the folder {printable(folder or '.')} cannot be listed: {error.strerror}")
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if folder and any(entry.name in (MARK, PACK) for entry in entries):
                self.remarks.append(f"the folder {printable(folder)} was written by unmask and is no part of the data")
                continue
            for entry in (entry for entry in entries if not is_hidden(entry.name)):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if is_image_name(entry.name):
                    yield path
                elif _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(path)
                elif sniff((head := _head(entry))[:32]) is not None:
                    yield path
                else:
                    self.ignored += 1
                    self.other_kinds.update(filter(None, [other_kind(entry.name, head)]))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _head(entry: os.DirEntry[str]) -> bytes:
    try:
        if not entry.is_file() or not entry.stat().st_size:  # files of /proc are empty, and reading some never ends
            return b""
        with open(entry.path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
