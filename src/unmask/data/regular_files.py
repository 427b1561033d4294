"""Reads regular files, whole, in part, or only what tells them apart; nothing that could hang or end the process."""

import os
import stat

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.signs import Head


def read_regular(path: str | bytes) -> bytes:
    """A regular file's content. Raises BadImage for anything else, so that no pipe or device can hang the caller."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise BadImage(f"no path of a file ({error})") from error  # a NUL byte
    except OSError as error:
        if os.path.islink(path) and not os.path.exists(path):
            raise BadImage("not a regular file (a broken link)") from error
        if os.path.lexists(path) and not os.path.isfile(path):
            raise BadImage("not a regular file") from error  # sockets and, on some systems, folders
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadImage("not a regular file")
    with open(handle, "rb") as file:
        return file.read()


def read_part(handle: int, start: int, length: int) -> bytearray:
    """So many bytes of an open file, copied: where a mapped file is cut while it is read, the system ends the process.

    Raises BadImage where the file no longer has them."""
    content = bytearray(length)
    done, view = 0, memoryview(content)
    while done < length:
        count = os.preadv(handle, [view[done:]], start + done) if hasattr(os, "preadv") else 0
        if not count:
            raise BadImage("its file was cut after it was opened")
        done += count
    return content


def stamp_of(path: str) -> str | None:
    """Path, size and modification time of a file; None if it does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def head_of(path: str) -> Head:
    """The first bytes of a file, which tell what it is; none where it cannot be read."""
    try:
        if not os.path.isfile(path):
            return Head()
        with open(path, "rb") as file:
            return Head.of(file)
    except OSError:
        return Head()
