"""Accuracy against time: is the budget recipe worth it? Plain `unmask pretrain` and `--recipe budget`, side by side.

    python benchmarks/budget.py LABELLED --page docs/results.md

LABELLED is a folder of class folders with train and test splits; its training images are learned from without their
labels, and the encoder is judged by unmask's own linear probe on all labels. Every cell of recipe x length x seed is
one run. Lengths are seconds of training on one core: how many steps that is, is measured once, with the recipes taking
turns, so that a slow minute falls on both; the seconds that runs really took are recorded too. Cells that are done are
not done again: the same command goes on after an interruption. Writes budget.json, budget.txt and budget.png.
"""

import argparse
import json
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
import torch
from records import RESULTS, machine

import unmask
from unmask.evaluation.online_probe import Probe

COMMON = {"model": "vit_tiny_patch16_224(depth=6)", "image_size": 64, "device": "cpu", "save_every": 10**6}
RECIPES: dict[str, dict[str, Any]] = {  # name -> options; the parts of the recipe one by one, for who wants to know
    "mae": {},
    "budget": {"recipe": "budget"},
    "no-sizes": {"recipe": "budget", "resolutions": "none"},
    "ratio-0.75": {"recipe": "budget", "mask": "random(ratio=0.75)"},
    "masks-2": {"recipe": "budget", "masks_per_image": 2},
}
BEGIN, END = "<!-- budget -->", "<!-- end of budget -->"  # marks in the page


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--recipes", nargs="+", default=["mae", "budget"], choices=sorted(RECIPES))
    parser.add_argument("--lengths", nargs="+", type=float, default=[40, 80, 160], help="seconds of training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--page", type=Path, help="a page, docs/results.md, whose part about this is written anew")
    parser.add_argument("--model", default=COMMON["model"])
    parser.add_argument("--batch", type=int, help="by default what unmask chooses")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring speed")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "budget.json"
    settings = {"image_size": options.image_size, "model": options.model, "images": options.data.name}
    record = begun(path, {"seconds_per_step": {}, "cells": {}}, settings)
    work = options.out / "budget-runs"
    missing = [name for name in options.recipes if name not in record["seconds_per_step"]]
    if missing:
        speeds = measure(options, missing, work)
        record["seconds_per_step"] |= speeds
        save(record, path)
    probe = None
    for seed in options.seeds:  # seed by seed, so that an early end leaves whole comparisons
        for length in options.lengths:
            for name in options.recipes:
                key = f"{name} {length:g} {seed}"
                if key in record["cells"]:
                    continue
                probe = probe or Probe(options.data, (options.image_size,) * 2, seed=0)
                steps = max(1, round(length / record["seconds_per_step"][name]))
                record["cells"][key] = cell(options, name, steps, seed, probe, work)
                record["cells"][key] |= {"recipe": name, "length": length, "seed": seed}
                save(record, path)
    shutil.rmtree(work, ignore_errors=True)
    (options.out / "budget.txt").write_text(text := table(record))
    print(text)
    draw(record, options.out / "budget.png")
    if options.page:
        fill(options.page, text, options.out / "budget.png")


def fill(page: Path, text: str, image: Path) -> None:
    """Puts the table and the image between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    shutil.copy(image, page.parent / "images" / image.name)
    content = f"\n\n{text}\n![Accuracy against time](images/{image.name})\n\n"
    page.write_text(before + BEGIN + content + END + rest.split(END)[1], encoding="utf-8")


def measure(options: argparse.Namespace, names: list[str], work: Path) -> dict[str, float]:
    """Seconds of an optimizer step by recipe: medians over rounds in which they take turns."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            expected = train(options, name, steps=2, seed=0, out=work / f"speed-{name}-{turn}").config.record.expected
            found[name].append(1 / expected.images_per_second)
    batch = {name: unmask.Run(work / f"speed-{name}-0").config.training.batch for name in names}
    return {name: statistics.median(seconds) * batch[name] for name, seconds in found.items()}


def train(options: argparse.Namespace, name: str, steps: int, seed: int, out: Path) -> unmask.Run:
    given = COMMON | {"image_size": options.image_size, "model": options.model, "batch": options.batch} | RECIPES[name]
    return unmask.pretrain(options.data, out=out, steps=steps, seed=seed, **given)


def cell(
    options: argparse.Namespace, name: str, steps: int, seed: int, probe: Probe, work: Path
) -> dict[str, float | int]:
    """One run and what its encoder is worth; the run's folder is removed."""
    out, start = work / f"{name}-{steps}-{seed}", time.perf_counter()
    run = train(options, name, steps, seed, out)
    summary = run.read("summary.json")
    found: dict[str, float | int] = {"steps": steps, "seconds": summary["seconds"], "memory_mb": summary["memory_mb"]}
    found |= probe(run.encoder(), torch.device("cpu"), None)
    found["whole_seconds"] = round(time.perf_counter() - start, 1)
    shutil.rmtree(out)
    return found


def begun(path: Path, empty: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The record that is gone on with, or `empty`, now of this machine and command. Exits where that which is there is
    of other settings."""
    record = json.loads(path.read_text()) if path.exists() else empty
    if record.setdefault("asked", settings) != settings:
        sys.exit(f"{path} holds results of other settings: {record['asked']}; move it away or give another --out")
    return record | {"machine": machine(), "command": shlex.join(["python", *sys.argv])}


def save(record: dict[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)


def points(record: dict[str, Any]) -> dict[str, dict[float, list[dict[str, Any]]]]:
    """recipe -> length -> cells."""
    found: dict[str, dict[float, list[dict[str, Any]]]] = {}
    for one in record["cells"].values():
        found.setdefault(one["recipe"], {}).setdefault(one["length"], []).append(one)
    return {name: dict(sorted(lengths.items())) for name, lengths in found.items()}


def table(record: dict[str, Any]) -> str:
    here, found = record["machine"], points(record)
    lines = [
        f"{here.get('cpu')} (family {here.get('family')}), one thread; torch {here['torch']}",
        record["command"],
        "",
        "| seconds of training | recipe | steps | seconds measured | linear probe, mean (least to greatest) | k-NN |",
        "|---|---|---|---|---|---|",
    ]
    for length in sorted({length for lengths in found.values() for length in lengths}):
        for name, lengths in found.items():
            cells = lengths.get(length, [])
            if cells:
                linear, knn = ([c[f"probe_{kind}"] for c in cells] for kind in ("linear", "knn"))
                spread = f"{statistics.fmean(linear):.1%} ({min(linear):.1%} to {max(linear):.1%}), {len(cells)} seeds"
                seconds = statistics.fmean(c["seconds"] for c in cells)
                row = (f"{length:g}", name, f"{cells[0]['steps']:,}", f"{seconds:.0f}", spread)
                lines.append(f"| {' | '.join(row)} | {statistics.fmean(knn):.1%} |")
    if {"mae", "budget"} <= found.keys():
        lines += ["", *gains(found)]
    return "\n".join(lines) + "\n"


def gains(found: dict[str, dict[float, list[dict[str, Any]]]]) -> list[str]:
    """Budget minus mae at the same length, seed by seed."""
    lines = []
    for length, cells in found["mae"].items():
        other = {c["seed"]: c["probe_linear"] for c in found["budget"].get(length, [])}
        gained = [100 * (other[c["seed"]] - c["probe_linear"]) for c in cells if c["seed"] in other]
        if gained:
            each = ", ".join(f"{gain:+.1f}" for gain in gained)
            lines.append(f"budget - mae at {length:g} s: {statistics.fmean(gained):+.1f} points (by seed: {each})")
    return lines


def draw(record: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, lengths), color in zip(points(record).items(), ("#9aa7b4", "#2f6f9f", "#b5651d", "#4f8f4f", "#7f5fa8")):
        seconds = [statistics.fmean(c["seconds"] for c in cells) for cells in lengths.values()]
        accuracy = [[100 * c["probe_linear"] for c in cells] for cells in lengths.values()]
        axes.plot(seconds, [statistics.fmean(a) for a in accuracy], color=color, label=name, marker="o")
        for x, values in zip(seconds, accuracy):
            axes.plot([x] * len(values), values, ".", color=color, markersize=4)
    axes.set(xscale="log", xlabel="seconds of training, one core", ylabel="linear probe, %")
    axes.set_title(f"{record['asked']['images']}, {record['asked']['image_size']} pixels", fontsize=10, loc="left")
    axes.minorticks_off()
    ticks = sorted({length for lengths in points(record).values() for length in lengths})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    page = out / "results.md"
    (out / "images").mkdir(parents=True)
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    shared = ["--lengths", "0.1", "--seeds", "0", "--image-size", "32", "--batch", "4", "--rounds", "1"]
    written = ["--out", str(out), "--page", str(page)]
    yield [str(smoke.labelled(folder / "labelled")), *shared, "--model", smoke.MODEL, *written, "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
