"""Samples in a zip or tar archive, read in place: nothing is unpacked to a visible folder."""

import io
import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from dataclasses import replace

from unmask.data.captions.table import COLUMN, LONG, beside_images, find_caption_tables, with_captions
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.signs import Head
from unmask.data.kinds import Sorting
from unmask.data.labels import arrange, find_tables, is_hidden, natural, printable
from unmask.data.limits import ShortHeaders, leads_out, require_modest, unpacked
from unmask.data.modality import IMAGE
from unmask.data.source import Item, Source
from unmask.errors import DataError, UserError

__all__ = ["Archive"]

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
START = 1 << 16  # bytes that tell scenes from other images
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, ValueError, NotImplementedError)


class Archive(Source):
    """Zip by its directory; tar by offset and size. A packed tar is unpacked once into a temporary file, which goes
    when the process that made it ends. Hidden names and __MACOSX are passed over."""

    sorts = True

    def __init__(self, path: str, kind: str | None = IMAGE):
        super().__init__(path, kind)
        file = os.path.abspath(os.path.expanduser(path))
        try:
            self.members = _Zip(file) if zipfile.is_zipfile(file) else _Tar(file)
            names, remarks = self._candidates(kind)
            shown = {self._path(name): name for name in self.members.files}
            paths = sorted((self._path(name) for name in names if not leads_out(name)), key=natural)
            self.names = [shown[path] for path in paths]
            tables = [(table, self.members.read(shown[table])) for table in find_tables(paths, shown.__contains__)]
            captions = find_caption_tables(paths, shown.__contains__)
            captions = [(table, self.members.read(shown[table])) for table in captions]
            beside = {}
            if isinstance(self.members, _Tar):  # shards; in zips text beside images is mostly boxes
                beside = beside_images(paths, shown, lambda path: self._text(shown[path]))
        except UserError:  # what is asked for cannot be had; no damage, though it is a ValueError too
            raise
        except _DAMAGE as error:
            raise DataError(f"{path} is damaged or no archive ({error or type(error).__name__})") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
        self.ignored -= len(tables) + len(captions) + len(beside)  # they are no images, but of use
        layout = arrange(paths, tables, self.modality.word)
        told = [
            replace(item, columns=item.columns | {COLUMN: beside[path]}) if path in beside else item
            for item, path in zip(layout.items, paths)
        ]
        items, said = with_captions(told, paths, captions)
        outside = [name for name in names if leads_out(name)]
        self.names += outside
        self.items = [*items, *(Item(printable(name)) for name in outside)]
        self.remarks = [*remarks, *layout.remarks, *said]
        self.plural, self.multi_label = layout.plural, layout.multi_label

    @classmethod
    def accepts(cls, path: str) -> bool:
        path = os.path.expanduser(path)
        if not os.path.isfile(path) or path.lower().endswith((".npz", ".npy")):  # an .npz is a zip of arrays
            return False
        return path.lower().endswith(ENDINGS) or zipfile.is_zipfile(path)

    def read(self, index: int) -> bytes:
        if leads_out(self.names[index]):
            raise BadImage("its name leads out of the archive")
        return self.members.read(self.names[index])

    def _path(self, name: str) -> str:
        """A member's path as it is shown; some programs write backslashes into zips."""
        return (name.replace("\\", "/") if isinstance(self.members, _Zip) else name).removeprefix("./")

    def _candidates(self, kind: str | None) -> tuple[list[str], list[str]]:
        """Names of the members that are samples, and remarks on others."""
        sorting = Sorting(kind)
        for name in self.members.files:
            if not any(is_hidden(part) for part in self._path(name).split("/") if part not in (".", "..")):
                sorting.put(name, lambda name=name: self._head(name))
        self.modality, names = sorting.choose(self.where)
        groups, remarks = self.modality.grouped(names, None)
        names = [name for group in groups for name in group]
        self.ignored, self.other_kinds = sorting.ignored, sorting.others
        return names, [*sorting.remarks(self.modality), *remarks]

    def _text(self, name: str) -> bytes:
        try:
            return self.members.read(name, LONG)
        except BadImage:
            return b""

    def _head(self, name: str) -> Head:
        try:
            return Head.of(io.BytesIO(self.members.read(name, START)))
        except BadImage:  # encrypted or damaged, and nothing says that it is an image
            return Head()


class _Zip:
    def __init__(self, path: str):
        self.path = path
        self.open: dict[int, zipfile.ZipFile] = {}
        self.lock = threading.Lock()
        names = [info.filename for info in self._zip().infolist()]
        self.files = {name: None for name in names if not name.endswith(("/", "\\"))}

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "files": self.files}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, open={}, lock=threading.Lock())

    def read(self, name: str, size: int = -1) -> bytes:
        try:
            member = self._zip().getinfo(name)
            require_modest(member.compress_size, member.file_size)
            with self._zip().open(name) as file:
                return file.read(size)
        except RuntimeError as error:  # zipfile's word for a password
            raise BadImage("encrypted") from error
        except _DAMAGE as error:
            raise BadImage(f"damaged in the archive ({error})") from error

    def _zip(self) -> zipfile.ZipFile:
        """One per process: a handle that came through a fork shares its place in the file with the parent."""
        pid = os.getpid()
        if pid not in self.open:
            with self.lock:
                if pid not in self.open:
                    self.open[pid] = zipfile.ZipFile(self.path)
        return self.open[pid]


class _Tar:
    def __init__(self, path: str):
        self.path = _plain_tar(path)
        if self.path != path:
            self.path, held = _nameless(self.path)
            weakref.finalize(self, _let_go, self.path, held, os.getpid())
        self.files: dict[str, tuple[int, int] | str] = {}  # name -> offset and size, or why it cannot be read
        self.open: dict[int, int] = {}
        self.lock = threading.Lock()
        size = os.path.getsize(self.path)
        links = {}
        with tarfile.open(self.path, "r:", tarinfo=ShortHeaders) as tar:
            for member in tar:
                if member.issparse():
                    self.files[member.name] = "a sparse file, which is not read from an archive"
                elif member.isreg():
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError("unexpected end of data")
                    self.files[member.name] = (member.offset_data, member.size)
                elif member.islnk():
                    links[member.name] = member.linkname
                elif member.issym():
                    links[member.name] = posixpath.normpath(
                        posixpath.join(posixpath.dirname(member.name), member.linkname)
                    )
                elif not member.isdir():
                    self.files[member.name] = "not a regular file"
        for name, target in links.items():
            self.files[name] = self.files.get(target, "not a regular file (a broken link)")

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "files": self.files}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, open={}, lock=threading.Lock())

    def read(self, name: str, size: int = -1) -> bytes:
        place = self.files[name]
        if isinstance(place, str):
            if size < 0:
                raise BadImage(place)
            return b""
        offset, whole = place
        return _read_at(self._handle(), whole if size < 0 else min(size, whole), offset, self.lock)

    def _handle(self) -> int:
        pid = os.getpid()
        if pid not in self.open:
            with self.lock:
                if pid not in self.open:
                    self.open[pid] = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                    weakref.finalize(self, _close, self.open[pid], pid)
        return self.open[pid]


def _read_at(handle: int, size: int, offset: int, lock: threading.Lock) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    with lock:  # Windows has no pread: seek and read as one step
        os.lseek(handle, offset, os.SEEK_SET)
        return os.read(handle, size)


def _plain_tar(path: str) -> str:
    """`path` itself, or a temporary file with what is packed in it."""
    with open(path, "rb") as file:
        content = unpacked(file)
        if content is file:
            return path
        handle, plain = tempfile.mkstemp(prefix="unmask-", suffix=".tar")
        try:
            with open(handle, "wb") as target:
                shutil.copyfileobj(content, target, 1 << 20)
        except BaseException:  # Ctrl-C too must not leave gigabytes behind
            os.unlink(plain)
            raise
    return plain


def _nameless(path: str) -> tuple[str, int | None]:
    """On Linux the file loses its name at once, so that even a killed process leaves nothing behind: workers, forked
    or spawned, reach it through the open handle of this process. Elsewhere it keeps its name."""
    handle = os.open(path, os.O_RDONLY)
    by_handle = f"/proc/{os.getpid()}/fd/{handle}"
    if not os.path.exists(by_handle):
        os.close(handle)
        return path, None
    os.unlink(path)
    return by_handle, handle


def _let_go(path: str, held: int | None, pid: int) -> None:
    if os.getpid() != pid:  # a worker process inherits this duty and must not carry it out
        return
    if held is None:
        os.unlink(path)
    else:
        os.close(held)


def _close(handle: int, pid: int) -> None:
    if os.getpid() == pid:
        os.close(handle)
