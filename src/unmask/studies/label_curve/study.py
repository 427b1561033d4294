"""Shared by the label studies of all tasks: cells, a file of finished cells, and the curve computed from them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from unmask.errors import UserError
from unmask.files import Json, parse_json, write_atomically
from unmask.studies.label_curve.curve import ALL, PRETRAINED, Curve, make_point, worths

PROTOCOLS = ("knn", "linear", "attentive", "full")  # in the order of the panels


@dataclass(frozen=True)
class Cell:
    """One training or fit, and its position in the curve."""

    protocol: str
    competitor: str
    size: str  # "10" per class, "5 %" of the images, or "all"
    draw: int


@dataclass(frozen=True)
class Design:
    """What a curve is made of."""

    protocols: Sequence[str]
    labels_per_class: Sequence[int | str]
    fractions: Sequence[float]
    draws: int
    against: Sequence[str] = ()  # further competitors


class Study(ABC):
    """Data, encoders and draws of a label study."""

    seed: int
    classes: list[str]
    counts: dict[str, int]  # train and test -> images
    said: str  # the same of all splits, in words
    skipped: Sequence[str] = ()  # sizes that the data does not have
    num_test: int | None  # test images behind each score; None where a score is no share of images
    majority: float | None = None  # as of a `Curve`, as are the next
    unit, score = "labels per class", "accuracy"

    @abstractmethod
    def cells(self, design: Design) -> list[Cell]: ...

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """The settings that finished trainings must share with the current command."""

    @abstractmethod
    def rows(self, size: str, draw: int) -> Int[np.ndarray, "n"]:
        """Indices into the training split: the same for every competitor; smaller sets are subsets of larger ones."""

    @abstractmethod
    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, float]]:
        """Trains and tests, in any order."""

    @abstractmethod
    def cost(self, cell: Cell) -> float:
        """Estimated duration of a training, in any unit."""

    def labels(self, size: str) -> float:
        """A size as a number of `unit`."""
        return float(len(self.rows(size, 0)))

    def curve(self, scores: Mapping[Cell, float]) -> Curve:
        """The curve of everything finished in this folder, so that it can grow."""
        groups: dict[tuple[str, str, str], list[float]] = {}
        for cell in sorted(scores, key=_order):
            groups.setdefault((cell.protocol, cell.competitor, cell.size), []).append(scores[cell])
        points = [
            make_point(protocol, competitor, size, self.labels(size), draws, self.num_test)
            for (protocol, competitor, size), draws in groups.items()
        ]
        compared = worths(points, self.num_test, self.seed)
        return Curve(
            points, compared, self.classes, self.counts, list(self.skipped), self.unit, self.score, self.majority
        )


class Records:
    """Scores of finished cells, one JSON line each, below a line with their fingerprint."""

    def __init__(self, path: Path, fingerprint: dict[str, str]):
        self.path, self.scores = path, {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        records = [record for line in lines if (record := _parsed(line))]
        before = records[0].get("made_of", {}) if records else {}
        other = [name for name in before if name in fingerprint and before[name] != fingerprint[name]]
        if other:
            raise UserError(
                f"{path} holds results of other {', '.join(other)}; give another folder with --out, or remove the file"
            )
        for record in records[1:]:
            self.scores[Cell(*(record[k] for k in ("protocol", "competitor", "size", "draw")))] = record["accuracy"]
        head = json.dumps({"made_of": before | fingerprint})
        text = "".join(f"{line}\n" for line in [head, *(json.dumps(record) for record in records[1:])])
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))

    def add(self, cell: Cell, score: float) -> None:
        """Appends a score and flushes it to disk."""
        self.scores[cell] = score
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cell) | {"accuracy": score}) + "\n")


def size_of(size: str) -> float:
    """A size as a number for sorting; all is 0."""
    return 0.0 if size == ALL else float(size.rstrip(" %"))


def _order(cell: Cell) -> tuple:
    """The order of display: protocols as listed, the run before its rivals, few labels before many."""
    rival = cell.competitor != PRETRAINED
    return PROTOCOLS.index(cell.protocol), rival, cell.competitor, cell.size == ALL, size_of(cell.size), cell.draw


def _parsed(line: str) -> Json | None:
    """A record; None for a line cut off by a crash."""
    try:
        return parse_json(line)
    except ValueError:
        return None
