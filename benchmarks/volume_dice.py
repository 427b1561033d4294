"""What pretraining on volumes without labels is worth for segmenting them: Dice with few labelled ones.

    python benchmarks/volume_dice.py hippocampus/ --out volume-dice

DATA holds images/ and labels/. The same volumes are always tested on; those that are learnt from are drawn from the
others. For each seed an encoder is pretrained on all volumes without labels (or --run is taken), and the same network
with the same head is trained from it and from scratch, for equally many steps, on the same draws of volumes. Dice is
the mean over structures and test volumes; intervals are Student's t over draws of all seeds, of differences once paired
by draw, and once by test volume: the former say how far another draw and seed may lie, the latter how far other volumes
may, with these trainings. It goes on where it was interrupted.
"""

import argparse
import csv
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import smoke

import unmask
from unmask.evaluation.intervals import student
from unmask.report.palette import BLUE, ORANGE, make_figure, save, style
from unmask.tasks.segmentation.figures import ROWS

ARMS = {"pretrained": {}, "from scratch": {"init": "none"}}
ENDINGS = (".nii", ".nii.gz")
DRAWS = 1000  # more than there are of one seed, so that no two trainings share one


def main() -> None:
    options = parser().parse_args()
    data, count = split(Path(options.data), options.out / "data", options.test)
    dice: dict[str, dict[int, dict[tuple[int, int], float]]] = {arm: {} for arm in ARMS}
    structures: dict[str, dict[str, float]] = {}
    volumes: dict[str, dict[str, float]] = {}  # the name of a training -> Dice of each test volume
    for seed in options.seeds:
        run = options.run or pretrained(options, data, seed)
        for number in [n for n in options.labelled if n <= count]:
            for draw, (arm, given) in itertools.product(range(options.draws), ARMS.items()):
                out = options.out / f"{arm.replace(' ', '_')}_{number}_{seed}_{draw}"
                test = segmented(options, run, data, number, DRAWS * seed + draw, out, given)
                dice[arm].setdefault(number, {})[seed, draw] = test["dice"]
                structures[out.name] = {entry["name"]: entry["dice"] for entry in test["per_class"]}
                with open(out / ROWS, encoding="utf-8") as file:
                    volumes[out.name] = {row["path"]: float(row["dice"] or 0) for row in csv.DictReader(file)}
                report(options, dice, structures, volumes)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with images/ and labels/, NIfTI files of the same names")
    parser.add_argument("--run", help="a pretraining run for all seeds; by default one is made for each")
    parser.add_argument("--labelled", type=int, nargs="+", default=[5, 10, 40], help="labelled volumes to learn from")
    parser.add_argument("--test", type=int, default=40, help="volumes to test on, the same for all seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--draws", type=int, default=3, help="of labelled volumes, for each seed")
    parser.add_argument("--model", default="vit_tiny_patch16_224(depth=6)")
    parser.add_argument("--image-size", type=int, nargs="+", help="depth, height, width; by default chosen by the plan")
    parser.add_argument("--patch-size", type=int, help="by default chosen by the plan")
    parser.add_argument("--method", default="mae")
    parser.add_argument("--pretrain-epochs", type=float, default=200)
    parser.add_argument("--steps", type=int, default=400, help="of every training with labels")
    parser.add_argument("--batch", type=int, default=4, help="boxes in a step of these")
    parser.add_argument("--head", help="by default chosen by the plan")
    parser.add_argument("--protocol", default="full", choices=["full", "linear"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("volume-dice"))
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def split(data: Path, out: Path, test: int) -> tuple[Path, int]:
    """Links to the volumes in train and test, and how many can be learnt from."""
    names = sorted(p.name for p in (data / "images").iterdir() if p.name.endswith(ENDINGS) and p.name[0] != ".")
    names = [name for name in names if (data / "labels" / name).exists()]
    order = np.random.default_rng(0).permutation(len(names))
    for place, number in enumerate(order):
        for kind in ("images", "labels"):
            link = out / kind / ("test" if place < test else "train") / names[number]
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink((data / kind / names[number]).resolve(), link)
    return out, len(names) - test


def pretrained(options: argparse.Namespace, data: Path, seed: int) -> Path:
    out = options.out / f"run_{seed}"
    size = {"image_size": options.image_size, "patch_size": options.patch_size}
    chosen = {name: value for name, value in size.items() if value is not None}
    settings = {"model": options.model, "method": options.method, "epochs": options.pretrain_epochs}
    return unmask.pretrain(data / "images", out=out, seed=seed, threads=options.threads, **settings, **chosen).path


def segmented(options: argparse.Namespace, run, data: Path, number: int, seed: int, out: Path, given: dict) -> dict:
    """Figures on the test split."""
    batch = min(options.batch, number)
    settings = {"batch": batch, "epochs": options.steps * batch / number, "protocol": options.protocol}
    settings |= {"head": options.head, "patience": 0, "threads": options.threads}
    done = unmask.transfer(run, to="segment", on=data, most=number, seed=seed, out=out, **settings, **given)
    return done.metrics["test"]


def report(options: argparse.Namespace, dice: dict, structures: dict, volumes: dict) -> None:
    """Prints and writes what there is so far."""
    pretrained, scratch = (dice[arm] for arm in ARMS)
    lines = ["| labelled volumes | pretrained | from scratch | difference, by draw | by test volume |"]
    lines.append("|---|---|---|---|---|")
    rows = []
    for number in scratch:
        draws = sorted(scratch[number].keys() & pretrained[number].keys())
        a, b = (np.array([arm[number][draw] for draw in draws]) for arm in (pretrained, scratch))
        gap = student((a - b).tolist())
        by_volume = volume_gap([f"{number}_{seed}_{draw}" for seed, draw in draws], volumes)
        gaps = [f" ({ends[0]:+.3f} to {ends[1]:+.3f})" if ends else "" for ends in (gap, by_volume)]
        cells = [str(number), told(a), told(b), f"{(a - b).mean():+.3f}{gaps[0]}", gaps[1].strip(" ()")]
        lines.append("| " + " | ".join(cells) + " |")
        rows.append({"labelled": number, "draws": draws, "pretrained": a.tolist(), "scratch": b.tolist(), "gap": gap})
    print("\n".join(lines), flush=True)
    (options.out / "volume_dice.txt").write_text("\n".join(lines) + "\n")
    content = {
        "options": {k: str(v) for k, v in vars(options).items()},
        "rows": rows,
        "structures": structures,
        "volumes": volumes,
    }
    (options.out / "volume_dice.json").write_text(json.dumps(content, indent=1) + "\n")
    figure = make_figure(6, 3.8)
    axis = figure.subplots()
    for (arm, results), colour in zip(dice.items(), (BLUE, ORANGE)):
        numbers = sorted(results)
        axis.plot(numbers, [np.mean([*results[n].values()]) for n in numbers], "o-", color=colour, label=arm)
        for n in numbers:
            axis.plot([n] * len(results[n]), [*results[n].values()], ".", color=colour, alpha=0.5)
    axis.set(xscale="log", xlabel="labelled volumes", title="Dice on the test volumes; a dot for each draw")
    axis.set_xticks(sorted(scratch), [str(n) for n in sorted(scratch)])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=9)
    style(axis)
    save(figure, options.out / "volume_dice.png")


def volume_gap(trainings: list[str], volumes: dict) -> tuple[float, float] | None:
    """Interval over test volumes of how far the pretrained are above the others, on the mean over trainings."""
    names = [[f"{arm.replace(' ', '_')}_{training}" for arm in ARMS] for training in trainings]
    gaps = [
        float(np.mean([volumes[ours][path] - volumes[theirs][path] for ours, theirs in names]))
        for path in (volumes[names[0][0]] if names else ())
    ]
    return student(gaps)


def told(values: np.ndarray) -> str:
    interval = student(values.tolist(), 0, 1)
    return f"{values.mean():.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    for number in range(8):
        values = np.random.default_rng(number).normal(100, 5, (12, 14, 10)).astype(np.float32)
        labels = np.zeros(values.shape, np.uint8)
        labels[3:8, 4:9, 2 + number % 3 : 7] = 1
        for kind, array in (("images", values + 60 * labels), ("labels", labels)):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "data" / kind / f"{number}.nii.gz")
    words = "--labelled 2 --test 2 --seeds 0 --draws 1 --pretrain-epochs 1 --steps 2 --batch 2"
    size = ["--image-size", "8", "12", "8", "--patch-size", "4"]
    yield [str(folder / "data"), *words.split(), *size, "--model", smoke.MODEL, "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
