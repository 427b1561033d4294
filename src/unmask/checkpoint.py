"""Files of a run that must never be half written or silently damaged: written beside, flushed to disk, read again and
compared, then renamed. A checkpoint carries its own SHA-256, as the comment of the zip archive that `torch.save` makes,
so that file and checksum cannot part ways and `torch.load` still opens it.
"""

import contextlib
import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unmask.errors import UserError

END = b"PK\x05\x06"  # what the last record of a zip archive begins with: 22 bytes, then a comment
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


class Damaged(Exception):
    """A checkpoint is not what was written; the text says how that shows."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` on a neighbouring name, then puts the result in the place of `path` in one step."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk, half a file is what keeps it full
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """JSON for people and programs: indented, atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; empty where there is no such file. UserError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, it holds a {type(content).__name__}")
    return content


def write_state(
    path: Path, content: dict[str, Any], facts: dict[str, Any], ready: Callable[[], Any] = lambda: None
) -> None:
    """A checkpoint, sealed with its checksum and a few facts, which `read_seal` finds without reading the rest. What
    the disk gives back is compared with what was written; only then `ready` is called, and the file takes its place.

    Raises OSError where it cannot be written; what was there before then still is.
    """

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            hashing: Any = _Hashing(file)
            torch.save(content, hashing)
            _seal(file, facts, hashing.digest)
        try:
            verify(part)
        except Damaged as error:
            raise OSError(
                errno.EIO, f"the disk gives back other bytes than were written: {error}", str(path)
            ) from error
        ready()

    write_atomically(path, write)


def read_state(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU, verified first. No code in the file is run. Raises Damaged."""
    verify(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise Damaged(f"{type(error).__name__}: {str(error).splitlines()[0][:120]}") from error


def verify(path: Path) -> None:
    """Raises Damaged unless every byte is as it was written. Files without a seal, from before, have zip checksums."""
    try:
        seal = read_seal(path)
        if not seal:
            with zipfile.ZipFile(path) as archive:
                if (name := archive.testzip()) is not None:
                    raise Damaged(f"{name} in it does not fit its checksum")
            return
        digest, left = hashlib.sha256(), path.stat().st_size - seal["comment"] - 2
        with open(path, "rb") as file:
            while left and (block := file.read(min(2**22, left))):
                digest.update(block)
                left -= len(block)
            end = file.read()
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError) as error:
        raise Damaged(f"{str(error) or type(error).__name__}") from error
    digest.update(b"\0\0")  # the length of the comment, as it was before the seal
    facts = {name: value for name, value in seal.items() if name not in ("sha256", "comment")}
    comment = _comment(facts, digest)
    if end != len(comment).to_bytes(2, "little") + comment:
        raise Damaged("it does not fit its checksum")


def read_seal(path: Path) -> dict[str, Any]:
    """The facts and checksum that a checkpoint says of itself, and the bytes these take; empty where it has no seal."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        tail = file.read()
    place = tail.rfind(END)
    comment = tail[place + 22 :]
    if place < 0 or not comment:
        return {}
    return json.loads(comment.decode("utf-8")) | {"comment": len(comment)}


def is_full(error: OSError) -> bool:
    """Whether something could not be written: no room, no permission, a disk that fails."""
    return error.errno in UNWRITABLE


class _Hashing:
    """A file to write to that keeps the checksum of what it was given."""

    def __init__(self, file: Any):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _seal(file: Any, facts: dict[str, Any], digest: Any) -> None:
    comment = _comment(facts, digest)
    file.seek(-2, os.SEEK_END)
    file.write(len(comment).to_bytes(2, "little") + comment)


def _comment(facts: dict[str, Any], digest: Any) -> bytes:
    """digest: of the archive without a comment; the checksum is of that and the facts."""
    digest.update(json.dumps(facts).encode())
    return json.dumps(facts | {"sha256": digest.hexdigest()}).encode()


def _sync_folder(folder: Path) -> None:
    """A renamed file is safe from a power cut only when its folder is on the disk too."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some network file systems cannot
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
