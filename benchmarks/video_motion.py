"""What pretraining on clips is worth for telling motions apart, and whether a single frame could have told them.

    python benchmarks/video_motion.py video_motion/ --out video-motion

For each seed an encoder is pretrained on the training clips without labels (or --run is taken), and `unmask labels`
compares it with the same network from scratch, with so many labels per class. The same is done with the middle frame of
each clip as an image: what that reaches can be seen without time. Accuracies are means over seeds with 95 % intervals
(Student's t), differences are paired by seed. It goes on where it was interrupted.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import smoke
from PIL import Image

import unmask
from unmask.data.source import open_source
from unmask.evaluation.intervals import student
from unmask.report.palette import BLUE, GREEN, ORANGE, PURPLE, make_figure, save, style
from unmask.studies.label_curve.curve import PRETRAINED

COLOURS = {("clip", True): BLUE, ("clip", False): ORANGE, ("frame", True): GREEN, ("frame", False): PURPLE}
Key = tuple[str, str, str, bool]  # clip or frame, protocol, labels per class, pretrained


def main() -> None:
    options = parser().parse_args()
    places = {"clip": Path(options.data), "frame": frames(Path(options.data), options.out / "frames")}
    accuracies: dict[Key, dict[int, float]] = {}
    for seed in options.seeds:
        for kind, data in places.items():
            run = (options.run if kind == "clip" else options.frame_run) or pretrained(options, kind, data, seed)
            curve = unmask.labels(
                run,
                on=data,
                labels_per_class=tuple(options.labels_per_class),
                protocols=tuple(options.protocols),
                draws=1,
                seed=seed,
                epochs=options.epochs,
                jobs=options.jobs,
                out=options.out / f"labels_{kind}_{seed}",
            )
            for point in curve.points:
                key = (kind, point.protocol, point.size, point.competitor == PRETRAINED)
                accuracies.setdefault(key, {})[seed] = point.accuracy
            report(options, accuracies, len(curve.classes))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="clips with a train and a test split, labelled by folders or labels.csv")
    parser.add_argument("--run", help="a pretraining run on the clips for all seeds; by default one is made for each")
    parser.add_argument("--frame-run", help="the same, on their middle frames")
    parser.add_argument("--labels-per-class", nargs="+", default=["5", "10", "60"])
    parser.add_argument("--protocols", nargs="+", default=["full"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--model", default="vit_tiny_patch16_224(depth=6)")
    parser.add_argument("--image-size", type=int, default=64, help="height and width of clips and frames")
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--modality", default="video(frames=8, step=2)", help="of the clips")
    parser.add_argument("--method", default="mae")
    parser.add_argument("--pretrain-epochs", type=float, default=100)
    parser.add_argument("--epochs", type=float, help="of every fine-tuning; by default more, the fewer the labels")
    parser.add_argument("--jobs", type=int, help="trainings side by side")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("video-motion"))
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def frames(data: Path, out: Path) -> Path:
    """The middle frame of each clip as an image, in folders of splits and classes."""
    source = open_source(data, "video")
    for index, item in enumerate(source.items):
        path = (out / str(item.split) / str(item.label) / item.name.replace("/", "_")).with_suffix(".png")
        if path.exists():
            continue
        clip = source.modality.decode(source.raw(index)).content
        pixels = clip.frames([clip.num_frames // 2])[:, 0].permute(1, 2, 0).numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(path)
    return out


def pretrained(options: argparse.Namespace, kind: str, data: Path, seed: int) -> Path:
    """Frames are seen as often as clips are."""
    side = options.image_size
    settings = {"model": options.model, "method": options.method, "patch_size": options.patch_size}
    settings |= {"modality": options.modality if kind == "clip" else "image", "image_size": (side, side)}
    settings |= {"epochs": options.pretrain_epochs, "seed": seed, "threads": options.threads, "flip": "off"}
    return unmask.pretrain(data / "train", out=options.out / f"run_{kind}_{seed}", **settings).path


def report(options: argparse.Namespace, accuracies: dict[Key, dict[int, float]], num_classes: int) -> None:
    """Prints and writes what there is so far."""
    chance = f"{num_classes} classes: {1 / num_classes:.1%} by chance"
    lines = [chance, "", "| seen | protocol | labels per class | pretrained | not | difference, paired by seed |"]
    lines.append("|---|---|---|---|---|---|")
    rows = []
    for kind, protocol, size in dict.fromkeys(key[:3] for key in accuracies):
        with_run, without = (accuracies.get((kind, protocol, size, which), {}) for which in (True, False))
        seeds = sorted(with_run.keys() & without.keys())
        if not seeds:
            continue
        a, b = (np.array([values[seed] for seed in seeds]) for values in (with_run, without))
        gap = student((a - b).tolist())
        interval = f" ({100 * gap[0]:+.1f} to {100 * gap[1]:+.1f})" if gap else ""
        cells = [kind, protocol, size, told(a), told(b), f"{100 * (a - b).mean():+.1f}{interval}"]
        lines.append("| " + " | ".join(cells) + " |")
        rows.append({"seen": kind, "protocol": protocol, "labels": size, "pretrained": a.tolist(), "not": b.tolist()})
    print("\n".join(lines), flush=True)
    (options.out / "video_motion.txt").write_text("\n".join(lines) + "\n")
    content = {"options": {k: str(v) for k, v in vars(options).items()}, "chance": 1 / num_classes, "rows": rows}
    (options.out / "video_motion.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(options, [row for row in rows if row["protocol"] == options.protocols[-1]], 1 / num_classes)


def draw(options: argparse.Namespace, rows: list[dict], chance: float) -> None:
    sizes = list(dict.fromkeys(row["labels"] for row in rows))
    figure = make_figure(6.5, 3.8)
    axis = figure.subplots()
    for (kind, which), colour in COLOURS.items():
        name = "pretrained" if which else "not"
        places = [(sizes.index(row["labels"]), row[name]) for row in rows if row["seen"] == kind]
        label = f"{'clips' if kind == 'clip' else 'one frame'}, {'pretrained' if which else 'from scratch'}"
        axis.plot([x for x, _ in places], [100 * np.mean(v) for _, v in places], "o-", color=colour, label=label)
        for x, values in places:
            axis.plot([x] * len(values), 100 * np.array(values), ".", color=colour, alpha=0.5)
    axis.axhline(100 * chance, color="#999999", lw=0.8, ls="dotted")
    axis.set_xticks(range(len(sizes)), sizes)
    axis.set(xlabel="labels per class", title=f"Test accuracy, %, {options.protocols[-1]}; dotted: chance")
    axis.legend(frameon=False, fontsize=8)
    style(axis)
    save(figure, options.out / "video_motion.png")


def told(values: np.ndarray) -> str:
    interval = student(values.tolist(), 0, 1)
    inside = f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    return f"{100 * values.mean():.1f} %{inside}"


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    """Small animations, since every machine can write those."""
    for split, count in (("train", 6), ("test", 3)):
        for label, name in enumerate(("left", "right")):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                picture = np.asarray(smoke.image(100 * label + number + len(split), 48))
                shifted = [np.roll(picture, (2 * label - 1) * 2 * step, axis=1)[:32, 8:40] for step in range(8)]
                images = [Image.fromarray(pixels) for pixels in shifted]
                path = folder / "data" / split / name / f"{number}.gif"
                images[0].save(path, save_all=True, append_images=images[1:], duration=100, loop=0)
    words = "--labels-per-class 2 --seeds 0 --pretrain-epochs 1 --epochs 1 --image-size 16 --jobs 1"
    yield [str(folder / "data"), *words.split(), "--model", smoke.MODEL, "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
