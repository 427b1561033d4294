"""Shared by the label studies of all tasks: cells, a file of finished cells, and the curve computed from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from unmask.files import Json
from unmask.studies.engine import Piece, Records, Work
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
    word: str  # what a sample is called
    said: str  # how many samples each split has, in words
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
    def measure(self, cell: Cell) -> float:
        """Trains and tests; the score, 0 to 1."""

    @abstractmethod
    def in_memory(self, cell: Cell) -> bool:
        """True for a fit on features that this process keeps."""

    def work(self) -> Work:
        """How cells are done; side by side where a study can."""
        return Work(lambda key, tell: self.line(Cell(*key)))  # type: ignore[arg-type]

    def line(self, cell: Cell) -> Json:
        """What is recorded of a cell."""
        return {"accuracy": self.measure(cell)}

    def waves(self, cells: Sequence[Cell]) -> list[list[Piece]]:
        """Fits on features, which are quick, before trainings."""
        pieces = [
            Piece(
                key=(cell.protocol, cell.competitor, cell.size, cell.draw),
                name=f"{cell.protocol} {cell.competitor}, {cell.size}, draw {cell.draw}",
                cost=self.cost(cell),
                here=self.in_memory(cell),
            )
            for cell in cells
        ]
        return [wave for first in (True, False) if (wave := [piece for piece in pieces if piece.here is first])]

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
            points,
            compared,
            self.classes,
            self.counts,
            list(self.skipped),
            self.unit,
            self.score,
            self.majority,
            self.word,
        )


FIELDS = ("protocol", "competitor", "size", "draw")  # of a recorded score; those of a cell


def records_in(path: Path, fingerprint: dict[str, str]) -> Records:
    """Finished cells. Raises UserError for those of other weights, data or settings."""
    return Records(path, FIELDS, fingerprint)


def scores_of(records: Records) -> dict[Cell, float]:
    return {Cell(*key): line["accuracy"] for key, line in records.lines.items()}  # type: ignore[arg-type]


def size_of(size: str) -> float:
    """A size as a number for sorting; all is 0."""
    return 0.0 if size == ALL else float(size.rstrip(" %"))


def _order(cell: Cell) -> tuple:
    """The order of display: protocols as listed, the run before its rivals, few labels before many."""
    rival = cell.competitor != PRETRAINED
    return PROTOCOLS.index(cell.protocol), rival, cell.competitor, cell.size == ALL, size_of(cell.size), cell.draw
