"""Does a small network that an encoder taught do better with few labels than the same network from scratch?

    python benchmarks/distil_students.py RUN DATA --on LABELLED --epochs 100 --finetune-epochs 40 --out results/

Each seed distils the encoder of RUN into each student on DATA, without labels, and then measures it as `unmask labels`
does: a linear classifier on frozen features against that on the network at random weights, and fine-tuning against
training from scratch, with as many passes over the same labelled images. Accuracies are means over seeds, with 95 %
intervals (Student's t); differences are paired by seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import smoke

import unmask
from unmask.evaluation.intervals import student as interval_of
from unmask.report.words import percent, points
from unmask.studies.label_curve.curve import PRETRAINED

STUDENTS = ("mobilenetv3_small_100", "resnet18")
PROTOCOLS = {"linear": "linear, frozen", "full": "fine-tuned"}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the teacher: folder of a run, weights, or a timm name")
    parser.add_argument("data", help="images to learn from, without labels")
    parser.add_argument("--on", required=True, help="labelled images with a train and a test split")
    parser.add_argument("--students", nargs="+", default=STUDENTS)
    parser.add_argument("--labels-per-class", nargs="+", default=("10", "50"))
    parser.add_argument("--epochs", type=float, default=None, help="of distillation; by default chosen by the plan")
    parser.add_argument("--finetune-epochs", type=float, default=None, help="by default more, the fewer the labels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("distil_students"), help="folder for students and the table")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    accuracies: dict[tuple[str, str, str, str], list[float]] = {}  # student, protocol, labels, taught or not
    for seed in range(options.seeds):
        for student in options.students:
            for key, accuracy in measured(student, seed, options).items():
                accuracies.setdefault((student, *key), []).append(accuracy)
    text = table(accuracies)
    print(text)
    (options.out / "distil_students.txt").write_text(text + "\n")
    settings = {key: str(value) for key, value in vars(options).items() if key != "out"}
    rows = [{"row": key, "accuracies": values} for key, values in accuracies.items()]
    (options.out / "distil_students.json").write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))


def measured(student: str, seed: int, options: argparse.Namespace) -> dict[tuple[str, str, str], float]:
    """Accuracies of one student and seed by protocol, labels per class and competitor."""
    out = options.out / f"{student.split('(')[0].replace(':', '_')}_{seed}"
    unmask.distil(options.run, into=student, on=options.data, out=out, seed=seed, epochs=options.epochs)
    curve = unmask.labels(
        out,
        on=options.on,
        labels_per_class=tuple(options.labels_per_class),
        protocols=tuple(PROTOCOLS),
        draws=1,
        seed=seed,
        epochs=options.finetune_epochs,
        out=out / "labels",
    )
    return {(p.protocol, p.size, "taught" if p.competitor == PRETRAINED else "not"): p.accuracy for p in curve.points}


def table(accuracies: dict[tuple[str, str, str, str], list[float]]) -> str:
    """One row for each student, protocol and number of labels."""
    lines = [
        "| student | protocol | labels per class | taught | from scratch | difference |",
        "|---|---|---|---|---|---|",
    ]
    for student, protocol, size in dict.fromkeys(key[:3] for key in accuracies):
        taught, other = (np.array(accuracies[student, protocol, size, which]) for which in ("taught", "not"))
        gap, interval = taught - other, interval_of(taught - other)
        difference = points(float(gap.mean()), *interval) if interval else f"{100 * gap.mean():+.1f}, one seed"
        cells = [student, PROTOCOLS[protocol], size, with_interval(taught), with_interval(other), difference]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_interval(values: np.ndarray) -> str:
    interval = interval_of(values, 0, 1)
    return percent(float(values.mean()), *(interval or ()))


def commands(folder: Path, out: Path):
    data, run = smoke.labelled(folder / "data", train=6), folder / "run"
    small = {"image_size": 32, "patch_size": 8, "steps": 2, "batch": 8, "device": "cpu", "precision": "32"}
    unmask.pretrain(data, out=run, model=smoke.MODEL, decoder=smoke.DECODER, **small)
    few = "--students test_resnet --labels-per-class 2 --epochs 1 --finetune-epochs 1 --seeds 2"
    yield [str(run), str(data / "train"), "--on", str(data), *few.split(), "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, commands)
