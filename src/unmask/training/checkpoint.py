"""Checkpoints: written to a temporary file, flushed to disk, read back and compared, then renamed.

A checkpoint is the file that `torch.save` writes, followed by a footer of 64 bytes: a few facts about it and the
SHA-256 of everything before the checksum. `torch.load` ignores what follows its zip archive.
"""

import contextlib
import errno
import hashlib
import math
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from unmask.errors import UserError
from unmask.files import is_full, write_atomically

MAGIC, DIGEST = b"unmask01", 32
FOOTER = struct.Struct("<8sqq?7x")  # magic, step, saves, good; then the checksum


class Damaged(Exception):
    """A checkpoint is damaged; the text says how."""


class Facts(NamedTuple):
    """Facts about a checkpoint that can be read without loading it."""

    step: int | float  # optimizer steps made; infinite if unknown
    saves: int | float  # saves of this run up to and including this one
    good: bool  # saved after a step that counted


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
    return sorted(sorted(out.glob("*.ckpt")), key=lambda path: (path.name != LAST, -_facts(path).saves))


def _facts(path: Path) -> Facts:
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
    return next((path for path, _ in _good(candidates(out), say, verify)), None)


def read_newest(out: Path, say: Callable[[Path, str], Any] = aloud) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint and its contents on the CPU; otherwise like `newest`."""
    return next(_good(candidates(out), say, read_state), None)


def _good(
    paths: list[Path], say: Callable[[Path, str], Any], read: Callable[[Path], Any]
) -> Iterator[tuple[Path, Any]]:
    found, broken = 0, []
    for path in paths:
        try:
            content = read(path)
        except Damaged as error:
            broken.append(path.name)
            say(path, str(error))
            continue
        found += 1
        yield path, content
    if broken and not found:
        which = f"{' and '.join(broken)} in {paths[0].parent} {'is' if len(broken) == 1 else 'are'} damaged"
        raise UserError(
            f"{which}, and there is no other checkpoint. Put a copy of one in its place, or start again in a new folder"
        )


class Keeping:
    """Saves the state of a run and finds the state to resume from. With `out=None` nothing is kept."""

    def __init__(self, out: Path | None, *, last: int, every: int, lasting: int):
        """last: number of newest checkpoints to keep; every: steps between saves; lasting: steps between lasting
        checkpoints, 0 for none."""
        self.out, self.last, self.every, self.lasting = out, last, every, lasting
        self.owed = False  # a save that is waiting for a good step

    def due(self, step: int) -> bool:
        """True if the state after this step should be saved."""
        regular = step % self.every == 0 or (bool(self.lasting) and step % self.lasting == 0)
        return self.out is not None and (self.owed or regular)

    def find(self, say: Callable[[str, str, str], Any]) -> dict[str, Any] | None:
        """The newest good state. Damaged files are set aside; so are those saved after `last.ckpt`, if a user put an
        older one in its place, since the run must not resume from them. `say(event, file, reason)` is called for
        each."""
        if self.out is None:
            return None
        for rest in self.out.glob(".*.part"):  # of a process that was killed while writing
            rest.unlink()
        damaged: list[tuple[Path, str]] = []
        found = read_newest(self.out, lambda path, reason: damaged.append((path, reason)))
        for path, reason in damaged:
            os.replace(path, path.with_name(path.name + ASIDE))
            say("damaged", path.name, reason)
        if found is None:
            return None
        saves = _facts(found[0]).saves
        for path in [path for path in candidates(self.out) if _facts(path).saves > saves]:
            os.replace(path, path.with_name(path.name + LEFT))
            say("left", path.name, f"saved after what was put in place of {LAST}")
        return found[1]

    def good(self, before: float = math.inf) -> dict[str, Any] | None:
        """The newest state that is undamaged and was saved after a step that counted. before: prefer a state from
        before this step; the one of this step is returned only if there is no other."""
        if self.out is None:
            return None
        facts = {path: _facts(path) for path in candidates(self.out)}
        paths = [path for path, fact in facts.items() if fact.good]
        if before < math.inf:
            paths.sort(key=lambda path: (facts[path].step == before, -facts[path].step, -facts[path].saves))
        with contextlib.suppress(UserError):
            states = (state for _, state in _good(paths, lambda path, reason: None, read_state))
            return next((s for s in states if not s.get("bad_in_row") and s["step"] <= before), None)
        return None

    def save(self, state: dict[str, Any], *, rotate: bool = True, best: bool = False) -> str | None:
        """Writes `last.ckpt` after renaming the previous one. If that fails, returns the reason: nothing is lost then,
        and the next save tries again. best: also keep a copy as the best so far."""
        assert self.out is not None
        names = [lasting(state["step"])] if self.lasting and state["step"] % self.lasting == 0 else []
        try:
            facts = Facts(state["step"], state["saves"], not state["bad_in_row"])
            write_state(self.out / LAST, state, facts, self._rotate if rotate else lambda: None)
            for name in [*names, *([BEST] if best else [])]:
                self._copy(name)
        except OSError as error:
            if not is_full(error):
                raise
            return f"{error.strerror or error}"
        self.owed = False
        return None

    def _rotate(self) -> None:
        """Gives `last.ckpt` a second name; it keeps its first until the new checkpoint replaces it."""
        assert self.out is not None
        if not (self.out / LAST).exists():
            return
        for number in range(self.last - 1, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.out / before_last(number - 1), self.out / before_last(number))
        if self.last > 1:
            self._copy(before_last(1))

    def _copy(self, name: str) -> None:
        """A hard link to `last.ckpt`, or a copy if the file system has no hard links."""
        assert self.out is not None
        content = self.out / LAST

        def link(part: Path) -> None:
            part.unlink(missing_ok=True)
            try:
                os.link(content, part)
            except OSError:
                part.write_bytes(content.read_bytes())

        write_atomically(self.out / name, link)
