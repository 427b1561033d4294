"""Errors that are the user's to mend: the command line prints them as one message, without a traceback."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """Something given to unmask cannot work; the text says what was given, what is allowed and what is near it."""

    exit_code = 2


class NotGiven(UserError):
    """A file names a part from outside of the package, which is not run unless a person gives it."""


class DataError(UserError):
    """The data cannot be used: nothing readable, or too many bad files."""

    exit_code = 3


class Unequal(UserError):
    """An exported file was opened again and does not give what the model gives; it was deleted."""

    exit_code = 5


class Diverged(RuntimeError):
    """Training met non-finite or far too large losses again and again; the last good state is saved."""

    exit_code = 4


class Unsaved(RuntimeError):
    """The last state of a run could not be written: a full disk or a folder that became read-only."""

    exit_code = 6


class Lost(RuntimeError):
    """Another process of a training on several devices ended; what the last checkpoint holds is kept."""

    exit_code = 8


class Interrupted(BaseException):
    """SIGINT (Ctrl-C), SIGTERM or SIGUSR1 arrived. The exit code is 128 + the signal's number.

    No `Exception`, as KeyboardInterrupt is none: what catches the faults of a decoder or a model must not catch it.
    """

    def __init__(self, text: str, signum: int):
        super().__init__(text)
        self.exit_code = 128 + signum

    def __reduce__(self) -> tuple:  # so that it comes back from another process
        return type(self), (str(self), self.exit_code - 128)


def require_whole(name: str, value: object, least: int = 1) -> None:
    """Raises UserError unless an option of a part is a whole number of `least` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is a whole number, {least} or more; got {value!r}")


def require_room(what: str, need: float, memory: float) -> None:
    """Raises UserError for what takes more bytes than there are, by arithmetic, before anything is allocated."""
    if need > memory:
        raise UserError(
            f"{what} takes at least {need / 2**30:,.1f} GB, and this process may use {memory / 2**30:,.1f} GB"
        )


def worker_lost(error: BaseException) -> Lost:
    """For a process that loads data and is no more: killed by hand, by a system short of memory, or by a fault."""
    return Lost(
        f"a process that loads data ended ({' '.join(str(error).split())[:160]}): killed, or out of memory, or of room"
        " in /dev/shm. The same command goes on from what is saved; fewer --workers need less, --workers 0 needs none"
    )


def many(count: int, what: str) -> str:
    """`1 shard`, `2,000 shards`, `3 processes`: a number of things, as a person would write it."""
    ending = "es" if what.endswith("s") else "s"
    return f"{count:,} {what}{ending if count != 1 else ''}"


def closest(word: str, options: Iterable[str]) -> str:
    """Ends a sentence: `, did you mean 'random'?` for the nearest of `options`, or a full stop if none is near."""
    close = difflib.get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else "."


def closest_place(path: Path, others: Iterable[str] = ()) -> str:
    """As `closest`, for a path that leads nowhere, among what lies in its folder, and other names."""
    folder = Path(path).parent
    names = sorted(item.name for item in folder.iterdir() if item.name != path.name) if folder.is_dir() else []
    near = difflib.get_close_matches(Path(path).name, [*names, *others], n=1, cutoff=0.5)
    return f", did you mean {(str(folder / near[0]) if near[0] in names else near[0])!r}?" if near else "."
