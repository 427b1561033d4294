"""Does `unmask select` beat labels drawn at random? Rounds of labels on data whose labels are known, several draws.

    python benchmarks/selection.py RUN DATA --rounds 5 --step 50 --draws 5 --out results/

Each draw begins with a few random labels per class. Every round, each way chooses as many further images of the train
split; their labels are then told, and a linear classifier on frozen features is tested on the test split. Differences
to random choice are paired by draw. (A file named select.py here would hide Python's own module of that name.)
"""

import argparse
import json
from pathlib import Path

import numpy as np
import smoke
import torch

import unmask
from unmask.data.datasets.draws import draw_rows
from unmask.data.source import open_source
from unmask.evaluation.intervals import student
from unmask.report.words import percent, points
from unmask.studies.label_curve.forecast import penalty
from unmask.studies.selection.candidates import LabelledImages, alike_in, labelled_images
from unmask.studies.selection.pick import DIVERSE, WAYS, Pool, margins, pick
from unmask.tasks.open import load_encoder
from unmask.tasks.retrieval.duplicates import THRESHOLD
from unmask.tasks.retrieval.index import open_index
from unmask.tasks.retrieval.neighbours import Scale

RANDOM = "random"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run, weights, or a timm name")
    parser.add_argument("data", help="labelled images with a train and a test split")
    parser.add_argument("--start", type=int, default=2, help="random labels per class to begin with")
    parser.add_argument("--step", type=int, default=50, help="labels of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--pooling", default="mean")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: its own choice")
    parser.add_argument("--out", type=Path, default=Path("selection"), help="folder for selection.json and the index")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    source, encoder = open_source(options.data), load_encoder(options.run)
    index = open_index(options.out / "index", encoder, source, pooling=options.pooling)
    images = labelled_images(index, source)
    ways = (RANDOM, *WAYS)
    accuracies = {way: np.zeros((options.draws, options.rounds + 1)) for way in ways}
    sizes: list[int] = []
    for draw in range(options.draws):
        for way in ways:
            sizes = _rounds(images, way, draw, options, accuracies[way])
        print(f"draw {draw + 1} of {options.draws} is done", flush=True)
    print(table(accuracies, sizes))
    record = {"data": options.data, "run": options.run, "labels": sizes, "start per class": options.start}
    record |= {"accuracies": {way: values.tolist() for way, values in accuracies.items()}}
    (options.out / "selection.json").write_text(json.dumps(record, indent=1))


def _rounds(
    images: LabelledImages, way: str, draw: int, options: argparse.Namespace, accuracies: np.ndarray
) -> list[int]:
    """Fills one row of `accuracies`, a column for every round; returns the numbers of labels."""
    test = images.to_test()
    assert test is not None, "the data needs a test split"
    places = np.flatnonzero(~images.is_test)
    x, y = images.to_learn()
    vectors, alike = Scale(x)(x), alike_in(images.index, THRESHOLD)
    known = np.zeros(len(y), bool)
    known[draw_rows(y, options.start, draw, 0)] = True
    sizes = []
    for number in range(options.rounds + 1):
        if number:
            known[_chosen(way, x, y, vectors, known, options.step, [draw, number], places, images, alike)] = True
        answers = penalty(x[known], y[known]).fit_predict(x[known], y[known], test[0])
        accuracies[draw, number] = (answers == test[1]).mean()
        sizes.append(int(known.sum()))
    return sizes


def _chosen(way, x, y, vectors, known, step, seed, places, images, alike) -> np.ndarray:
    """Rows of the train split to label next."""
    if way == RANDOM:
        return np.random.default_rng(seed).permutation(np.flatnonzero(~known))[:step]
    lead = None
    if way != DIVERSE:
        lead = margins(penalty(x[known], y[known]).fit_probabilities(x[known], y[known], x)[1])

    def near(row: int) -> np.ndarray:
        return alike(int(images.rows[places[row]]))[images.rows[places]]

    picks = pick(Pool(vectors, ~known, near, lead), vectors[known], step, way, seed[0] * 1000 + seed[1])
    return np.array([p.row for p in picks])


def table(accuracies: dict[str, np.ndarray], sizes: list[int]) -> str:
    """Mean accuracy and, below, the paired difference to random choice with its 95 % interval over draws."""
    lines = ["| labels | " + " | ".join(accuracies) + " |", "|---" * (len(accuracies) + 1) + "|"]
    for number, size in enumerate(sizes):
        cells = []
        for way, values in accuracies.items():
            cell = percent(float(values[:, number].mean()), unit="")
            gap = values[:, number] - accuracies[RANDOM][:, number]
            if way != RANDOM and number and (interval := student(gap)):
                cell += f" ({points(float(gap.mean()), *interval)})"
            cells.append(cell)
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    for way in WAYS:
        gap = (accuracies[way] - accuracies[RANDOM])[:, 1:].mean(axis=1)
        interval = student(gap)
        if interval:
            word = "wins" if interval[0] > 0 else "loses" if interval[1] < 0 else "cannot be told from random choice"
            lines.append(f"{way}: {points(float(gap.mean()), *interval)} over all rounds: it {word}")
    return "\n".join(lines)


def commands(folder: Path, out: Path):
    data, run = smoke.labelled(folder / "data", train=10), folder / "run"
    small = {"image_size": 32, "patch_size": 8, "steps": 2, "batch": 8, "device": "cpu", "precision": "32"}
    unmask.pretrain(data, out=run, model=smoke.MODEL, decoder=smoke.DECODER, **small)
    yield [str(run), str(data), *"--start 1 --step 3 --rounds 2 --draws 2".split(), "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, commands)
