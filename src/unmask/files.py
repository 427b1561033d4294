"""Files written whole or not at all: atomically, with a clear error where there is no room or permission.

Also the names of what lies in a run folder and is read by more than one room.
"""

import contextlib
import csv
import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from unmask.errors import UserError

Json = dict[str, Any]  # an object, as it lies on the disk
RESULT = "metrics.json"  # in a folder of transfer: how good the trained model is
CLASSIFY = "classify"  # in a run folder: what `transfer --to classify` writes unless told otherwise
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` on a hidden name beside `path`, flushes the result to the disk, then renames it to `path`.

    The file gets the permissions that the user's umask gives to new files, whatever `write` gave it: safetensors, for
    instance, makes files that only their owner can read. Raises OSError; `path` is then as it was before.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch()
        mode = part.stat().st_mode
        write(part)
        part.chmod(mode)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk, half a file is what keeps it full
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, content: object) -> None:
    """JSON for people and programs: indented, atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Json:
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


def is_full(error: OSError) -> bool:
    """Whether something could not be written: no room, no permission, a disk that fails."""
    return error.errno in UNWRITABLE


def _sync_folder(folder: Path) -> None:
    """A renamed file survives a power cut only once its folder is on the disk too."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some network file systems cannot
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def write_table(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file; names that are no valid text are written with backslashes."""

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.writer(file)
            table.writerow(heading)
            table.writerows(rows)

    write_atomically(path, write)
