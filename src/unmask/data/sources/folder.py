"""Samples in a folder, at any depth. Class and split folders and a labels.csv are understood (see `layout`)."""

import os
import stat
from collections import deque
from collections.abc import Iterator

from unmask.data.captions.table import find_caption_tables, with_captions
from unmask.data.codecs.scenes.signs import Head
from unmask.data.kinds import Sorting
from unmask.data.labels import PACK, TABLE, arrange, find_tables, is_hidden, is_image_name, natural, printable
from unmask.data.modality import IMAGE
from unmask.data.regular_files import read_regular, stamp_of
from unmask.data.shards.expand import names_shards
from unmask.data.source import Source
from unmask.files import MARK

__all__ = ["Folder"]


class Folder(Source):
    """Files of one kind, images unless said otherwise: by their first bytes, see `kinds.py`. Hidden names are passed
    over, and folders inside that a command of ours wrote: a run among its own images is no data.

    Linked folders are followed, each real folder once, so that a link in a circle ends.
    """

    sorts = True

    def __init__(self, path: str, kind: str | None = IMAGE):
        super().__init__(path, kind)
        self.root = os.path.abspath(os.path.expanduser(path))
        sorting = Sorting(kind)
        for file in self._walk():
            sorting.put(file, lambda file=file: self._head(file))
        self.modality, files = sorting.choose(path, self.root)
        self.ignored, self.other_kinds = sorting.ignored, sorting.others
        self.remarks += sorting.remarks(self.modality)
        self.groups, remarks = self.modality.grouped(sorted(files, key=natural), self.root)
        self.remarks += remarks
        self.paths = self.modality.sample_names(self.groups)
        tables = find_tables(self.paths, self._is_file)
        captions = [(name, self._content(name)) for name in find_caption_tables(self.paths, self._is_file)]
        self.ignored -= len(tables) + len(captions)  # they were passed over as no images, but are of use
        contents = [(table, self._content(table)) for table in tables]
        own = None if tables else self.modality.own_labels(self.root)
        layout = arrange(self.paths, contents if own is None else [(TABLE, own)], self.modality.word)
        self.items, remarks = with_captions(layout.items, self.paths, captions)
        self.remarks += [*layout.remarks, *remarks]
        self.plural, self.multi_label = layout.plural, layout.multi_label

    @classmethod
    def accepts(cls, path: str) -> bool:
        path = os.path.expanduser(path)
        packed = os.path.isfile(os.path.join(path, PACK))
        return os.path.isdir(path) and not packed and not names_shards(path)

    def read(self, index: int) -> bytes:
        first = next(filter(None, self.groups[index]))
        return read_regular(os.path.join(self.root, first))

    def path(self, index: int) -> str | tuple[str, ...]:
        paths = tuple(file and os.path.join(self.root, file) for file in self.groups[index])
        return paths if len(paths) > 1 else next(iter(paths))

    def stamp(self, index: int) -> str | None:
        stamps = [stamp_of(os.path.join(self.root, file)) for file in self.groups[index] if file]
        return None if None in stamps else "\n".join(filter(None, stamps))

    def _walk(self) -> Iterator[str]:
        """Relative paths of files; real folders first, so that their images are not named after a link."""
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
                if not is_image_name(entry.name) and _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(path)
                else:
                    yield path

    def _is_file(self, path: str) -> bool:
        return os.path.isfile(os.path.join(self.root, path))

    def _content(self, path: str) -> bytes:
        return read_regular(os.path.join(self.root, path))

    def _head(self, file: str) -> Head:
        try:
            path = os.path.join(self.root, file)
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or not status.st_size:  # /proc's are empty, and some never end
                return Head()
            with open(path, "rb") as content:
                return Head.of(content)
        except OSError:
            return Head()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
