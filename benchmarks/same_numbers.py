"""Does a refactored tree compute what an older commit computed, to the bit? Both run side by side on this machine.

    python benchmarks/same_numbers.py [--before COMMIT] [--only CASE...] [--smoke] [--keep FOLDER]

Every case below is a short training or evaluation on small generated data. Two processes run them side by side: one
with the sources of COMMIT, checked out in a temporary git worktree, one with those of the tree that this file lies in,
as they are on the disk. Compared are every steady number of the logs and results (not times, speeds and memory), and
every tensor of the saved weights and checkpoints. The exit code is 0 if all are equal.

What a run chooses by measuring the machine is pinned, since two measurements may differ: see PINNED here, and
`environment` and `serve` in same_numbers_trees.py.
"""

import argparse
import contextlib
import importlib
import signal
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from same_numbers_data import write_data
from same_numbers_trees import BYTECODE, TREE, Tree, worktree

BEFORE = "76cbfe7"

# What has other names in the new tree. Words of a command line, each as a whole; None leaves out a flag and its value:
RENAMED: dict[str, str | None] = {}
# Files in the folder of a run, e.g. {"metrics.jsonl": "log.jsonl"}:
RENAMED_FILES: dict[str, str] = {}
# Keys in logs, results and checkpoints: any part of a place, or with dots the beginning of one ("scores.0": "best"):
RENAMED_KEYS: dict[str, str] = {
    **{f"usual.{name}": f"error_model.{name}" for name in ("knots", "middle", "reach", "place")},
    "pictures": "images",
    "promises": "calibrations",
    "usual": "median",
}
# Cases whose numbers change on purpose, each with the reason. They run, but may differ:
CHANGED: dict[str, str] = {}

STEPS, SMOKE_STEPS, SMOKE = 20, 2, ("npz", "classify")

PINNED = "--device cpu --precision 32 --matmul default --threads 1 --workers 0 --seed 0 --log-every 1"
SMALL = "--image-size 32 --patch-size 8 --batch 8"
VIT = f"--model vit_tiny_patch16_224(depth=2,embed_dim=48,num_heads=3) {SMALL}"
FULL = "--decoder full(dim=32,depth=1,heads=2)"
PRETRAIN = f"--out @out --steps @steps {PINNED}"
TRANSFER = f"--out @out --patience 0 {PINNED}"
PRETRAINED = ("metrics.jsonl", "encoder.safetensors", "last.ckpt")
TRANSFERRED = ("metrics.jsonl", "metrics.json", "last.ckpt")


@dataclass(frozen=True)
class Case:
    """Command lines, and the files that they leave below @out. @data: the generated data. @run: what case "npz" left.
    @steps: how many to train; @half: half as many. A word has no spaces."""

    name: str
    commands: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def needs_run(self) -> bool:
        return any("@run" in command for command in self.commands)


CASES = (
    Case("npz", (f"pretrain @data/photos.npz --in-memory on {VIT} {FULL} {PRETRAIN}",), PRETRAINED),
    Case("demo", (f"pretrain demo {PRETRAIN}",), PRETRAINED),  # all else as planned
    Case("cross", (f"pretrain @data/photos {VIT} --decoder cross(dim=32,depth=2,heads=2) {PRETRAIN}",), PRETRAINED),
    Case(
        "hiera",
        (
            "pretrain @data/photos --model hiera_tiny_224(stages=(1,1,1,1),embed_dim=24) --image-size 64 --batch 8"
            f" {FULL} {PRETRAIN}",
        ),
        PRETRAINED,
    ),
    Case(
        "resolutions",
        (f"pretrain @data/photos --resolutions 16:0.5,32 --accumulate 2 {VIT} {FULL} {PRETRAIN}",),
        PRETRAINED,
    ),
    Case(
        "tar",
        (f"pretrain @data/shards/s-{{00..02}}.tar --shuffle-buffer 16 {VIT} {FULL} {PRETRAIN}",),
        PRETRAINED,
    ),
    Case(
        "classify",
        (f"transfer @run --to classify --on @data/classes --batch 18 --epochs @half {TRANSFER}",),
        (*TRANSFERRED, "classifier.safetensors"),
    ),
    Case(
        "segment",
        (f"transfer @run --to segment --on @data/masks --crop-size 32 --batch 6 --epochs @half {TRANSFER}",),
        (*TRANSFERRED, "segmenter.safetensors"),
    ),
    Case(
        "detect",
        (
            "transfer @run --to detect --on @data/boxes --input-size 64 --width 16 --rois 16 --batch 6 --epochs @half"
            f" {TRANSFER}",
        ),
        (*TRANSFERRED, "detector.safetensors"),
    ),
    Case(
        "evaluate",
        ("evaluate @run --on @data/classes --labels-per-class 1 5 --draws 3 --out @out --seed 0 --device cpu",),
        ("evaluation.json",),
    ),
    Case(
        "labels",
        (
            "labels @run --on @data/classes --labels-per-class 2 all --protocols knn linear full --draws 2 --epochs 2"
            " --jobs 1 --out @out --seed 0 --precision 32 --device cpu",
        ),
        ("labels.json", "labels.jsonl"),
    ),
    Case(
        "anomaly",
        (
            "anomaly fit @run @data/normal --false-alarms 0.2 --sets 2 --memory 100 --out @out/fit --device cpu",
            "anomaly apply @out/fit --on @data/odd --heatmaps 2 --out @out/apply --device cpu",
        ),
        (
            "fit/config.json#promises,calibrations,scores",
            *("fit/finder.safetensors", "apply/results.json", "apply/scores.csv"),
        ),
    ),
)


def compare(case: Case, before: Tree, now: Tree) -> tuple[int, int, list[str]]:
    """How many numbers and tensors there are, and a sentence for each that differs; files in the order of the case."""
    results = importlib.import_module("same_numbers_results")
    counts, lines = {"numbers": 0, "tensors": 0}, []
    for name in case.files:
        is_tensors = name.endswith((".safetensors", ".ckpt"))
        kind = "tensors" if is_tensors else "numbers"
        read = results.read_tensors if is_tensors else results.read_numbers
        try:
            old = read(before.file(case.name, name), name, RENAMED_KEYS)
            new = read(now.file(case.name, name), name, {})
        except (OSError, ValueError, KeyError) as error:
            lines.append(f"{name} cannot be read: {type(error).__name__}: {error}")
            continue
        if not old:
            lines.append(f"{name} holds no {kind}")
        counts[kind] += len(old)
        lines += (results.differing_tensors if is_tensors else results.differing_numbers)(old, new)
    return counts["numbers"], counts["tensors"], lines


def judge(case: Case, trees: list[Tree], futures: list[Future]) -> tuple[list[str], bool]:
    """Waits for both runs of a case; its row of the table, and whether it passes."""
    errors = [f"{t.name}: {future.exception()}" for t, future in zip(trees, futures) if future.exception()]
    if errors:
        print(f"{case.name}: failed\n  " + "\n  ".join(errors), flush=True)
        return [case.name, "-", "-", "-", "failed"], False
    numbers, tensors, lines = compare(case, *trees)
    verdict = "equal" if not lines else f"{len(lines)} DIFFER" if case.name not in CHANGED else "changed on purpose"
    print(f"{case.name}: {verdict}" + "".join(f"\n  {line}" for line in lines[:3]), flush=True)
    if len(lines) > 3:
        print(f"  and {len(lines) - 3} more")
    if case.name in CHANGED:
        print(f"  expected: {CHANGED[case.name]}" if lines else "  but CHANGED lists it: take it out there")
    seconds = " + ".join(f"{future.result():.0f}" for future in futures)
    return [case.name, str(numbers), str(tensors), seconds, verdict], not lines or case.name in CHANGED


def run_all(cases: list[Case], trees: list[Tree], data: Path, steps: int) -> bool:
    """Both trees work through the cases at their own pace; prints what is found, and a table at the end."""
    rows, passed = [["case", "numbers", "tensors", "CPU seconds", "result"]], True
    values = {"@data": data, "@steps": steps, "@half": steps // 2}
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in trees]
        futures = [
            [pool.submit(tree.run, c.name, c.commands, values | {"@run": tree.runs / "npz"}) for c in cases]
            for pool, tree in zip(pools, trees)
        ]
        for tree, pool in zip(trees, pools):
            stack.callback(tree.close)
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for case, *of_case in zip(cases, *futures):
            row, is_good = judge(case, trees, of_case)
            rows.append(row)
            passed &= is_good
    widths = [max(map(len, column)) for column in zip(*rows)]
    print("\n" + "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows))
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help=f"the older commit (default: {BEFORE})")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="these cases alone")
    parser.add_argument("--smoke", action="store_true", help=f"{' and '.join(SMOKE)} alone, {SMOKE_STEPS} steps each")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty or new folder where data and runs stay")
    options = parser.parse_args()
    names = set(options.only or (SMOKE if options.smoke else [case.name for case in CASES]))
    cases = [case for case in CASES if case.name in names]
    if "npz" not in names and any(case.needs_run for case in cases):
        cases = [CASES[0], *cases]
    if options.keep and options.keep.exists() and (not options.keep.is_dir() or any(options.keep.iterdir())):
        parser.error(f"--keep {options.keep} is there and not empty")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worktree is removed
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(BYTECODE)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.keep or Path(temporary) / "work").resolve()
        with worktree(options.before, Path(temporary).resolve() / "before") as old_tree:
            old = Tree("old tree", old_tree, work / "before", {}, {})
            new = Tree("new tree", TREE, work / "now", RENAMED, RENAMED_FILES)
            for tree in (old, new):
                tree.runs.mkdir(parents=True)
            write_data(work / "data")
            passed = run_all(cases, [old, new], work / "data", SMOKE_STEPS if options.smoke else STEPS)
    print(
        f"{'all equal' if passed else 'NOT EQUAL'} ({options.before} and {TREE.name}), {time.monotonic() - start:.0f} s"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
