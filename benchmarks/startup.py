"""How long a command takes until it says something, as a ratio to `import torch`: python benchmarks/startup.py

CPU time of whole processes, which other programs on the machine lengthen less than the time on the clock; medians of
rounds in which the cases take turns. Help and refusals have a limit in times of `import torch`; training one in times
of what it cannot do without: torch, timm, and the compiler that torch's optimizers import, `torch._dynamo`. The exit
code is 1 where a limit is passed.

    python benchmarks/startup.py [--rounds 5] [--out FOLDER]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import smoke
from records import RESULTS

CLI = "from unmask.cli.main import main\nmain({words!r})"
FIRST_STEP = """
import os, unmask.training.loop as loop
def made(*arguments):
    os._exit(0)
loop.make_step = made
from unmask.cli.main import main
main({words!r})
"""
TINY = "--image-size 32 --patch-size 8 --batch 4 --steps 4 --device cpu --precision 32".split()


NEEDED = "import torch, torch._dynamo, timm"


@dataclass(frozen=True)
class Case:
    name: str
    program: str
    limit: float | None  # times the CPU seconds of another case
    of: str = "import torch"  # which


def cases(images: Path, out: Path) -> list[Case]:
    """images: a folder of a few; out: for the run that starts."""
    wrong = {
        "wrong option": ["pretrain", str(images), "--batch-size", "64"],
        "wrong path": ["pretrain", str(images) + "-not"],
        "wrong model": ["pretrain", str(images), "--model", "vit_b16"],
        "wrong part": ["pretrain", str(images), "--mask", "blok"],
        "wrong weights": ["transfer", "nowhere", "--on", str(images)],
    }
    training = ["pretrain", str(images), "--out", str(out), "--model", smoke.MODEL, "--decoder", smoke.DECODER, *TINY]
    return [
        Case("import torch", "import torch", None),
        Case(NEEDED, "import torch, torch._dynamo, timm", None),
        Case("import unmask", "import unmask", 0.25),
        Case("unmask --help", CLI.format(words=["--help"]), 0.25),
        Case("unmask pretrain --help", CLI.format(words=["pretrain", "--help"]), 0.25),
        *(Case(name, CLI.format(words=words), 0.25) for name, words in wrong.items()),
        Case("imports of pretraining", "import unmask.cli.commands.pretrain", 1.15, of=NEEDED),
        Case("pretraining until its first step", FIRST_STEP.format(words=training), 1.5, of=NEEDED),
    ]


def cpu_seconds(program: str) -> float:
    """Of a process of its own and of those that it starts and waits for."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


def measure(chosen: list[Case], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each case."""
    seconds: dict[str, list[float]] = {case.name: [] for case in chosen}
    for _ in range(rounds):
        for case in chosen:
            seconds[case.name].append(cpu_seconds(case.program))
    return {name: statistics.median(values) for name, values in seconds.items()}


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=5, help="times that every case is run")
    result.add_argument("--images", type=Path, help="folder of images to start a training on; by default made-up ones")
    result.add_argument("--out", type=Path, default=RESULTS, help="folder for startup.json and startup.txt")
    return result


def main() -> None:
    options = parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        images = options.images or smoke.images(Path(place) / "images", 8)
        chosen = cases(images, Path(place) / "run")
        seconds = measure(chosen, options.rounds)
    torch = seconds["import torch"]
    lines = [f"{'':<44} {'CPU s':>7} {'ratio':>7}   limit"]
    for case in chosen:
        limit = f"  {case.limit:.2f} of {case.of}" if case.limit else ""
        lines.append(f"{case.name:<44} {seconds[case.name]:7.2f} {seconds[case.name] / torch:7.2f} {limit}".rstrip())
    print("\n".join(lines))
    record = {"title": "Start-up, as a ratio to import torch", "seconds": seconds, "rounds": options.rounds}
    record |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    (options.out / "startup.json").write_text(json.dumps(record, indent=2) + "\n")
    (options.out / "startup.txt").write_text("\n".join(lines) + "\n")
    late = [case.name for case in chosen if case.limit and seconds[case.name] > case.limit * seconds[case.of]]
    if late and options.rounds > 1:
        sys.exit(f"above their limit: {', '.join(late)}")


def commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--rounds", "1", "--images", str(smoke.images(folder / "images", 4)), "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, commands)
