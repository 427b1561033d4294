"""Is pretraining worth something for detection? The same detector, pretrained on the training images without their
boxes, from scratch, and on frozen encoders, pretrained and random, with the same schedule and several seeds.

    python benchmarks/dense_detect.py DATA --out FOLDER

DATA: boxes as `unmask transfer --to detect` reads them. Prints a table and writes detect.json, detect.png (score on val
by step) and found.png (test images beside what the pretrained detector found) into FOLDER. Stop it at any time: the
same command goes on where it was. `--arms scratch frozen` does a part of the work.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import smoke
from matplotlib.figure import Figure
from PIL import ImageDraw

import unmask
from unmask.data.datasets.detection import Boxed
from unmask.training.log import read

ARMS = {
    "pretrained": {},
    "scratch": {"init": "none", "layer_decay": 1.0},
    "pretrained-frozen": {"protocol": "linear"},
    "frozen": {"init": "none", "protocol": "linear"},
}
WORDS = {
    "pretrained": "pretrained",
    "scratch": "from scratch",
    "pretrained-frozen": "pretrained, frozen",
    "frozen": "random, frozen",
}
COLOURS = {"pretrained": "#0072B2", "scratch": "#D55E00", "pretrained-frozen": "#56B4E9", "frozen": "#777777"}
FIGURES = ("map", "map50", "map75", "small", "medium", "large")


def main() -> None:
    options = parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    boxed = Boxed([str(options.data)], max_side=2048, form=options.format)
    names = options.out / "train.txt"
    names.write_text("".join(f"{boxed.annotated.scenes[i].path}\n" for i in boxed.splits["train"]), encoding="utf-8")
    run, shared = options.out / "run", {"device": options.device, "threads": options.threads}
    if {"pretrained", "pretrained-frozen"} & set(options.arms):
        pretraining = {"model": options.model, "patch_size": options.patch_size, "image_size": options.pretrain_size}
        unmask.pretrain(names, out=run, steps=options.steps, batch=32, **pretraining, **shared)
    found: dict[str, list[dict]] = {}
    for seed in options.seeds:
        for arm in options.arms:
            settings = {"input_size": tuple(options.input_size), "epochs": options.epochs, "lr": options.lr}
            settings |= {
                "batch": options.batch,
                "width": options.width,
                "rois": options.rois,
                "patience": 0,
                "seed": seed,
            } | shared
            start, out = time.time(), options.out / f"{arm}_{seed}"
            done = unmask.transfer(run, to="detect", on=options.data, out=out, **settings | ARMS[arm])
            figures = done.metrics["test"] | {"seed": seed, "minutes": (time.time() - start) / 60}
            found.setdefault(arm, []).append(
                figures | {"seconds": json.loads((out / "summary.json").read_text())["seconds"]}
            )
    (options.out / "detect.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(table(found))
    draw(options, found)
    if "pretrained" in found:
        shutil.copy(options.out / f"pretrained_{options.seeds[0]}" / "examples.png", options.out / "found.png")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--format", default="auto")
    parser.add_argument("--model", default="vit_tiny_patch16_224(depth=6)")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--pretrain-size", type=int, default=128, help="pixels of the crops of pretraining")
    parser.add_argument("--steps", type=int, default=2000, help="of pretraining, 32 images each")
    parser.add_argument("--input-size", type=int, nargs=2, default=(192, 256), help="height and width for the detector")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rois", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2, help="of the detector: in a short training steps count most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def table(found: dict[str, list[dict]]) -> str:
    """A row per arm: the mean over seeds, and the lowest and highest of them."""
    lines = ["| encoder | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for arm, runs in found.items():
        cells = []
        for name in FIGURES:
            values = [100 * run[name] for run in runs if run[name] is not None]
            spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{spread}" if values else "none")
        lines.append(f"| {WORDS[arm]}, {len(runs)} seeds | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(options: argparse.Namespace, found: dict[str, list[dict]]) -> None:
    figure = Figure(figsize=(6.6, 3.8), dpi=110, layout="constrained")
    axis = figure.subplots()
    for arm in found:
        for place, seed in enumerate(options.seeds):
            looks = [r for r in read(options.out / f"{arm}_{seed}" / "metrics.jsonl") if "val_map" in r]
            steps, values = [r["step"] for r in looks], [100 * r["val_map"] for r in looks]
            axis.plot(steps, values, color=COLOURS[arm], lw=1.5, label=None if place else WORDS[arm])
    axis.set(
        xlabel="step",
        ylabel="mAP on val, %",
        title=f"One line per seed; inputs of {options.input_size}",
        ylim=(0, None),
    )
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out / "detect.png")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    words = "--patch-size 8 --pretrain-size 32 --steps 1 --input-size 64 64 --epochs 1 --width 16 --rois 8 --seeds 0"
    arms = ["--arms", "pretrained", "frozen", "--device", "cpu", "--threads", "1"]
    model = ["--model", smoke.MODEL]
    yield [str(write_boxes(folder / "boxes")), "--out", str(out), *words.split(), *arms, *model, "--smoke"]


def write_boxes(root: Path) -> Path:
    """A red box on each image, as COCO writes it down, in three splits."""
    images, first = root / "images", 1
    images.mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        table: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
        for number in range(first, first + count):
            image, left = smoke.image(number), 4 * (number % 5)
            ImageDraw.Draw(image).rectangle((left, 10, left + 23, 33), fill=(220, 40, 40))
            image.save(images / f"{number}.png")
            table["images"].append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64})
            box = {"bbox": [left, 10, 24, 24], "area": 24 * 24, "iscrowd": 0}
            table["annotations"].append({"id": number, "image_id": number, "category_id": 1} | box)
        first += count
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(table), encoding="utf-8")
    return root


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
