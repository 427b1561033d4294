"""What an encoder learns of words: images are found by a colour, and told by the names of classes, without a label.

    python benchmarks/captions.py clothing/ --out captions

DATA holds folders of classes, in train and test. Captions are made: the name of the class, and the colour of most of
the middle of the image, in one of a few sentences. A run learns from those of train. Then each colour is searched for
among the test images, "something COLOUR": of the ten nearest, how many have it, beside the share of the images that do.
And each test image is given one of the classes by their names alone, beside chance. Intervals are Wilson's, 95 %, over
all seeds.
"""

import argparse
import colorsys
import csv
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import smoke
from PIL import Image

import unmask
from unmask.data.labels import is_image_name
from unmask.evaluation.intervals import wilson

HUES = ((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (260, "blue"), (300, "purple"), (345, "pink"))
SENTENCES = ("a photo of a {colour} {name}", "a {colour} {name}", "{name}, {colour}", "something {colour}: a {name}")
TOP = 10


def main() -> None:
    options = parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = options.out / "data"
    train, test = (copied(Path(options.data) / split, data / split, options.side) for split in ("train", "test"))
    with open(data / "train" / "captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "caption"), *captions(train, options.each)])
    results = [measured(options, data, test, seed) for seed in options.seeds]
    report(options, Counter(test.values()), results)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder with train and test, in each a folder for every class")
    parser.add_argument("--method", default="siglip")
    parser.add_argument("--model", default="vit_tiny_patch16_224(depth=4)")
    parser.add_argument("--side", type=int, default=64, help="pixels of an image")
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--each", type=int, default=2, help="captions of each image")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("captions"))
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def copied(source: Path, out: Path, side: int) -> dict[str, str]:
    """Small copies of all images; the colour of each by its path."""
    colours = {}
    for path in sorted(path for path in source.rglob("*") if is_image_name(path.name)):
        name = path.relative_to(source).with_suffix(".png").as_posix()
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side))
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        small.save(out / name)
        colours[name] = colour_of(np.asarray(small))
    return colours


def colour_of(pixels: np.ndarray) -> str:
    """The word for the colour that most pixels in the middle have."""
    side = len(pixels)
    middle = pixels[side // 4 : -(side // 4), side // 4 : -(side // 4)].reshape(-1, 3) / 255
    return Counter(word_of(*colorsys.rgb_to_hsv(*pixel)) for pixel in middle).most_common(1)[0][0]


def word_of(hue: float, saturation: float, value: float) -> str:
    if value < 0.25:
        return "black"
    if saturation < 0.2:
        return "white" if value > 0.75 else "grey"
    return next((word for end, word in HUES if 360 * hue < end), "red")


def captions(colours: dict[str, str], each: int) -> Iterator[tuple[str, str]]:
    chance = random.Random(0)
    for name, colour in colours.items():
        for sentence in chance.sample(SENTENCES, each):
            yield name, sentence.format(colour=colour, name=name.split("/")[0])


def measured(options: argparse.Namespace, data: Path, colours: dict[str, str], seed: int) -> dict:
    """One run, and what its words find."""
    settings = {"model": options.model, "image_size": options.side, "patch_size": options.patch_size}
    settings |= {"epochs": options.epochs, "batch": options.batch, "threads": options.threads, "seed": seed}
    run = unmask.pretrain(data / "train", out=options.out / f"run_{seed}", method=options.method, **settings).path
    place, test = options.out / f"found_{seed}", data / "test"
    counts = Counter(colours.values())
    queries = {f"something {colour}": colour for colour in sorted(counts)}
    hits = unmask.search(run, test, query=list(queries), top=TOP, out=place, device="cpu").hits
    found = {colour: [colours[hit.path] == colour for hit in hits if hit.query == q] for q, colour in queries.items()}
    classes = sorted({name.split("/")[0] for name in colours})
    answers = unmask.predict(run, test, classes=classes, out=place / "classes.csv", device="cpu")
    right = [name.split("/")[0] == answer for name, answer in zip(answers.names, answers.labels)]
    return {"found": found, "right": right, "classes": classes}


def report(options: argparse.Namespace, counts: Counter, results: list[dict]) -> None:
    """Prints and writes the tables, over all seeds."""
    total = sum(counts.values())
    lines = ["| colour | test images | of the ten nearest | chance |", "|---|---|---|---|"]
    rows, every, expected = [], [], []
    for colour, count in counts.most_common():
        hits = [hit for result in results for hit in result["found"][colour]]
        every += hits
        expected += [count / total] * len(hits)
        lines.append(f"| {colour} | {count} | {share(hits)} | {count / total:.0%} |")
        rows.append({"colour": colour, "count": count, "precision": float(np.mean(hits)), "chance": count / total})
    lines.append(f"| all | {total} | {share(every)} | {np.mean(expected):.0%} |")
    right = [answer for result in results for answer in result["right"]]
    chance = 1 / len(results[0]["classes"])
    lines += ["", f"Classes by their names alone: {share(right)}; chance is {chance:.0%}."]
    print("\n".join(lines), flush=True)
    (options.out / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = {"options": {k: str(v) for k, v in vars(options).items()}, "colours": rows}
    facts |= {"zero_shot": float(np.mean(right)), "chance": chance, "colour_precision": float(np.mean(every))}
    (options.out / "captions.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def share(answers: list[bool]) -> str:
    low, high = wilson(sum(answers), len(answers))
    return f"{np.mean(answers):.0%} ({low:.0%} to {high:.0%})"


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    words = "--side 32 --patch-size 8 --epochs 1 --batch 8 --seeds 0"
    data = smoke.labelled(folder / "data")
    yield [str(data), *words.split(), "--model", smoke.MODEL, "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
