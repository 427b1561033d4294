"""Limits for files from anywhere: archives that unpack without end, pickles that cost the reader hours."""

import bz2
import gzip
import lzma
import pickletools
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

FREE = 256 << 20  # bytes that anything may unpack to
RATIO = 200  # times its packed size that it may unpack to beyond that; images in archives reach 20, masks 100
HEADER = 1 << 20  # bytes of a tar's long name or table of facts
PICKLE, EXPANDED = 64 << 20, 1 << 20  # bytes of a pickle of tensors, and values in one of its tuples, all told
_PACKED: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open),
)  # fmt: skip
_LONG = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class Bomb(ValueError):
    """A file that would take far more time or memory than its size says; the text says what it would unpack to."""


def require_modest(packed: int, plain: int) -> None:
    """Raises Bomb for so many bytes packed in so few."""
    if plain > max(FREE, RATIO * packed):
        raise Bomb(f"{packed:,} bytes unpack to {plain:,} or more, which no honest file does")


def require_modest_zip(path: Path | str) -> None:
    """Raises Bomb for a zip file (.npz, .pth) that unpacks to far more than it is; passes over other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return  # whoever reads it will say what is wrong
    require_modest(Path(path).stat().st_size, size)


class Unpacked:
    """A file that is packed as a whole, read in parts as what is packed in it; Bomb where that grows out of measure."""

    def __init__(self, packed: Any, plain: Any):
        self.packed, self.plain, self.size = packed, plain, 0

    def read(self, size: int) -> bytes:
        try:
            block = self.plain.read(size)
        except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            raise tarfile.ReadError(str(error)) from error
        except OSError as error:
            if error.errno is None:  # bz2's word for damage
                raise tarfile.ReadError(str(error)) from error
            raise
        self.size += len(block)
        require_modest(self.packed.tell(), self.size)
        return block


def unpacked(file: Any) -> Any:
    """A buffered file itself, or what is packed in it by gzip, bzip2 or xz, to be read in parts."""
    head = file.peek(6)
    unpack = next((unpack for magic, unpack in _PACKED if head.startswith(magic)), None)
    return file if unpack is None else Unpacked(file, unpack(file, "rb"))


class ShortHeaders(tarfile.TarInfo):
    """Members of a tar whose names and tables of facts are of sane length: tarfile reads them whole into memory."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "ShortHeaders":
        """Raises tarfile.ReadError."""
        info = super().frombuf(buf, encoding, errors)
        if info.type in _LONG and info.size > HEADER:
            raise tarfile.ReadError(f"a header of {info.size:,} bytes")
        return info


def leads_out(name: str) -> bool:
    """Whether the name of an archive's member is absolute or climbs out of the archive."""
    parts = name.replace("\\", "/").split("/")
    return not parts[0] or ".." in parts or parts[0].endswith(":")


def require_modest_pickle(path: Path) -> None:
    """Raises Bomb for a file of torch.save that would keep even a reader that runs nothing busy, or fill the memory.

    Tuples that hold the same tuple twice, twice, ... are a few bytes, and a dictionary that has one as a key hashes all
    that they stand for: 40 levels are hours.
    """
    require_modest_zip(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith("data.pkl")]
            pickles = [archive.read(member) for member in members if member.file_size <= PICKLE]
        if len(pickles) < len(members):
            raise Bomb(f"its pickle has more than {PICKLE:,} bytes")
        for content in pickles:
            _require_short_tuples(pickletools.genops(content))
    except zipfile.BadZipFile:
        with open(path, "rb") as file:
            try:
                for _ in range(5):  # torch's old form: three small pickles, the content, the keys of what follows
                    _require_short_tuples(islice(pickletools.genops(file), PICKLE // 16))
            except Bomb:
                raise
            except Exception:  # no such file, which torch will say
                return


def _require_short_tuples(operations: Any) -> None:
    """Runs the stack of a pickle with sizes in place of values. Raises Bomb for a tuple that stands for too many."""
    stack: list[int] = []  # sizes; -1: a mark
    memo: dict[Any, int] = {}
    try:
        for operation, argument, _ in operations:
            name = operation.name
            if name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo.get(argument, 1))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if argument is None else argument] = stack[-1]
            elif name == "MARK":
                stack.append(-1)
            else:
                taken = _taken(stack, operation.stack_before)
                grows = name.startswith("TUPLE") or name in ("REDUCE", "NEWOBJ", "BUILD", "DUP")
                size = 1 + sum(taken) if grows else 1
                if size > EXPANDED:
                    raise Bomb("its tuples stand for more values than any weights need")
                stack += [size] * len(operation.stack_after)
    except (IndexError, ValueError) as error:  # no sound pickle, which its reader will say
        if isinstance(error, Bomb):
            raise


def _taken(stack: list[int], before: list[Any]) -> list[int]:
    """Takes off the stack what an operation takes: so many values, and all above a mark."""
    taken = []
    if pickletools.markobject in before:
        while (size := stack.pop()) != -1:
            taken.append(size)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        taken.append(stack.pop())
    return taken
