"""How idle threads should wait: the same training step under several policies of the OpenMP library, on the machine
as it is, and beside processes that keep the cores busy: python benchmarks/waiting.py [--busy N]
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from contenders import SIZES
from limits import allowed_precision
from records import RESULTS
from side_by_side import Variant, compare

POLICIES = {
    "default": {},
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute all the time beside it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", default="cifar4", choices=SIZES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("bf16", "32"), help="by default bf16, where the CPU computes in it")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    precision = allowed_precision(options.precision, "cpu")
    work: dict[str, Any] = {"who": "ours", "size": options.size, "precision": precision, "batch": options.batch}
    work |= {"steps": 2} | ({"products": 64} if options.smoke else {})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        variants = [Variant(name, "contenders.py:step", work, environment) for name, environment in POLICIES.items()]
        beside = f"beside {options.busy} busy processes" if options.busy else "on the machine as it is"
        title = (
            f"Training step under policies of waiting, {SIZES[options.size].image} px, batch {options.batch}, {beside}"
        )
        name = f"waiting_busy{options.busy}"
        title += ", fp32" if precision == "32" else ""
        shared = {"rounds": options.rounds, "out": options.out, "in_process": options.smoke}
        compare(name, title, variants, baseline="sleep at once", **shared)
    finally:
        for process in others:
            process.kill()


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--size", "toy", "--batch", "2", "--rounds", "1", "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
