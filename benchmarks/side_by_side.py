"""Compares variants of some work fairly on a machine that is never quite quiet: side by side, in turns, in one run.

Every variant is a process of its own, so that its allocator, its threads and its peak memory are its own. The processes
take turns; the order is reversed every other round, and the first round is thrown away. What counts is the ratio to one
of the variants within a round: a slow minute of the machine slows both. Reported are the least, the median and the
greatest of these ratios, and likewise of the speeds.

    from side_by_side import Variant, compare

    compare(
        "toy", "A toy", unit="images",
        variants=[Variant("one", "toy.py:work", {"n": 1}), Variant("two", "toy.py:work", {"n": 2})],
        baseline="one", rounds=5,
    )

`work(n=1)` is called once in the variant's process and returns what makes one measurement: a function without arguments
that does a piece of work and returns how many units it was, or a dictionary with "units" and other numbers to keep (a
"seconds" among them replaces the measured time). The results go to benchmarks/results/NAME.json, .txt and .png.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from records import RESULTS, machine, summary, write

SUMMED = ("units", "seconds", "cpu_seconds")  # over the calls of a turn; of all else, the mean
LONGEST = 1800  # seconds in which a variant must have answered; later, it counts as failed


@dataclass(frozen=True)
class Variant:
    name: str
    make: str  # "file.py:function", the file seen from this folder
    arguments: dict[str, Any] = field(default_factory=dict)  # of the function; plain values
    environment: dict[str, str] = field(default_factory=dict)  # of the process, on top of this one's
    note: str = ""  # what it is, for the table's reader


def compare(
    name: str,  # of the files
    title: str,
    variants: list[Variant],
    *,
    baseline: str,  # the name of the variant that the others are divided by
    unit: str = "images",
    rounds: int = 5,
    calls: int = 1,  # measurements per turn, after one that is not counted
    facts: dict[str, Any] | None = None,  # further facts for the record, such as a measured peak
    columns: dict[str, Callable[[dict[str, Any]], str]]
    | None = None,  # of the table: heading -> of a variant's summary
    out: Path | None = RESULTS,  # None: nothing is written or printed
    in_process: bool = False,  # variants share this process: quick, for smoke runs; environments do not count
) -> dict[str, Any]:
    """Runs the comparison, prints and writes it, and returns the record. A variant that fails is left out, with its
    error; the others go on. If it was the baseline, the first that did not fail takes its place."""
    assert baseline in {variant.name for variant in variants}, f"no variant {baseline}"
    start, before = time.monotonic(), os.getloadavg()
    workers: dict[str, _Worker] = {}
    try:
        for variant in variants:  # one after another: memory has to suffice
            workers[variant.name] = _InProcess(variant) if in_process else _Process(variant)
        measured = _measure(workers, rounds, calls, warm_up=not in_process)
    finally:
        for worker in workers.values():
            worker.close()
    errors = {name: worker.error for name, worker in workers.items() if worker.error}
    ran = [name for name, turns in measured.items() if turns]
    if baseline in errors and ran:
        _say(f"{baseline} was to be the baseline and failed; {ran[0]} takes its place")
        baseline = ran[0]
    record = {
        "name": name,
        "title": title,
        "unit": unit,
        "baseline": baseline,
        "rounds": rounds,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": machine(),
        "load_before": [round(value, 2) for value in before],
        "seconds": round(time.monotonic() - start, 1),
        "facts": facts or {},
        "variants": [asdict(variant) for variant in variants],
        "measured": measured,
        "errors": errors,
    }
    record["summary"] = summary(record)
    if out is not None:
        write(record, out, columns)
    return record


class _Worker(ABC):
    """What works for a variant."""

    def __init__(self, variant: Variant):
        self.name = variant.name
        self.error: str | None = None  # why the variant failed; then it is not asked any more
        self.ask({"make": variant.make, "arguments": variant.arguments})

    def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of `_Work`, None where it failed."""
        answer = self.answer(question)
        if "error" not in answer:
            return answer
        self.error = answer["error"]
        _say(f"{self.name} is left out: {answer['error'].strip().splitlines()[-1]}")
        self.close()
        return None

    @abstractmethod
    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What `_Work` answers, or {"error": the traceback}."""

    def close(self) -> None:  # noqa: B027 (without a process there is nothing to end)
        """Ends what was begun."""


def _measure(workers: dict[str, _Worker], rounds: int, calls: int, warm_up: bool) -> dict[str, list[dict[str, Any]]]:
    """Turns of each variant; none of one that failed."""
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for number in range(0 if warm_up else 1, rounds + 1):  # round 0 is thrown away: it warms caches up
        working = [name for name, worker in workers.items() if worker.error is None]
        for name in working if number % 2 == 0 else reversed(working):
            turn = workers[name].ask({"calls": calls})
            if turn is None:
                measured[name] = []
                continue
            if number:
                measured[name].append(turn | {"round": number, "load": round(os.getloadavg()[0], 2)})
            _say(f"round {number}/{rounds}  {turn['units'] / turn['seconds']:9.2f} /s  {name}")
    return measured


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Process(_Worker):
    """The process of a variant. It sleeps in a read between its turns."""

    def __init__(self, variant: Variant):
        _say(f"starting {variant.name}")
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | variant.environment
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        super().__init__(variant)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        killer = threading.Timer(LONGEST, self.process.kill)
        killer.start()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        in_time = killer.is_alive()
        killer.cancel()
        if line:
            return json.loads(line)
        code = self.process.wait()
        return {"error": f"the process ended with {code}" if in_time else f"no answer within {LONGEST} s"}

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


class _InProcess(_Worker):
    """A variant that works in this process."""

    def __init__(self, variant: Variant):
        self.work = _Work(warm_up=False)
        super().__init__(variant)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        return self.work.answer(question)


class _Work:
    """What a variant does, in whatever process: made by the first question, measured by the others."""

    def __init__(self, warm_up: bool = True):
        self.warm_up = warm_up
        self.action: Callable[[], Any] | None = None
        self.imported = 0  # MiB

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """To {"make", "arguments"} or {"calls"}; {"error": a traceback} if that failed."""
        try:
            if "make" in question:
                self._make(question["make"], question["arguments"])
                return {"ready": True}
            assert self.action is not None
            if self.warm_up:
                self.action()  # not counted: the first one after a pause is slow
            measured = _timed(self.action, question["calls"])
            return {"imported_mb": self.imported} | measured | {"peak_mb": peak_memory()}
        except Exception:
            return {"error": traceback.format_exc()}

    def _make(self, make: str, arguments: dict[str, Any]) -> None:
        path, _, function = make.rpartition(":")
        file = Path(__file__).parent / path  # an absolute one stays what it is
        sys.path.insert(0, str(file.parent))
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses in it look themselves up there
        spec.loader.exec_module(module)
        self.imported = peak_memory()
        self.action = getattr(module, function)(**arguments)


def _serve() -> None:
    """What the process of a variant does: answers each line of its input with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the work prints goes to stderr, past the answers
    work = _Work()
    for line in sys.stdin:
        answers.write(json.dumps(work.answer(json.loads(line))) + "\n")
        answers.flush()


def _timed(action: Any, calls: int) -> dict[str, Any]:
    total: dict[str, list[float]] = {}
    for _ in range(calls):
        clock, cpu = time.perf_counter(), time.process_time()
        made = action()
        seconds, cpu = time.perf_counter() - clock, time.process_time() - cpu
        found = dict(made) if isinstance(made, dict) else {"units": made}
        for key, value in ({"seconds": seconds, "cpu_seconds": cpu} | found).items():
            total.setdefault(key, []).append(value)
    return {key: sum(v) if key in SUMMED else statistics.fmean(v) for key, v in total.items()}


def peak_memory() -> int:
    """MiB of main memory that this process held at the most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def sums(count: int) -> Callable[[], int]:
    """A toy to compare: sums so many numbers. Fails for none."""
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    return lambda: len([sum(range(number)) for number in range(count)])


def _smoke() -> None:
    """Toys in processes of their own, of which one fails."""
    parser = argparse.ArgumentParser(description="Run other files of this folder; this one is what they compare with.")
    parser.add_argument("--smoke", action="store_true", required=True, help="compare toys, one of which fails")
    parser.add_argument("--out", type=Path, help="folder for the record; by default a temporary one")
    out = parser.parse_args().out
    print("smoke run, the figures mean nothing: toys, of which one fails", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        counts = {"none": 0, "hundred": 100, "thousand": 1000}
        toys = [Variant(name, "side_by_side.py:sums", {"count": count}) for name, count in counts.items()]
        record = compare("toys", "Toys", toys, baseline="none", unit="sums", rounds=1, out=out or Path(folder))
    assert list(record["errors"]) == ["none"], record["errors"]
    assert list(record["summary"]) == ["hundred", "thousand"], record["summary"]


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        _serve()
    else:
        _smoke()
