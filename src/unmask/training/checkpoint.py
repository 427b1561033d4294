"""Checkpoints: written to a temporary file, flushed to disk, read back and compared, then renamed.

A checkpoint is the file that `torch.save` writes, followed by a footer of 64 bytes: a few facts about it and the
SHA-256 of everything before the checksum. `torch.load` ignores what follows its zip archive.
"""

import contextlib
import errno
import hashlib
import math
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from unmask.data.limits import require_modest_pickle
from unmask.errors import UserError
from unmask.files import write_atomically

MAGIC, DIGEST = b"unmask01", 32
FOOTER = struct.Struct("<8sqq?7x")  # magic, step, saves, good; then the checksum


class Damaged(Exception):
    """A checkpoint is damaged; the text says how."""


class Facts(NamedTuple):
    """Facts about a checkpoint that can be read without loading it."""

    step: int | float  # optimizer steps made; infinite if unknown
    saves: int | float  # saves of this run up to and including this one
    good: bool  # saved after a step that counted


def facts_of(state: dict[str, Any]) -> Facts:
    """Those of a state that is about to be saved."""
    return Facts(state["step"], state["saves"], not state["bad_in_row"])


def write_state(path: Path, content: dict[str, Any], facts: Facts, ready: Callable[[], object] = lambda: None) -> None:
    """Writes a checkpoint. The file is read back and compared with what was written; only then `ready` is called and
    the file gets its final name.

    Raises OSError if that fails; the previous file at `path` is then untouched.
    """

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            hashing: Any = _Hashing(file)
            torch.save(content, hashing)
            hashing.write(FOOTER.pack(MAGIC, *facts))
            file.write(hashing.digest.digest())
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
        require_modest_pickle(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        raise Damaged(f"{type(error).__name__}: {str(error).splitlines()[0][:120]}") from error


def verify(path: Path) -> None:
    """Raises Damaged unless every byte is the one that was written."""
    digest = hashlib.sha256()
    try:
        read_facts(path)
        with open(path, "rb") as file:
            left = path.stat().st_size - DIGEST
            while left and (block := file.read(min(2**22, left))):
                digest.update(block)
                left -= len(block)
            written = file.read()
    except OSError as error:
        raise Damaged(error.strerror or type(error).__name__) from error
    if written != digest.digest():
        raise Damaged("it does not match its checksum")


def read_facts(path: Path) -> Facts:
    """The facts in the footer of a checkpoint. Raises Damaged if there is no footer, OSError if there is no file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - DIGEST - FOOTER.size))
        footer = file.read(FOOTER.size)
    magic, *facts = FOOTER.unpack(footer) if len(footer) == FOOTER.size else (b"",)
    if magic != MAGIC:
        raise Damaged("its end is missing, or unmask did not write it")
    return Facts(*facts)


class _Hashing:
    """A writable file that computes the checksum of everything written to it."""

    def __init__(self, file: IO[bytes]):
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


LAST, BEST = "last.ckpt", "best.ckpt"
MOMENTS = "optimizer"  # the entry that copies of the weights alone lack
ASIDE = ".damaged"  # ends the name of a checkpoint that is damaged, so that it is never taken for a good one
LEFT = ".left"  # ends the name of a checkpoint newer than the one that a user went back to


def before_last(number: int) -> str:
    """Name of the checkpoint saved `number` saves before the last one."""
    return f"last.{number}.ckpt" if number else LAST


def lasting(step: int) -> str:
    """Name of a checkpoint that is never removed."""
    return f"step_{step:08d}.ckpt"


def begun(out: Path) -> bool:
    """True if the run has saved a checkpoint."""
    return any(out.glob("*.ckpt"))


def candidates(out: Path) -> list[Path]:
    """All checkpoints: `last.ckpt` first (even if a user put an older one there), then the others, newest first."""
    return sorted(sorted(out.glob("*.ckpt")), key=lambda path: (path.name != LAST, -facts_in(path).saves))


def facts_in(path: Path) -> Facts:
    """Facts from a checkpoint's footer; for a damaged one, from its name."""
    with contextlib.suppress(OSError, Damaged):
        return read_facts(path)
    number = path.stem.rpartition("_")[2]
    if path.name == LAST:
        return Facts(math.inf, math.inf, True)
    return Facts(int(number) if number.isdigit() else 0, 0, True)


def aloud(path: Path, reason: str) -> None:
    """Says on stderr that a checkpoint was passed over."""
    print(f"{path} is damaged: {reason}. It is passed over, for the checkpoint before it.", file=sys.stderr)


def newest(out: Path, say: Callable[[Path, str], Any] = aloud) -> Path | None:
    """The newest undamaged checkpoint of a run; None if it has no checkpoints. `say` is called for each damaged one.

    Raises UserError if all checkpoints are damaged.
    """
    return next((path for path, _ in undamaged(candidates(out), say, verify)), None)


def read_newest(out: Path, say: Callable[[Path, str], Any] = aloud) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint and its contents on the CPU; otherwise like `newest`."""
    return next(undamaged(candidates(out), say, read_state), None)


def undamaged(
    paths: list[Path], say: Callable[[Path, str], Any], read: Callable[[Path], Any]
) -> Iterator[tuple[Path, Any]]:
    newest, broken = 0, []
    for path in paths:
        try:
            content = read(path)
        except Damaged as error:
            broken.append(path.name)
            say(path, str(error))
            continue
        newest += 1
        yield path, content
    if broken and not newest:
        which = f"{' and '.join(broken)} in {paths[0].parent} {'is' if len(broken) == 1 else 'are'} damaged"
        raise UserError(
            f"{which}, and there is no other checkpoint. Put a copy of one in its place, or start again in a new folder"
        )
