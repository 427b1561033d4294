"""How idle threads should wait: the same training step under several policies of the OpenMP library, on the machine
as it is, and beside processes that keep the cores busy: python benchmarks/waiting.py [--busy N]
"""

import argparse
import subprocess
import sys

from side_by_side import Variant, compare

POLICIES = {
    "default": {},
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin 100,000": {"GOMP_SPINCOUNT": "100000"},
}
SIZE = {"who": "ours", "size": "cifar4", "precision": "bf16", "batch": 8, "steps": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute all the time beside it")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        variants = [Variant(name, "contenders.py:step", SIZE, environment) for name, environment in POLICIES.items()]
        beside = f"beside {options.busy} busy processes" if options.busy else "on the machine as it is"
        title = f"Training step under policies of waiting, 32 px, batch {SIZE['batch']}, {beside}"
        name = f"waiting_busy{options.busy}"
        compare(name, title, variants, baseline="sleep at once", rounds=options.rounds)
    finally:
        for process in others:
            process.kill()


if __name__ == "__main__":
    main()
