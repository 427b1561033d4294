"""Was pretraining worth it, with few labels? `unmask pretrain` and `unmask labels`, for several seeds, in one table.

    python benchmarks/few_labels.py digits/train --on digits --labels-per-class 1 5 10 -- --hours 0.2

DATA is learned from without labels; of the labelled data --on so many of each class are drawn, the same for the
pretrained encoder, the same network from scratch and one with random weights. What comes after -- are options of
`unmask pretrain`. A seed is one pretraining with its own draws. Everything that is finished is kept: the same command
goes on after an interruption. Writes few_labels.json, .md and .png, and leaves the runs with their pages.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from budget import save
from records import machine

from unmask.evaluation.intervals import student
from unmask.report.palette import BLUE, VERMILION, make_figure, style
from unmask.report.palette import save as save_figure
from unmask.studies.label_curve.curve import ALL, PRETRAINED, WORDS

Point = dict[str, Any]  # of labels.json


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--on", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("few_labels"))
    add_options(parser, "1", "5", "10")
    return parser


def add_options(parser: argparse.ArgumentParser, *labels_per_class: str) -> None:
    """Those that every benchmark has that calls `curve`. labels_per_class: by default."""
    parser.add_argument("--labels-per-class", nargs="+", default=[*labels_per_class])
    parser.add_argument("--protocols", nargs="+", default=["knn", "linear", "full"])
    parser.add_argument("--draws", type=int, default=3, help="of labelled samples, for each seed")
    parser.add_argument("--most-test", type=int, help="test samples, drawn at random; by default all")
    parser.add_argument("--epochs", type=float, help="of fine-tuning; by default more, the fewer the labels")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)


def parsed(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """The benchmark's own options, and what follows --; makes the folder for results."""
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    options.out.mkdir(parents=True, exist_ok=True)
    return options, arguments[end + 1 :]


def main() -> None:
    options, given = parsed(parser())
    curves = [curve(options, given, seed) for seed in options.seeds]
    record = {"machine": machine(), "command": shlex.join(["python", *sys.argv]), "seeds": options.seeds}
    record["curves"] = curves
    save(record, options.out / "few_labels.json")
    draw({"": curves}, options.out / "few_labels.png")
    (options.out / "few_labels.md").write_text(text := table(options, curves), encoding="utf-8")
    print(text)


def curve(options: argparse.Namespace, given: list[str], seed: int) -> dict[str, Any]:
    """One pretraining and its label curve, or what is there of them."""
    run = options.out / f"seed-{seed}"
    if not (run / "summary.json").exists():
        call("pretrain", options.data, "--out", run, "--seed", seed, *given)
    command = ["labels", run, "--on", options.on, "--seed", seed, "--draws", options.draws]
    fractions = getattr(options, "fractions", None)  # of the labelled samples, to segment
    sizes = ["--to", "segment", "--fractions", *fractions] if fractions else []
    command += sizes or ["--labels-per-class", *options.labels_per_class]
    command += ["--protocols", *options.protocols]
    command += ["--most-test", options.most_test] if options.most_test else []
    command += ["--epochs", options.epochs] if options.epochs else []
    if not (run / "labels.json").exists():
        call(*command)
    return json.loads((run / "labels.json").read_text(encoding="utf-8"))


def compare(kinds: dict[str, dict[str, Any]], options: argparse.Namespace, given: list[str], name: str) -> None:
    """Label curves of several kinds of samples: tables, one image with all of them, and a record, NAME.json.

    kinds: by what they are called; each says its `modality`, `data` to pretrain on, and labelled data, `on`.
    """
    record: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv])}
    record |= {"seeds": options.seeds, "curves": {}}
    tables = []
    for kind, places in kinds.items():
        own = argparse.Namespace(**{**vars(options), **places, "out": options.out / kind.replace(" ", "-")})
        own.out.mkdir(exist_ok=True)
        given_here = ["--modality", own.modality, *given]
        record["curves"][kind] = curves = [curve(own, given_here, seed) for seed in options.seeds]
        tables.append(f"{kind}\n\n{table(own, curves)}")
    save(record, options.out / f"{name}.json")
    draw(record["curves"], options.out / f"{name}.png")
    (options.out / f"{name}.md").write_text(text := "\n".join(tables), encoding="utf-8")
    print(text)


def call(*arguments: object) -> None:
    """Runs unmask. Ends with its exit code where it fails."""
    code = subprocess.run([sys.executable, "-m", "unmask", *map(str, arguments)]).returncode
    if code:
        sys.exit(code)


def table(options: argparse.Namespace, curves: list[dict[str, Any]], of: str = "labels per class") -> str:
    """Accuracy (or mIoU, Dice) in per cent, the mean over draws of all seeds, with 95 % intervals (Student's t), and
    how many points the pretrained encoder is above each rival on the same draws of the labels."""
    rows = scores(curves)
    sizes = sorted({size for row in rows.values() for size in row}, key=lambda size: (size == ALL, _number(size)))
    lines = ["| | " + " | ".join(f"{size} {of}" for size in sizes) + " |", "|---|" + "---|" * len(sizes)]
    for (protocol, competitor), row in rows.items():
        cells = [_cell(row.get(size, [])) for size in sizes]
        lines.append(f"| {WORDS[protocol]}: {competitor} | " + " | ".join(cells) + " |")
    for (protocol, competitor), row in rows.items():
        if competitor != PRETRAINED:
            ours = rows[protocol, PRETRAINED]
            cells = [_gap(ours.get(size, []), row.get(size, [])) for size in sizes]
            lines.append(f"| {WORDS[protocol]}: points above {competitor} | " + " | ".join(cells) + " |")
    count = curves[0]["counts"]
    lines += ["", f"{len(curves)} seeds, {options.draws} draws of each; {count['test']:,} test samples."]
    return "\n".join(lines) + "\n"


def scores(curves: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, list[float]]]:
    """(protocol, competitor) -> size -> accuracy of every draw of every seed, in one order for all competitors."""
    rows: dict[tuple[str, str], dict[str, list[float]]] = {}
    for point in (point for curve in curves for point in curve["points"]):
        row = rows.setdefault((point["protocol"], point["competitor"]), {})
        row.setdefault(point["size"], []).extend(point["draws"])
    return rows


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel for each protocol: accuracy against labels, with a line for each competitor under each name."""
    found = {name: scores(own) for name, own in curves.items()}
    protocols = list(dict.fromkeys(protocol for rows in found.values() for protocol, _ in rows))
    figure = make_figure(4.6 * len(protocols), 3.8)
    for axis, protocol in zip(figure.subplots(1, len(protocols), squeeze=False)[0], protocols, strict=True):
        for (name, rows), line in zip(found.items(), ("-", "--", ":"), strict=False):
            for (own, competitor), row in rows.items():
                if own == protocol:
                    colour = BLUE if competitor == PRETRAINED else VERMILION
                    means = {place: 100 * statistics.mean(row[size]) for place, size in enumerate(row)}
                    label = f"{name}, {competitor}" if name else competitor
                    axis.plot([*means], [*means.values()], "o" + line, color=colour, label=label)
                    dots = [(place, 100 * value) for place, size in enumerate(row) for value in row[size]]
                    axis.plot(*zip(*dots, strict=True), ".", color=colour, alpha=0.4)
                    axis.set_xticks(range(len(row)), [*row])
        axis.set(xlabel="labels per class", title=f"{WORDS[protocol]}: test accuracy, %")
        axis.legend(frameon=False, fontsize=8)
        style(axis, grid="y")
    save_figure(figure, path)


def _cell(draws: list[float]) -> str:
    if not draws:
        return ""
    interval = student(draws, 0, 1)
    spread = f" ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})" if interval else ""
    return f"{100 * statistics.mean(draws):.1f}{spread}"


def _gap(ours: list[float], theirs: list[float]) -> str:
    if not ours or len(ours) != len(theirs):
        return ""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    interval = student(gaps)
    spread = f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})" if interval else ""
    return f"{100 * statistics.mean(gaps):+.1f}{spread}"


def _number(size: str) -> float:
    return float(size.split()[0]) if size != ALL else 0.0


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    data = smoke.labelled(folder / "data", train=4, test=2)
    own = [str(data / "train"), "--on", str(data), "--out", str(out), "--labels-per-class", "1", "2"]
    own += ["--draws", "1", "--epochs", "1", "--seeds", "0", "1", "--"]
    yield [*own, "--model", smoke.MODEL, "--decoder", smoke.DECODER, "--image-size", "32", "--steps", "2"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
