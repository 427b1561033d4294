"""A function called from Python against the same command: pretraining in fresh processes, in turns, and as a third
where torch was imported before unmask: python benchmarks/python_calls.py [--busy N]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import smoke
from records import RESULTS
from side_by_side import Variant, compare

HERE = Path(__file__).parent
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # each variant shall choose for itself
CALL = "import unmask; unmask.pretrain('demo', out='run', **{options!r})"
WAYS = {"command line": "", "Python": CALL, "Python, torch first": f"import torch; {CALL}"}
MODEL = {"model": "vit_tiny_patch16_224(embed_dim=128, depth=4, num_heads=4)", "batch": 64, "device": "cpu"}
SIZE = {"image_size": 32, "patch_size": 8}  # of a smoke run


def pretrain(call: str, steps: int, model: dict[str, Any]) -> Callable[[], dict[str, float]]:
    """One training in a process of its own: images and seconds, as its summary says. call: empty for the command."""
    options = {**model, "steps": steps}
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = (
        ["-c", call.format(options=options)] if call else ["-m", "unmask", "pretrain", "demo", "--out", "run", *flags]
    )
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent / "src"), environment.get("PYTHONPATH", "")])

    def once() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)
            summary = json.loads((Path(folder) / "run" / "summary.json").read_text(encoding="utf-8"))
        return {"units": summary["steps"] * options["batch"], "seconds": summary["seconds"]}

    return once


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute all the time beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    model = MODEL | ({"model": smoke.MODEL, "decoder": smoke.DECODER, "batch": 4, **SIZE} if options.smoke else {})
    ways = dict(list(WAYS.items())[:2]) if options.smoke else WAYS
    work = {"steps": options.steps, "model": model}
    variants = [Variant(name, "python_calls.py:pretrain", work | {"call": call}) for name, call in ways.items()]
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    beside = f"beside {options.busy} busy processes" if options.busy else "on the machine as it is"
    title = f"Pretraining by command and by function, {options.steps} steps of {model['batch']}, {beside}"
    try:
        shared = {"rounds": options.rounds, "out": options.out, "in_process": options.smoke}
        compare(f"python_calls_busy{options.busy}", title, variants, baseline="command line", **shared)
    finally:
        for process in others:
            process.kill()


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--steps", "2", "--rounds", "1", "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
