"""One command at a time writes into a folder. A lock ends with its process, however that ends: none is ever stale.

The lock is the system's own (fcntl.lockf), on a small file that says whose it is. It is not inherited by worker
processes, and reaches other machines where the disk they share knows locks. The file stays in folders that a command
made: it also says that these are no data.
"""

import contextlib
import json
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from unmask.errors import UserError
from unmask.files import MARK, parse_json

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


class Locks:
    """Those of a command: `with Locks():` around it, `Locks.hold(...)` in it; all end with the block."""

    open: ClassVar[list["Locks"]] = []  # of commands that call each other

    def __init__(self):
        self.held: dict[tuple[int, int], tuple[int, Path, bool]] = {}  # file -> handle, its path, whether it stays
        self.made: list[Path] = []  # folders that were made for a lock

    def __enter__(self) -> "Locks":
        Locks.open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        Locks.open.remove(self)
        for handle, path, stays in self.held.values():
            with contextlib.suppress(OSError):
                if not stays or [*path.parent.iterdir()] == [path]:  # a refused command leaves nothing behind
                    path.unlink()
                else:
                    os.ftruncate(handle, 0)  # a folder that is given away does not name this machine
            os.close(handle)
        for folder in reversed(self.made):
            with contextlib.suppress(OSError):
                folder.rmdir()  # where it is empty

    def take(self, path: Path, command: str, stays: bool) -> None:
        """Raises UserError with whose the lock is."""
        if fcntl is None:
            return
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 4096)
            os.close(handle)
            raise UserError(_refusal(path.parent, owner)) from error
        except OSError:  # a disk that knows no locks
            os.close(handle)
            return
        status = os.fstat(handle)
        if not path.exists() or path.stat().st_ino != status.st_ino:  # its owner ended and took it away just now
            os.close(handle)
            return self.take(path, command, stays)
        self.held[status.st_dev, status.st_ino] = handle, path, stays
        facts = {"command": command, "process": os.getpid(), "host": platform.node()}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(facts | {"since": datetime.now().astimezone().isoformat(" ", "seconds")}).encode())
        return None


def hold(out: Path, command: str, *, within: bool = False) -> None:
    """Until the command ends, no other writes into the folder, which is made where it is not there.

    within: the folder is another command's, a run's, and this one adds files of its own to it: it is refused only
    beside itself. Raises UserError where another process holds it, OSError where nothing can be written.
    """
    if not Locks.open:
        return
    locks = Locks.open[-1]
    locks.made += [folder for folder in [*reversed(out.parents), out] if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    path = out / (f"{MARK}-{command}" if within else MARK)
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        if any((status.st_dev, status.st_ino) in others.held for others in Locks.open):
            return  # this process has it: closing the file again would give it up
    ours = path.exists() or not any(out.iterdir())  # a folder with other things in it is not marked for good
    locks.take(path, command, stays=ours and not within)


def _refusal(folder: Path, owner: bytes) -> str:
    try:
        facts = parse_json(owner)
        who = f"process {facts['process']} on {facts['host']}, unmask {facts['command']}, since {facts['since']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return f"{folder} is being written by {who}. Wait for its end, or give another folder with --out"
