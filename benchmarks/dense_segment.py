"""What pretraining on the same images is worth for segmentation: pretrained, from scratch, frozen, frozen at random.

    python benchmarks/dense_segment.py camvid/ --out dense-segment

pretrains on camvid/train without labels, then trains the same head with the same schedule on four encoders, with every
seed; prints a table and writes dense_segment.json, curves and overlays. It goes on where it was interrupted.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import smoke
from matplotlib.figure import Figure
from PIL import Image

import unmask
from unmask.evaluation.intervals import student

MODEL = "vit_tiny_patch16_224(depth=6)"
ARMS = {
    "pretrained, tuned": {"protocol": "full"},
    "from scratch": {"protocol": "full", "init": "none"},
    "pretrained, frozen": {"protocol": "linear"},
    "random, frozen": {"protocol": "linear", "init": "none"},
}
COLOURS = ("#0072B2", "#6E6E6E", "#56B4E9", "#B0B0B0")


def main():
    options = parser().parse_args()
    out = Path(options.out)
    size = {"image_size": options.crop_size, "patch_size": options.patch_size}
    run = (
        options.run
        or unmask.pretrain(
            Path(options.data) / "train",
            out=out / "run",
            model=options.model,
            epochs=options.pretrain_epochs,
            crop=0.08,  # so that crops show things as large as the segmenters' crops do
            threads=options.threads,
            **size,
        ).path
    )
    shared = {"to": "segment", "on": options.data, "epochs": options.epochs, "head": options.head, "batch": 8}
    shared |= {"crop_size": options.crop_size, "side": options.side, "lr": 1e-3, "layer_decay": options.layer_decay}
    shared |= {"patience": 0, "threads": options.threads, "most": options.most}
    found = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        for arm, given in ARMS.items():
            if options.arms and arm not in options.arms:
                continue
            place = out / f"{arm.replace(', ', '_').replace(' ', '_')}_{seed}"
            done = unmask.transfer(run, out=place, seed=seed, **shared, **given)
            found[arm].append(read(done))
            report(found, options, out, run)
    tuned = found["pretrained, tuned"]
    if tuned:
        best = max(tuned, key=lambda one: one["test"]["miou"])
        shutil.copy(Path(best["path"]) / "overlays.png", out / "dense_segment_overlays.png")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="segmented images with train, val and test folders")
    parser.add_argument("--out", default="dense-segment")
    parser.add_argument("--run", help="a pretraining run; by default one is made")
    parser.add_argument("--pretrain-epochs", type=float, default=800)
    parser.add_argument("--epochs", type=float, default=30, help="of every training of a segmenter")
    parser.add_argument("--most", type=int, help="training images with masks, drawn at random; by default all")
    parser.add_argument("--layer-decay", type=float, default=1.0, help="the same for all; 1 suits scratch best")
    parser.add_argument("--crop-size", type=int, default=96)
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--side", type=int, default=192, help="shorter side that images are resized to")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), help="by default all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--head", default="light")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def read(done):
    """The figures of one training, and the course of its val mIoU."""
    lines = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    looks = [(line["step"], line["val_miou"]) for line in lines if "val_miou" in line]
    summary = json.loads((done.path / "summary.json").read_text())
    test = {name: done.metrics["test"][name] for name in ("miou", "pixel_accuracy", "mean_accuracy", "per_class")}
    return {"path": str(done.path), "test": test, "looks": looks, "seconds": summary["seconds"]}


def report(found, options, out, run):
    """Prints and writes what there is so far."""
    rows = []
    for arm, results in found.items():
        if results:
            miou, pixels = ([r["test"][name] for r in results] for name in ("miou", "pixel_accuracy"))
            rows.append((arm, miou, pixels, sum(r["seconds"] for r in results)))
    lines = ["| encoder | mIoU, each seed | mean | pixel accuracy | seconds |", "|---|---|---|---|---|"]
    for arm, miou, pixels, seconds in rows:
        each = ", ".join(f"{100 * v:.1f}" for v in miou)
        lines.append(f"| {arm} | {each} | {100 * np.mean(miou):.1f} | {100 * np.mean(pixels):.1f} | {seconds:.0f} |")
    print("\n".join(lines), flush=True)
    intervals = {arm: student(miou, 0, 1) for arm, miou, _, _ in rows}
    content = {"options": vars(options), "run": str(run), "found": found, "intervals": intervals}
    (out / "dense_segment.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "dense_segment.txt").write_text("\n".join(lines) + "\n")
    figure = Figure(figsize=(7.5, 3.8), dpi=110, layout="constrained")
    axis = figure.subplots()
    for (arm, results), colour in zip(found.items(), COLOURS):
        for place, result in enumerate(results):
            steps, values = zip(*result["looks"])
            axis.plot(steps, [100 * v for v in values], color=colour, lw=1.6, label=None if place else arm)
    axis.set(xlabel="step", title="mIoU on the val split, %, a line per seed")
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "dense_segment.png")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    words = "--pretrain-epochs 1 --epochs 1 --crop-size 32 --side 32 --seeds 0 --head linear --arms"
    arms = ["pretrained, tuned", "random, frozen"]
    data = write_masks(folder / "scenes")
    yield [str(data), "--out", str(out), *words.split(), *arms, "--model", smoke.MODEL, "--smoke"]


def write_masks(root: Path) -> Path:
    """A red box on each image, and masks that say where it is, in three splits."""
    first = 1
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(first, first + count):
            pixels, mask = np.asarray(smoke.image(number)).copy(), np.zeros((64, 64), np.uint8)
            left = 4 * (number % 5)
            pixels[10:34, left : left + 24], mask[10:34, left : left + 24] = (220, 40, 40), 1
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
        first += count
    return root


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
