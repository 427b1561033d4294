"""Accuracy, calibration and retrieval of each group against the rest, with intervals and corrected for many tests.

A group is compared with all other images by permutation: how often do groups of its size, drawn at random, differ as
much? All these shares together are adjusted by Benjamini and Hochberg (1995), which bounds the expected share of false
alarms among the differences that are called such.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from unmask.data.labels import natural
from unmask.errors import UserError
from unmask.evaluation.intervals import bootstrap, wilson
from unmask.tasks.retrieval.neighbours import nearest

ACCURACY, CALIBRATION, RETRIEVAL = MEASURES = ("accuracy", "calibration error", "retrieval")
CORRUPTED = "accuracy under corruption"  # where `unmask stress` tested these images
LEAST = 2  # test images of a group that is judged: of one, there is no spread
SMALL = 30  # images; of fewer, a measure says little
BINS, NEIGHBOURS = 15, 5  # of the calibration error (Guo et al. 2017); of the retrieval precision
SHUFFLES, RESAMPLES = 1000, 500
FALSE_ALARMS = 0.05  # expected share among what is called a difference


@dataclass(frozen=True)
class Answered:
    """What the model made of n test images."""

    labels: Int[np.ndarray, "n"]
    answers: Int[np.ndarray, "n"]
    confidence: Float[np.ndarray, "n"]  # probability of its answer
    precision: Float[np.ndarray, "n"]  # share of the nearest other test images with the same label
    corrupted: Float[np.ndarray, "n"] | None = None  # share of its corrupted copies answered rightly; NaN: not tested

    @property
    def right(self) -> Bool[np.ndarray, "n"]:
        return self.labels == self.answers

    def take(self, rows: Bool[np.ndarray, "n"]) -> "Answered":
        """A part of the images."""
        corrupted = None if self.corrupted is None else self.corrupted[rows]
        return Answered(self.labels[rows], self.answers[rows], self.confidence[rows], self.precision[rows], corrupted)


@dataclass(frozen=True)
class Measure:
    """One measure of one group; shares from 0 to 1."""

    name: str
    value: float
    low: float  # 95 %: Wilson of accuracies, bootstrap over the group's images of the others
    high: float
    rest: float  # the same of all other images that have a group
    p: float  # how often random groups of this size differ from the rest as much
    adjusted: float  # the same after Benjamini-Hochberg over all groups and measures of the audit

    @property
    def differs(self) -> bool:
        return self.adjusted <= FALSE_ALARMS


@dataclass(frozen=True)
class GroupAudit:
    value: str
    count: int  # test images
    balanced_accuracy: float  # mean over the classes that the group has
    measures: list[Measure]

    @property
    def small(self) -> bool:
        return self.count < SMALL


@dataclass(frozen=True)
class Left:
    """A group that is not judged."""

    value: str
    count: int


def answered(
    probabilities: Float[np.ndarray, "n k"],
    labels: Int[np.ndarray, "n"],
    vectors: Float[np.ndarray, "n d"],
    corrupted: Float[np.ndarray, "n"] | None = None,
) -> Answered:
    """vectors: features of length 1. labels: columns of `probabilities`."""
    places = nearest(vectors, vectors, NEIGHBOURS + 1)[1]
    itself = places == np.arange(len(vectors))[:, None]
    itself[~itself.any(axis=1), -1] = True  # among many copies of itself
    others = places[~itself].reshape(len(vectors), -1)
    precision = (labels[others] == labels[:, None]).mean(axis=1) if others.shape[1] else np.zeros(len(labels))
    return Answered(labels, probabilities.argmax(axis=1), probabilities.max(axis=1), precision, corrupted)


def calibration_error(confidence: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"]) -> float:
    """Expected calibration error in 15 bins of equal width."""
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    return float(np.abs(np.bincount(bins, weights=confidence - right, minlength=BINS)).sum() / len(right))


def judge_groups(
    values: Sequence[str], images: Answered, column: str, seed: int = 0
) -> tuple[list[GroupAudit], list[Left]]:
    """Every group of a column, and those that are too small. values: of n test images, "" for none.

    Not adjusted yet: see `adjust`. Raises UserError where fewer than two groups are left.
    """
    of = np.array(values)
    counts = {value: int((of == value).sum()) for value in sorted({v for v in values if v}, key=natural)}
    left = [Left(value, count) for value, count in counts.items() if count < LEAST]
    judged = [value for value, count in counts.items() if count >= LEAST]
    if len(judged) < 2:
        listed = ", ".join(f"{value} ({count})" for value, count in counts.items()) or "none"
        raise UserError(
            f"the column {column} has fewer than two groups of {LEAST} or more test images: {listed}. A group of one"
            " image has no spread; join groups, or test on more images"
        )
    with_group = np.isin(of, judged)
    generator = np.random.default_rng([seed, 0xA0D17])
    measures = _measured(MEASURES, images, of, judged, with_group, generator)
    tested = with_group & (np.zeros(len(of), bool) if images.corrupted is None else ~np.isnan(images.corrupted))
    if all((of[tested] == value).sum() >= LEAST for value in judged):
        under_corruption = _measured((CORRUPTED,), images, of, judged, tested, generator)
        measures = [[*own, *further] for own, further in zip(measures, under_corruption)]
    balanced = [_balanced(images.take(of == value)) for value in judged]
    groups = [GroupAudit(value, counts[value], share, own) for value, share, own in zip(judged, balanced, measures)]
    return groups, left


def _measured(
    names: Sequence[str],
    images: Answered,
    of: np.ndarray,
    judged: Sequence[str],
    rows: Bool[np.ndarray, "n"],
    generator: np.random.Generator,
) -> list[list[Measure]]:
    """The measures of each group, among some of the images."""
    part, own = images.take(rows), of[rows]
    shuffles = [generator.permutation(len(own)) for _ in range(SHUFFLES)]
    return [[_measure(name, part, own == value, shuffles, generator) for name in names] for value in judged]


def _balanced(images: Answered) -> float:
    return float(
        np.mean([(images.answers[images.labels == label] == label).mean() for label in np.unique(images.labels)])
    )


def adjust(columns: Sequence[Sequence[GroupAudit]]) -> list[list[GroupAudit]]:
    """The same with shares adjusted over all columns, groups and measures."""
    from scipy.stats import false_discovery_control

    shares = [measure.p for groups in columns for group in groups for measure in group.measures]
    adjusted = iter(false_discovery_control(shares, method="bh").tolist())
    return [
        [replace(g, measures=[replace(m, adjusted=next(adjusted)) for m in g.measures]) for g in groups]
        for groups in columns
    ]


def _measure(
    name: str,
    images: Answered,
    inside: Bool[np.ndarray, "n"],
    shuffles: Sequence[Int[np.ndarray, "n"]],
    generator: np.random.Generator,
) -> Measure:
    statistic = _statistic(name, images)
    rows = np.flatnonzero(inside)
    value, rest = statistic(rows), statistic(np.flatnonzero(~inside))
    if name == ACCURACY:
        low, high = wilson(int(images.right[rows].sum()), len(rows))
    else:
        low, high = bootstrap(lambda rng: statistic(rng.choice(rows, len(rows))), generator, RESAMPLES)
    gap, larger = abs(value - rest), 0
    for order in shuffles:  # a random group of the same size, and the rest
        larger += abs(statistic(order[: len(rows)]) - statistic(order[len(rows) :])) >= gap - 1e-9
    p = (larger + 1) / (len(shuffles) + 1)
    return Measure(name, value, low, high, rest, p, p)


def _statistic(name: str, images: Answered) -> Callable[[Int[np.ndarray, "m"]], float]:
    if name == CALIBRATION:
        return lambda rows: calibration_error(images.confidence[rows], images.right[rows])
    each = images.right if name == ACCURACY else images.corrupted if name == CORRUPTED else images.precision
    assert each is not None  # where nothing was tested under corruption, that is no measure
    return lambda rows: float(each[rows].mean())
