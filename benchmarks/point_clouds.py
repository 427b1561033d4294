"""What pretraining on clouds of points is worth with few labels: Point-MAE's groups, or voxels, against scratch.

    python benchmarks/point_clouds.py clouds.npz --labels-per-class 1 5 --seeds 0 1 -- --epochs 300

DATA has a train and a test split with labels: one NPZ file (train_points, train_labels, test_points, test_labels), or
class folders of PLY, OBJ, OFF ... in folders train and test. For each seed and each kind of units an encoder is
pretrained on the training clouds without labels, and `unmask labels` compares it with the same network from scratch and
one with random weights, on the same draws of so many labels per class. What comes after -- are options of
`unmask pretrain`. It goes on where it was interrupted. Writes point_clouds.json, .md and .png, and leaves the
runs with their pages.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import few_labels
import numpy as np
import smoke

KINDS = ("groups", "voxels")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("point_clouds"))
    parser.add_argument("--units", nargs="+", choices=KINDS, default=["groups"])
    parser.add_argument("--modality", default="", help="options of clouds beside units, such as turn='off'")
    few_labels.add_options(parser, "1", "5")
    return parser


def main() -> None:
    options, given = few_labels.parsed(parser())
    kinds = {}
    for kind in options.units:
        modality = f"points(units={kind!r}{', ' if options.modality else ''}{options.modality})"
        kinds[kind] = {"modality": modality, "data": options.data, "on": options.data}
    few_labels.compare(kinds, options, given, "point_clouds")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    """Balls and sticks."""
    chance, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 8), ("test", 4)):
        labels = np.arange(count) % 2
        points = chance.standard_normal((count, 64, 3))
        points /= np.linalg.norm(points, axis=2, keepdims=True)
        points[labels == 1, :, 2] *= 0.2
        arrays |= {f"{split}_points": points.astype(np.float32), f"{split}_labels": labels}
    np.savez(folder / "clouds.npz", **arrays)
    own = [str(folder / "clouds.npz"), "--out", str(out), "--units", *KINDS, "--modality", "points=64, resolution=8"]
    own += ["--labels-per-class", "1", "--draws", "1", "--epochs", "1", "--seeds", "0", "--protocols", "linear", "full"]
    yield [*own, "--", "--model", smoke.MODEL, "--decoder", smoke.DECODER, "--steps", "2"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
