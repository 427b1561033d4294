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

import contextlib
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from records import RESULTS, machine, summary, write

SUMMED = ("units", "seconds", "cpu_seconds")  # over the calls of a turn; of all else, the mean


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
) -> dict[str, Any]:
    """Runs the comparison, prints and writes it, and returns the record. A variant that fails is named with its error;
    the others go on."""
    assert baseline in {variant.name for variant in variants}, f"no variant {baseline}"
    start, before = time.monotonic(), os.getloadavg()
    workers = {variant.name: _Worker(variant) for variant in variants}
    try:
        measured = _measure(workers, rounds, calls)
    finally:
        for worker in workers.values():
            worker.close()
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
        "errors": {name: worker.error for name, worker in workers.items() if worker.error},
    }
    record["summary"] = summary(record)
    if out is not None:
        write(record, out, columns)
    return record


def _measure(workers: dict[str, "_Worker"], rounds: int, calls: int) -> dict[str, list[dict[str, Any]]]:
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for number in range(rounds + 1):  # round 0 is thrown away: it warms caches up and makes what is made once
        order = list(workers) if number % 2 == 0 else list(reversed(workers))
        for name in order:
            found = workers[name].turn(calls)
            if number and found:
                measured[name].append(found | {"round": number, "load": round(os.getloadavg()[0], 2)})
            speed = f"{found['units'] / found['seconds']:9.2f} /s" if found else "   failed"
            print(f"round {number}/{rounds}  {speed}  {name}", file=sys.stderr, flush=True)
    return measured


class _Worker:
    """The process of a variant. It sleeps in a read between its turns."""

    def __init__(self, variant: Variant):
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | variant.environment
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.error: str | None = None
        self._ask({"make": variant.make, "arguments": variant.arguments})  # one after another: memory has to suffice

    def turn(self, calls: int) -> dict[str, Any] | None:
        return self._ask({"calls": calls}) if self.error is None else None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.error = f"the process ended with {self.process.wait()}"
            return None
        found = json.loads(answer)
        if "error" in found:
            self.error = found["error"]
            print(found["error"], file=sys.stderr)
            return None
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _work() -> None:
    """What a worker does: answers each line of its input with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the work prints goes to stderr, past the answers
    action, imported = None, 0
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "make" in question:
                path, _, function = question["make"].rpartition(":")
                path = Path(__file__).parent / path  # an absolute one stays what it is
                sys.path.insert(0, str(path.parent))
                spec = importlib.util.spec_from_file_location(path.stem, path)
                assert spec is not None
                assert spec.loader is not None
                module = importlib.util.module_from_spec(spec)
                sys.modules[spec.name] = module  # dataclasses in it look themselves up there
                spec.loader.exec_module(module)
                imported = peak_memory()
                action = getattr(module, function)(**question["arguments"])
                found: dict[str, Any] = {"ready": True}
            else:
                assert action is not None
                action()  # not counted: the first one after a pause is slow
                found = {"imported_mb": imported} | _timed(action, question["calls"]) | {"peak_mb": peak_memory()}
        except Exception:
            found = {"error": traceback.format_exc()}
        answers.write(json.dumps(found) + "\n")
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


if __name__ == "__main__":
    if sys.argv[1:] != ["--worker"]:
        sys.exit("This file is a library; run another one of this folder.")
    _work()
