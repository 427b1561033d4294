"""Files written whole or not at all: atomically, with a clear error where there is no room or permission.

Also the names of what lies in a run folder and is read by more than one room.
"""

import contextlib
import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from unmask.errors import UserError

Json = dict[str, Any]  # an object, as it lies on the disk
RESULT = "metrics.json"  # in a folder of transfer: how good the trained model is
MARK = ".unmask"  # in folders that a command writes: whose it is now (runtime/lock.py), and that it is no data
REPORT = "report.html"  # in the folder of a run or of transfer; the last that a finished one writes
LEARNT = "evaluation.safetensors"  # what `evaluate` learnt on frozen features, in the folder of a run
STAGES = "stages"  # in a run folder: a run for each training that came before it
STAGE = "stage.json"  # in the folder of such a run: what it is one of, and what it was made from
TEXT = "text.safetensors"  # what a run learnt of words: see runs/text.py
CLASSIFY = "classify"  # in a run folder: what `transfer --to classify` writes unless told otherwise
NO_ROOM = 2**16  # bytes: with fewer that are free, a disk counts as full
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
    except BaseException as error:
        foreign = isinstance(error, Exception) and not isinstance(error, (OSError, UserError))
        reason = system_error(error, path) if foreign else None
        with contextlib.suppress(OSError):  # on a full disk, half a file is what keeps it full
            part.unlink(missing_ok=True)
        if reason is not None:
            raise reason from error
        raise
    _sync_folder(path.parent)


def write_json(path: Path, content: object) -> None:
    """JSON for people and programs: indented, atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    try:
        data = text.encode()
    except UnicodeEncodeError:  # the name of a file that is no text: JSON can say it in ASCII
        data = (json.dumps(content, indent=2, default=str) + "\n").encode()
    write_atomically(path, lambda part: part.write_bytes(data))


def parse_json(text: str | bytes) -> Any:
    """What JSON says. Raises ValueError, also for a text that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> Json:
    """An object from a JSON file; empty where there is no such file. UserError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, it holds a {type(content).__name__}")
    return content


def is_full(error: OSError) -> bool:
    """Whether something could not be written: no room, no permission, a disk that fails."""
    return error.errno in UNWRITABLE


def no_room(error: OSError) -> bool:
    """Whether the disk, or what the user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def system_error(error: BaseException, path: Path) -> OSError | None:
    """What the system said when `path` could not be written. Libraries that write by themselves make errors of their
    own of it: torch a RuntimeError, safetensors one with the system's number in its text."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    numbers = [cause.errno for cause in chain if isinstance(cause, OSError) and cause.errno]
    numbers += [int(number) for number in re.findall(r"os error (\d+)", str(error))]
    with contextlib.suppress(OSError):
        if isinstance(error, RuntimeError) and shutil.disk_usage(path.parent).free < NO_ROOM:
            numbers.append(errno.ENOSPC)
    return OSError(numbers[0], os.strerror(numbers[0]), str(path)) if numbers else None


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
