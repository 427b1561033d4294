"""Accuracy per group (value of a column of labels.csv), and the largest gap between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from unmask.data.labels import natural
from unmask.errors import UserError, closest
from unmask.evaluation.intervals import difference, wilson
from unmask.report.words import percent
from unmask.tasks.classification.metrics import scores

SMALL = 30  # images; of fewer, an accuracy says little
FEW, MOST = 2, 20  # different values that a column has to be compared without being asked for
SHUFFLES = 2000  # of the groups, to see how large a gap chance alone makes


@dataclass(frozen=True)
class Group:
    """The images with one value; shares from 0 to 1."""

    value: str
    count: int
    accuracy: float  # with several labels per image: all of them right
    low: float
    high: float
    balanced_accuracy: float | None  # mean over the classes that the group has; None with several labels per image
    corrupted: float | None  # mean accuracy over all corruptions and severities

    @property
    def small(self) -> bool:
        return self.count < SMALL


@dataclass(frozen=True)
class Gap:
    """The best group minus the worst; small groups are ignored if at least two are not small."""

    best: str
    worst: str
    difference: float
    low: float  # Newcombe's interval for two independent shares
    high: float
    chance: float  # how often groups of these sizes, made at random, have a gap as large


@dataclass(frozen=True)
class Grouping:
    column: str
    groups: list[Group]  # in the order of their values
    unknown: int  # images without a value
    gap: Gap

    def sentence(self) -> str:
        """The gap in words, and how reliable it is."""
        of = {group.value: group for group in self.groups}
        best, worst, gap = of[self.gap.best], of[self.gap.worst], self.gap
        stands = f"chance alone makes a gap this large in {100 * gap.chance:.1f} % of random groups"
        text = (
            f"{self.column}: the largest gap is {100 * gap.difference:.1f} points ({100 * gap.low:+.1f} to"
            f" {100 * gap.high:+.1f}), {_said(best)} against {_said(worst)}; {stands}."
        )
        small = [f"{group.value} ({group.count})" for group in self.groups if group.small]
        if small:
            text += f" Fewer than {SMALL} images, so hardly known: {', '.join(small)}."
        return text + (f" {self.unknown:,} images have no {self.column}." if self.unknown else "")


def choose_columns(columns: Sequence[dict[str, str]], chosen: Sequence[str]) -> list[str]:
    """The chosen columns, or all with 2 to 20 different values; one dict per test image.

    Raises UserError for a column that does not exist or that makes no groups.
    """
    names = list(dict.fromkeys(name for row in columns for name in row))
    values = {name: {row[name] for row in columns if row.get(name)} for name in names}
    for name in chosen:
        if name not in values:
            listed = f" Columns: {', '.join(names)}" if names else " labels.csv has no further columns"
            raise UserError(f"no column {name!r}{closest(name, names)}{listed}")
        if len(values[name]) < FEW:
            only = ", ".join(values[name]) or "none"
            raise UserError(f"the column {name} tells no groups apart: its values on the test images are {only}")
        if len(values[name]) > len(columns) / 2:
            raise UserError(
                f"the column {name} has {len(values[name]):,} different values on {len(columns):,} test images: make"
                " bands of them first, such as 40-60"
            )
    return list(chosen) or [name for name in names if FEW <= len(values[name]) <= MOST]


def compare(
    column: str,
    values: Sequence[str],  # of n images; "" for none
    probabilities: Float[np.ndarray, "n k"],
    labels: Shaped[np.ndarray, "n *k"],
    classes: Sequence[str],
    right: Bool[np.ndarray, "n"],
    corrupted: Float[np.ndarray, "n"] | None = None,  # how often each image was answered rightly when damaged
) -> Grouping:
    """Accuracy of each group, and the largest gap; at least two values are required."""
    of, groups = np.array(values), []
    for value in sorted({value for value in values if value}, key=natural):
        inside = of == value
        balanced = scores(probabilities[inside], labels[inside], classes).get("balanced_accuracy")
        damaged = None if corrupted is None else float(corrupted[inside].mean())
        count, good = int(inside.sum()), int(right[inside].sum())
        groups.append(Group(value, count, good / count, *wilson(good, count), balanced, damaged))
    return Grouping(column, groups, int((of == "").sum()), _gap(groups, of, right))


def _gap(groups: list[Group], of: np.ndarray, right: np.ndarray) -> Gap:
    counted = [group for group in groups if not group.small]
    counted = counted if len(counted) >= 2 else groups
    best, worst = (pick(counted, key=lambda group: group.accuracy) for pick in (max, min))
    if best is worst:  # all alike
        best, worst = counted[0], counted[1]
    numbers = (round(best.accuracy * best.count), best.count, round(worst.accuracy * worst.count), worst.count)
    gap = difference(*numbers)
    inside = np.isin(of, [group.value for group in counted])
    codes = np.unique(of[inside], return_inverse=True)[1]
    counts, rng, larger = np.bincount(codes), np.random.default_rng(0), 0
    for _ in range(SHUFFLES):
        shares = np.bincount(codes, weights=rng.permutation(right[inside])) / counts
        larger += shares.max() - shares.min() >= gap[0] - 1e-9
    return Gap(best.value, worst.value, *gap, (larger + 1) / (SHUFFLES + 1))


def _said(group: Group) -> str:
    return f"{group.value} {percent(group.accuracy, group.low, group.high)}"
