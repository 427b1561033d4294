"""Anomalies in data made for it: planted defects in photographs, and one digit among others. With labels only to judge.

    python benchmarks/anomaly.py plant clothing/ --out planted            # folders and masks, by seed
    python benchmarks/anomaly.py compare planted --run run-clothing       # fits, applies, compares; table and image
    python benchmarks/anomaly.py digits mnist/ --normal 3 --out digits    # one digit is normal: arrays for `unmask`

`plant` needs a folder with train, validation and test. Fitted is on train, as it is. Validation is dealt out into
images to choose settings on (each intact and with a defect) and images to calibrate on; nothing is chosen on test,
of whose images one half gets a defect and the other does not.
"""

import argparse
import csv
import hashlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import smoke
from defects import KINDS, plant
from records import RESULTS, machine

from unmask.tasks.anomaly import cues

FITS = {  # name in the table -> folder, options of `anomaly fit`, and the method to read
    "rebuild": ("both", {}, "rebuild"),
    "rebuild, by place only": ("place", {"method": "rebuild", "normalize_errors": "place"}, "rebuild"),
    "rebuild, by texture only": ("texture", {"method": "rebuild", "normalize_errors": "texture"}, "rebuild"),
    "rebuild, not normalised": ("none", {"method": "rebuild", "normalize_errors": "none"}, "rebuild"),
    "features": ("both", {}, "features"),
    "both": ("both", {}, "both"),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("plant", help="make the data")
    one.add_argument("data", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seeds", type=int, default=2)
    one.set_defaults(run=lambda options: [planted(options.data, options.out, seed) for seed in range(options.seeds)])
    two = commands.add_parser("compare", help="fit, apply, compare")
    two.add_argument("planted", type=Path)
    two.add_argument("--run", type=Path, required=True, dest="pretrained")
    two.add_argument("--normals", type=Path, required=True, help="the images to fit on: train of the data")
    two.add_argument("--out", type=Path, default=Path("runs/anomaly"))
    two.add_argument("--part", choices=("dev", "test"), default="test", help="dev: to choose settings on")
    two.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS))
    two.add_argument("--sets", type=int, default=4)
    two.add_argument("--most", type=int, default=2000, help="images to fit on")
    two.add_argument("--threads", type=int, default=1)
    two.add_argument("--results", type=Path, default=RESULTS, help="folder for the record")
    two.set_defaults(run=compare)
    three = commands.add_parser("digits", help="one digit is normal")
    three.add_argument("data", type=Path, help="folder with t10k-images and t10k-labels (idx, gzipped)")
    three.add_argument("--out", type=Path, required=True)
    three.add_argument("--normal", type=int, default=3)
    three.add_argument("--seed", type=int, default=0)
    three.set_defaults(run=digits)
    return parser


def main() -> None:
    options = parser().parse_args()
    options.run(options)


def planted(data: Path, out: Path, seed: int) -> None:
    """seed-N with calibrate/, dev/ and test/ (good, and a folder per kind of defect), and masks/dev, masks/test."""
    root = out / f"seed-{seed}"
    if (root / "done").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng([seed, 0xDEF])
    train = sorted((data / "train").rglob("*.jpg"))
    validation = rng.permutation(sorted((data / "validation").rglob("*.jpg"))).tolist()
    test = rng.permutation(sorted((data / "test").rglob("*.jpg"))).tolist()
    half = len(validation) // 2
    for place in validation[half:]:
        copy(Path(place), root / "calibrate" / f"{Path(place).stem}.png")
    work = [("dev", place, True) for place in validation[:half]] + [
        ("dev", place, False) for place in validation[:half]
    ]
    work += [("test", place, number % 2 == 0) for number, place in enumerate(test)]
    count = 0
    for part, place, intact in work:
        if intact:
            copy(Path(place), root / part / "good" / f"{Path(place).stem}.png")
            continue
        kind = KINDS[count % len(KINDS)]
        count += 1
        donor = cv2.imread(str(train[rng.integers(len(train))]))
        image, mask = plant(cv2.imread(str(place)), donor, kind, rng)
        write(root / part / kind / f"{Path(place).stem}.png", image)
        write(root / "masks" / part / kind / f"{Path(place).stem}.png", mask)
    (root / "done").write_text("")
    print(f"{root}: {len(validation) - half} to calibrate, {half} to choose on, {len(test)} to test")


def copy(source: Path, target: Path) -> None:
    write(target, cv2.imread(str(source)))


def write(target: Path, image: np.ndarray) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), image)


def compare(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)
    remember_errors()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in options.fits}
    roots = sorted(path for path in options.planted.glob("seed-*") if (path / "done").exists())
    seconds = []
    for root in roots:
        done = set()
        for name in options.fits:
            key, flags, method = FITS[name]
            folder = options.out / root.name / key
            if key not in done:
                start = time.monotonic()
                run(root, folder, flags, options)
                done.add(key)
                seconds.append(time.monotonic() - start)
                print(f"{root.name}, {key}: {seconds[-1]:.0f} s", flush=True)
            rows[name].append(figures(folder / options.part, method))
    record = {"machine": machine(), "part": options.part, "command": " ".join(sys.argv), "seconds": seconds}
    text = table(rows)
    if options.part == "test":
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / "anomaly_planted.json").write_text(json.dumps(record | {"rows": rows}, indent=1) + "\n")
        (options.results / "anomaly_planted.txt").write_text(text + "\n")
        image(options, roots[0], options.results / "anomaly_planted.png")
    print(text)


def run(root: Path, folder: Path, flags: dict[str, Any], options: argparse.Namespace) -> None:
    """The same as `unmask anomaly fit` and `unmask anomaly apply`, in this process."""
    import unmask

    common = {"device": "cpu", "calibrate_on": root / "calibrate", "sets": options.sets, "most": options.most}
    unmask.anomaly("fit", options.pretrained, options.normals, out=folder, **common, **flags)
    given = {"on": root / options.part, "masks": root / "masks" / options.part, "heatmaps": 0, "device": "cpu"}
    unmask.anomaly("apply", folder, out=folder / options.part, **given)


def remember_errors() -> None:
    """Fits differ in what errors are compared with, not in the errors: they are computed once for the same images.
    The model and the masks are the same in all calls of `compare`."""

    known, compute = {}, cues.errors

    def errors(model: Any, masks: Any, x: Any) -> Any:
        key = hashlib.blake2b(x.numpy().tobytes()).digest()
        if key not in known:
            known[key] = compute(model, masks, x)
        return known[key]

    cues.errors = errors


def figures(folder: Path, method: str) -> dict[str, Any]:
    """What `apply` found, and the AUROC of images for each kind of defect against all intact ones."""
    from sklearn.metrics import roc_auc_score

    found = json.loads((folder / "results.json").read_text())["figures"][method]
    with open(folder / "scores.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    good = [float(line[method]) for line in lines if line["path"].startswith("good/")]
    kinds = {}
    for kind in KINDS:
        bad = [float(line[method]) for line in lines if line["path"].startswith(f"{kind}/")]
        kinds[kind] = float(roc_auc_score([0] * len(good) + [1] * len(bad), good + bad))
    return found | {"kinds": kinds}


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Means over seeds, with the least and the greatest."""

    def cell(values: list[float], digits: int = 3) -> str:
        if len(values) == 1:
            return f"{values[0]:.{digits}f}"
        return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"

    heading = ["method", "AUROC of images", "AUROC of pixels", *KINDS, "defects found, %", "false alarms, %"]
    lines = [heading, ["---"] * len(heading)]
    for name, seeds in rows.items():
        line = [name, cell([f["images"]["auroc"] for f in seeds]), cell([f["pixels"]["auroc"] for f in seeds])]
        line += [cell([f["kinds"][kind] for f in seeds], 2) for kind in KINDS]
        line += [cell([100 * f[key]["share"] for f in seeds], 1) for key in ("found", "false_alarms")]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def image(options: argparse.Namespace, root: Path, path: Path) -> None:
    """For each kind of defect an image with its outline, and what each method makes of it."""
    from matplotlib.figure import Figure

    import unmask

    columns = {"rebuild, not normalised": "none", "rebuild": "both", "features": "both", "both": "both"}
    finders = {key: unmask.load(options.out / root.name / key) for key in set(columns.values())}
    figure = Figure(figsize=(1.9 * (len(columns) + 1), 1.98 * len(KINDS) + 0.3), dpi=110)
    axes = figure.subplots(len(KINDS), len(columns) + 1)
    for line, kind in zip(axes, KINDS):
        file = sorted((root / options.part / kind).iterdir())[1]
        mask = cv2.imread(str(root / "masks" / options.part / kind / file.name), cv2.IMREAD_GRAYSCALE)
        shown = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        for axis in line:
            axis.set(xticks=[], yticks=[])
        first = next(iter(finders.values()))
        size = first.tiling.size
        shown, mask = (square(one, size) for one in (shown, mask))
        line[0].imshow(shown)
        line[0].contour(mask > 127, [0.5], colors="#56B4E9", linewidths=1)
        line[0].set_ylabel(kind)
        for axis, (name, key) in zip(line[1:], columns.items()):
            method = name.split(",")[0]
            found = finders[key].predict(file, method=method)
            median, threshold = finders[key].calibrations[method].median, found.thresholds[method]
            axis.imshow(found.maps[0], cmap="inferno", vmin=median, vmax=median + 2 * (threshold - median))
            if found.maps[0].max() > threshold:
                axis.contour(found.maps[0], [threshold], colors="white", linewidths=0.9)
            if kind == KINDS[0]:
                axis.set_title(name, fontsize=9)
    figure.subplots_adjust(left=0.03, right=0.995, bottom=0.005, top=1 - 0.28 / figure.get_figheight(), wspace=0.03)
    figure.savefig(path)


def square(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import torch

    from unmask.data.transforms.kernels.crop import WholeImage

    planes = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)
    return WholeImage(size)(planes).permute(1, 2, 0).numpy().squeeze()


def digits(options: argparse.Namespace) -> None:
    """train.npz and calibrate.npz with images of the normal digit, test.npz with others of all digits, labelled."""
    import gzip

    read = lambda name: gzip.decompress(next(options.data.glob(f"t10k-{name}-idx*")).read_bytes())  # noqa: E731
    images = np.frombuffer(read("images"), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(read("labels"), np.uint8, offset=8)
    rng = np.random.default_rng([options.seed, options.normal])
    normal = rng.permutation(np.flatnonzero(labels == options.normal))
    others = [rng.permutation(np.flatnonzero(labels == digit))[:30] for digit in range(10) if digit != options.normal]
    test = np.concatenate([normal[800:], *others])
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(options.out / "train.npz", images=images[normal[:600]])
    np.savez(options.out / "calibrate.npz", images=images[normal[600:800]])
    words = np.where(labels[test] == options.normal, "normal", "other")
    np.savez(options.out / "test.npz", images=images[test], labels=words)
    print(
        f"{options.out}: 600 to train on, 200 to calibrate, {len(normal) - 800} normal and {len(test)} in all to test"
    )


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    import unmask

    for number, (split, count) in enumerate({"train": 8, "validation": 38, "test": 16}.items()):
        smoke.images(folder / "data" / split, count, seed=number)
    sizes = {"model": smoke.MODEL, "decoder": smoke.DECODER, "image_size": 32, "patch_size": 8}
    run = unmask.pretrain(folder / "data" / "train", out=folder / "run", steps=1, batch=4, device="cpu", **sizes)
    yield ["--smoke", "plant", str(folder / "data"), "--out", str(out / "planted"), "--seeds", "1"]
    options = ["--run", str(run.path), "--normals", str(folder / "data" / "train"), "--sets", "1", "--most", "8"]
    options += ["--fits", "rebuild", "rebuild, not normalised"]
    written = ["--out", str(out / "fits"), "--results", str(out)]
    yield ["--smoke", "compare", str(out / "planted"), *options, *written]
    write_digits(folder / "digits")
    yield ["--smoke", "digits", str(folder / "digits"), "--normal", "3", "--out", str(out / "digits")]


def write_digits(folder: Path) -> None:
    """Blank images and labels as MNIST has them, most of them of the digit 3."""
    import gzip

    folder.mkdir(parents=True)
    labels = np.array([3] * 820 + [digit for digit in range(10) for _ in range(31)], np.uint8)
    images = gzip.compress(bytes(16 + 28 * 28 * len(labels)), 1)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(images)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + labels.tobytes(), 1))


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
