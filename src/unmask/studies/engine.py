"""What all studies share: pieces of work that are recorded as they end, continued after a stop, and forecast."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import torch
from joblib import Parallel, delayed
from rich.console import Console

from unmask import registry
from unmask.errors import Diverged, UserError
from unmask.files import Json, parse_json
from unmask.runtime.machine import machine, tune, tuned
from unmask.runtime.progress import Update, make_say, progress
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import clock

T = TypeVar("T")
Key = tuple[str | int, ...]
Tell = Callable[[str, float], object]  # what is being done, and the share of it that is done
Do = Callable[[Key, Tell], Json]  # one piece of work: returns what is recorded of it
PER_JOB = 2 * 2**30  # estimated bytes of memory per process


@dataclass(frozen=True)
class Piece:
    """One training or fit of a study."""

    key: Key  # values of the fields by which it is found among the records
    name: str  # for people
    cost: float = 1.0  # expected seconds, or any other unit that all pieces of a study share
    here: bool = False  # to be done in this process, which holds what it needs


@dataclass
class Records:
    """Finished pieces in a file, one JSON line each; a line that a crash cut off is ignored."""

    path: Path
    fields: tuple[str, ...]  # of a line, that make its key
    made_of: Mapping[str, str] | None = None  # what the lines depend on, by name; kept in a first line
    lines: dict[Key, Json] = field(default_factory=dict)

    def __post_init__(self):
        """Raises UserError if the file holds results of something else."""
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        written: set[str] = set()
        for line in filter(None, map(_parsed, text.splitlines())):
            if "made_of" in line:
                self._compare(line["made_of"])
                written |= line["made_of"].keys()
            elif set(self.fields) <= line.keys():
                self.lines[tuple(line[name] for name in self.fields)] = line
        if self.made_of is not None and not self.made_of.keys() <= written:
            self._append({"made_of": dict(self.made_of)})

    def add(self, line: Json) -> None:
        """Appends a line and flushes it to the disk."""
        self._append(line)
        self.lines[tuple(line[name] for name in self.fields)] = line

    def _compare(self, before: Mapping[str, str]) -> None:
        now = self.made_of or {}
        if other := [name for name in before if name in now and before[name] != now[name]]:
            raise UserError(
                f"{self.path} holds results of other {', '.join(other)}; give another folder with --out, or remove the"
                " file"
            )

    def _append(self, line: Json) -> None:
        """A line that a crash cut off is ended first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write((json.dumps(line) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error


@dataclass(frozen=True)
class Work:
    """How the pieces of a study are done: in this process, or side by side in others."""

    here: Do  # in this process
    there: Callable[[Key], Json] | None = None  # in another one, which opens the data itself; can be pickled
    jobs: int = 1  # processes


def run_pieces(
    work: Work,
    waves: Sequence[Sequence[Piece]],
    records: Records,
    console: Console,
    said: Callable[[Json], str],
    *,
    words: str = "",
    lines: bool = True,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Does the pieces that are not recorded yet, wave after wave; within a wave side by side.

    said: the result of a piece in words; words: what is being done, until the first piece is; lines: print one for each
    piece, also on a terminal; after: called when a piece is recorded.

    A training that diverges is recorded as such, and the study goes on without it.
    """
    total, say = sum(map(len, waves)), make_say(console)
    missing = [[piece for piece in wave if piece.key not in records.lines] for wave in waves]
    clock_of = _Clock([piece for wave in missing for piece in wave])
    done = total - sum(map(len, missing))
    if done:
        say(f"{done:,} of {total:,} trainings and fits are already done.")
    with progress(console, words, total) as update:
        update(done)
        for wave in missing:
            for piece, result in _finished(work, wave, update):
                line = dict(zip(records.fields, piece.key)) | result
                records.add(line)
                done += 1
                left = clock_of.left(piece)
                update(done, words=piece.name)
                if lines or not console.is_terminal:
                    outcome = "diverged; left out" if "diverged" in line else said(line)
                    say(f"[{done:,}/{total:,}] {piece.name}: {outcome}; {clock(left)} left")
                after()


class _Clock:
    """The time that is left, at the speed seen so far."""

    def __init__(self, pieces: Sequence[Piece]):
        self.open, self.done, self.began = sum(piece.cost for piece in pieces), 0.0, time.monotonic()

    def left(self, piece: Piece) -> float:
        """Seconds, after this piece."""
        self.open, self.done = self.open - piece.cost, self.done + piece.cost
        return max(0.0, self.open) * (time.monotonic() - self.began) / max(self.done, 1e-9)


def _finished(work: Work, wave: Sequence[Piece], update: Update) -> Iterator[tuple[Piece, Json]]:
    """The pieces of a wave with their results, in the order in which they end."""
    jobs = min(work.jobs, len(wave))
    if jobs <= 1 or work.there is None or any(piece.here for piece in wave):
        for piece in wave:

            def tell(what: str, share: float, name: str = piece.name) -> None:
                update(words=f"{name}: {what} {share:.0%}")

            yield piece, survived(work.here, piece.key, tell)
        return
    threads = max(1, machine("cpu", "32").cores // jobs)
    longest_first = sorted(wave, key=lambda piece: -piece.cost)  # so that no core idles at the end
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs")
    parts = registry.parts_given()
    settings = tuned()
    tasks = (delayed(_in_process)(work.there, piece, threads, parts, settings) for piece in longest_first)
    yield from cast(Iterator[tuple[Piece, Json]], pool(tasks))


def _in_process(
    there: Callable[[Key], Json],
    piece: Piece,
    threads: int,
    parts: tuple[str, ...],
    settings: tuple[str, RuntimeSettings] | None,
) -> tuple[Piece, Json]:
    """settings: what this process would otherwise choose for itself, by measuring, or not at all."""
    if settings:
        tune(*settings)
    torch.set_num_threads(threads)
    with registry.given(parts):
        return piece, survived(lambda key, tell: there(key), piece.key, lambda what, share: None)


def survived(do: Do, key: Key, tell: Tell) -> Json:
    """What is recorded of a piece, also of one that diverges."""
    try:
        return do(key, tell)
    except Diverged as error:
        return {"diverged": str(error)}


def most_jobs(device: str, cached: int = 0) -> int:
    """Processes that cores and memory of this machine allow; one on other devices. cached: bytes of images that each
    keeps."""
    here = machine(device, "32")
    if here.device != "cpu":
        return 1
    cores = min(here.cores, int(os.environ.get("OMP_NUM_THREADS", here.cores)))
    return max(1, math.floor(min(cores, here.memory / (PER_JOB + cached))))


def _parsed(line: str) -> Json | None:
    """A record; None for a line that a crash cut off."""
    try:
        content = parse_json(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


_last: list[tuple[object, object]] = []  # what this process opened last, with its key


def opened_once(key: object, open_it: Callable[[], T]) -> T:
    """What `open_it` returns, opened again only for another key. Processes live on from one study to the next, so the
    key must hold everything that it is made of."""
    if not _last or _last[0][0] != key:
        _last.clear()  # frees the memory first
        _last.append((key, open_it()))
    return cast(T, _last[0][1])
