"""Files written whole or not at all: atomically, with a clear error where there is no room or permission.

Also the names of what lies in a run folder and is read by more than one room.
"""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmask.errors import UserError

RESULT = "metrics.json"  # in a folder of transfer: how good the trained model is
CLASSIFY = "classify"  # in a run folder: what `transfer --to classify` writes unless told otherwise
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


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


def is_full(error: OSError) -> bool:
    """Whether something could not be written: no room, no permission, a disk that fails."""
    return error.errno in UNWRITABLE


def _sync_folder(folder: Path) -> None:
    """A renamed file is safe from a power cut only when its folder is on the disk too."""
    if os.name == "posix":
        with contextlib.suppress(OSError):  # some network file systems cannot
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
