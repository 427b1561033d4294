"""Results of `unmask stress`: accuracy clean, and under each corruption at each severity."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from unmask.evaluation.intervals import paired_difference, wilson
from unmask.files import Json
from unmask.report.words import points

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Cell:
    """Accuracy under one corruption at one severity, or the mean of several such; shares from 0 to 1."""

    corruption: str
    severity: int | None  # None: the mean over severities
    accuracy: float
    low: float
    high: float
    drop: float  # clean accuracy minus this one, on the same images
    drop_low: float
    drop_high: float


@dataclass(frozen=True)
class Stress:
    """The result of `unmask.stress`. With several labels per image, an image counts as correct if all labels are."""

    count: int  # test images
    classes: list[str]
    multi_label: bool
    accuracy: float  # clean
    low: float
    high: float
    balanced_accuracy: float | None
    cells: list[Cell]
    settings: dict[str, Any] = field(default_factory=dict)
    one_class: str = ""  # a sentence where nearly all clean images get the same answer

    @property
    def corruptions(self) -> list[str]:
        return list(dict.fromkeys(cell.corruption for cell in self.cells))

    @property
    def severities(self) -> list[int]:
        return sorted({cell.severity for cell in self.cells if cell.severity is not None})

    def cell(self, corruption: str, severity: int) -> Cell:
        return next(cell for cell in self.cells if (cell.corruption, cell.severity) == (corruption, severity))

    def mean(self, corruption: str | None = None) -> Cell:
        """Over the severities of one corruption, or over everything."""
        return mean_of([cell for cell in self.cells if corruption in (None, cell.corruption)], corruption or "all")

    @property
    def kept(self) -> float:
        """Mean accuracy under corruption as a share of the clean accuracy; 0 if the clean accuracy is 0."""
        return self.mean().accuracy / self.accuracy if self.accuracy else 0.0

    def sentence(self) -> str:
        """The outcome in words."""
        mean, by = self.mean(), [self.mean(name) for name in self.corruptions]
        worst, least = max(by, key=lambda cell: cell.drop), min(by, key=lambda cell: cell.drop)
        kinds = f"{len(by)} corruption{'s' * (len(by) != 1)} at {_several(self.severities)}"
        text = self.one_class + (
            f"{_fall(mean)} {_range(self)} on clean images, {_range(mean)} on average over {kinds}"
            f" ({_points(mean)}; {100 * self.kept:.0f} % of the clean accuracy is kept); {self.count:,} test images."
        )
        if len(by) > 1:
            text += f" Worst: {_name(worst.corruption)} ({_points(worst)}); least: {_name(least.corruption)}"
            text += f" ({_points(least)})."
        return text

    def to_json(self) -> Json:
        """Plain values for stress.json; `table` is the same as text."""
        mean = {"mean": asdict(self.mean()), "kept": self.kept}
        by = {"by_corruption": [asdict(self.mean(name)) for name in self.corruptions]}
        return {"sentence": self.sentence()} | asdict(self) | mean | by | {"table": rows(self)}


def make_cell(corruption: str, severity: int, clean: Bool[np.ndarray, "n"], right: Bool[np.ndarray, "n"]) -> Cell:
    """Computes a cell from the correctness of the same n images, clean and corrupted."""
    good = int(right.sum())
    return Cell(corruption, severity, good / len(right), *wilson(good, len(right)), *paired_difference(clean, right))


def mean_of(cells: Sequence[Cell], name: str) -> Cell:
    """Means of all numbers. The mean of the intervals is a conservative interval of the mean: exact if the same images
    fail everywhere, wider than necessary otherwise."""
    names = ("accuracy", "low", "high", "drop", "drop_low", "drop_high")
    return Cell(name, None, *(float(np.mean([getattr(cell, field) for cell in cells])) for field in names))


def rows(stress: Stress) -> list[list[str]]:
    """Heading and lines, in percent: a line per corruption, their mean last."""
    heading = ["corruption", *(f"severity {s}" for s in stress.severities), "mean (95 %)", "drop, points (95 %)"]
    lines = []
    for name in stress.corruptions:
        mean = stress.mean(name)
        cells = [f"{100 * stress.cell(name, s).accuracy:.1f}" for s in stress.severities]
        lines.append([_name(name), *cells, _short(mean), _short_drop(mean)])
    all_of = [[c for c in stress.cells if c.severity == s] for s in stress.severities]
    means = [f"{100 * mean_of(cells, 'all').accuracy:.1f}" for cells in all_of]
    return [heading, *lines, ["mean", *means, _short(stress.mean()), _short_drop(stress.mean())]]


def table(title: str, lines: list[list[str]]) -> "Table":
    """For a terminal."""
    from rich.table import Table

    result = Table(title=title, title_justify="left")
    for number, head in enumerate(lines[0]):
        result.add_column(head, justify="right" if number else "left")
    for cells in lines[1:]:
        result.add_row(*cells)
    return result


def _name(corruption: str) -> str:
    return corruption.replace("_", " ")


def _several(numbers: list[int]) -> str:
    words = ", ".join(map(str, numbers[:-1])) + " and " * (len(numbers) > 1) + str(numbers[-1])
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        words = f"{numbers[0]} to {numbers[-1]}"
    return f"severit{'ies' if len(numbers) > 1 else 'y'} {words}"


def _range(measured: Stress | Cell) -> str:
    return f"{100 * measured.accuracy:.1f} % ({100 * measured.low:.1f}-{100 * measured.high:.1f})"


def _fall(mean: Cell) -> str:
    """What the interval of the mean drop allows to say."""
    if mean.drop_low > 0:
        return "Accuracy falls:"
    return "Accuracy rises:" if mean.drop_high < 0 else "No clear drop in accuracy:"


def _points(cell: Cell) -> str:
    return points(-cell.drop, -cell.drop_high, -cell.drop_low)


def _short(measured: Cell) -> str:
    return f"{100 * measured.accuracy:.1f} ({100 * measured.low:.1f}-{100 * measured.high:.1f})"


def _short_drop(cell: Cell) -> str:
    return f"{100 * cell.drop:.1f} ({100 * cell.drop_low:.1f} to {100 * cell.drop_high:.1f})"
