"""The comparison: does pretraining help, over the same encoder at random initialisation and over raw pixels?

Everything that can be chosen (pooling, strength of the penalty) is chosen on the validation split; test labels are
looked at once, to count the right answers. Few-label accuracy follows MSN (Assran et al. 2022), with more draws.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import binomtest, t
from sklearn.metrics import accuracy_score, recall_score

from unmask import spec
from unmask.errors import DataError, UserError
from unmask.features import Features
from unmask.verdict import Difference, Few, Score, Verdict, draw_verdict, markdown, table

__all__ = ["Verdict", "draw_verdict", "hold_out", "judge", "markdown", "table"]
SPLITS = ("train", "val", "test")
PACKAGE = "unmask.evals"
LEVEL = 0.95  # of all intervals: a difference made by chance is not to pass for one made by pretraining


def judge(
    competitors: dict[str, Callable[[str], Features]],
    *,
    classes: Sequence[str],  # names, in the order of the labels
    evaluators: Sequence[str] = ("knn", "linear"),  # parts of `evals/`, e.g. "knn(k=10)"
    labels_per_class: Sequence[int] = (1, 5, 10, 50),  # of the training split, where every class has as many
    draws: int = 5,  # of each number of labels
    seed: int = 0,  # of the draws
    progress: Callable[[str], Any] | None = None,  # called with what is being done
) -> Verdict:
    """Compares features of the same labelled pictures; the first competitor is the one judged.

    A competitor is a function from "train", "val" or "test" to Features, called once for each; "random init" and
    "raw pixels" are the names by which the verdict knows its yardsticks. Samples without a label (-1) are left out.
    The same samples are drawn for all, and the draw of fewer labels is part of that of more. Raises UserError for
    unknown evaluators, competitors over different samples, empty splits, or a single class.
    """
    if not competitors or draws < 1 or any(n < 1 for n in labels_per_class):
        raise UserError("judging takes a competitor, a draw, and a label per class or more")
    parts = {text: spec.build(text, PACKAGE) for text in evaluators}
    scores, right, shared, splits = [], {}, None, {}
    for name, features_of in competitors.items():
        if progress:
            progress(f"{name}: features")
        splits = {split: _labelled(features_of(split), split) for split in SPLITS}
        labels = {split: features.labels for split, features in splits.items()}
        shared = shared or _checked(labels, classes)
        if any(not np.array_equal(labels[split], shared[split]) for split in SPLITS):
            raise UserError(f"{name} and {next(iter(competitors))} are features of different samples")
        for text, part in parts.items():
            if progress:
                progress(f"{name}: {text}")
            drawn = {n: _draws(labels["train"], n, draws, seed) for n in sorted(set(labels_per_class))}
            score, right[name, text] = _score(name, text, part, splits, drawn)
            scores.append(score)
    assert shared is not None
    first, *others = competitors
    compared = [(text, other, right[first, text], right[other, text]) for text in parts for other in others]
    common = np.bincount(shared["train"]).argmax()
    return Verdict(
        classes=list(classes),
        counts={split: len(shared[split]) for split in SPLITS},
        majority=float((shared["test"] == common).mean()),
        seed=seed,
        scores=scores,
        differences=[Difference(text, other, *difference(mine, theirs)) for text, other, mine, theirs in compared],
    )


def hold_out(
    labels: Int[np.ndarray, "n"], share: float = 0.2, seed: int = 0
) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "h"]]:
    """Places to keep and places to hold out, each in order: `share` of every class, at least one of two or more.

    A class with one sample, and samples without a label (-1), stay in the first. Raises UserError where nothing could
    be held out.
    """
    if not 0 < share < 1:
        raise UserError(f"the share to hold out must lie between 0 and 1; got {share}")
    rng, held = np.random.default_rng(seed), []
    for members in _members(labels):
        if len(members) > 1:
            number = min(max(1, round(share * len(members))), len(members) - 1)
            held.append(rng.permutation(members)[:number])
    if not held:
        raise DataError(
            "no class has two labelled samples, so none can be held out to choose or to test on:"
            " add some, or a test split"
        )
    places = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), places), places


def wilson(right: int, total: int) -> tuple[float, float]:
    """Of a share, e.g. an accuracy over `total` test pictures. Wilson 1927: also good near 0, near 1 and for few."""
    low, high = binomtest(right, total).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval of the mean of a few accuracies, cut to 0..1; None for fewer than two."""
    if len(values) < 2:
        return None
    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return max(0.0, mean - half), min(1.0, mean + half)


def difference(one: Bool[np.ndarray, "n"], other: Bool[np.ndarray, "n"]) -> tuple[float, float, float]:
    """Accuracy of `one` minus that of `other` on the same n test pictures, and its interval; True = answered rightly.

    Newcombe 1998 (paired proportions, method 10): Wilson's two intervals, joined with regard to how often both are
    right on the same picture. Never empty, even where the two always agree.
    """
    total = len(one)
    both, neither = int((one & other).sum()), int((~one & ~other).sum())
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    p, q = (both + only_one) / total, (both + only_other) / total
    (p_low, p_high), (q_low, q_high) = wilson(both + only_one, total), wilson(both + only_other, total)
    sides = (both + only_one) * (only_other + neither) * (both + only_other) * (only_one + neither)
    agreement = both * neither - only_one * only_other
    if agreement > 0:  # his correction for continuity
        agreement = max(agreement - total / 2, 0)
    phi = agreement / math.sqrt(sides) if sides else 0.0
    below = math.sqrt(max(0, (p - p_low) ** 2 - 2 * phi * (p - p_low) * (q_high - q) + (q_high - q) ** 2))
    above = math.sqrt(max(0, (p_high - p) ** 2 - 2 * phi * (p_high - p) * (q - q_low) + (q - q_low) ** 2))
    return p - q, max(-1.0, p - q - below), min(1.0, p - q + above)


def _score(
    name: str, text: str, part: Any, splits: dict[str, Features], drawn: dict[int, list[np.ndarray]]
) -> tuple[Score, np.ndarray]:
    """The score, and which test samples were answered rightly."""
    train, test = splits["train"], splits["test"]
    val_accuracy, pooling, chosen = _choose(part, train, splits["val"])
    train_x, test_x = train.pools[pooling], test.pools[pooling]
    answers = chosen.fit_predict(train_x, train.labels, test_x)
    right = answers == test.labels
    few = []
    for number, subsets in drawn.items():
        found = []
        for rows in subsets:  # `part`, not `chosen`: a strength chosen with all labels would be wrong for few
            answered = part.fit_predict(train_x[rows], train.labels[rows], test_x)
            found.append(float(accuracy_score(test.labels, answered)))
        if found:
            few.append(Few(number, float(np.mean(found)), *(of_mean(found) or (None, None)), found))
    accuracy = float(accuracy_score(test.labels, answers))
    interval = wilson(int(right.sum()), len(right))
    return Score(
        name, text, pooling, str(chosen), val_accuracy, accuracy, *interval, _balanced(test, answers), few
    ), right


def _choose(part: Any, train: Features, val: Features) -> tuple[float, str, Any]:
    """Accuracy on the validation split, pooling and evaluator of the best pair; the first of equals."""
    best = (-1.0, "", part)
    for pooling, train_x in train.pools.items():
        for candidate in part.candidates():
            answers = candidate.fit_predict(train_x, train.labels, val.pools[pooling])
            accuracy = float(accuracy_score(val.labels, answers))
            if accuracy > best[0]:
                best = (accuracy, pooling, candidate)
    return best


def _balanced(test: Features, answers: np.ndarray) -> float:
    """Mean share of right answers over the classes of the test split, scikit-learn's balanced accuracy; that one warns
    where an answer is a class that the test split lacks."""
    there = np.unique(test.labels)
    return float(recall_score(test.labels, answers, labels=there, average="macro"))


def draw_rows(labels: Int[np.ndarray, "n"], number: int | float, draw: int, seed: int) -> Int[np.ndarray, "m"]:
    """Places of so many samples per class, in order; a share below 1 means that part of every class, at least one.

    A draw of more contains that of fewer, since the permutations do not depend on `number`.
    """
    rng, found = np.random.default_rng([seed, draw]), []
    for members in _members(labels):
        most = number if number >= 1 else max(1, round(number * len(members)))
        found.append(rng.permutation(members)[: int(most)])
    return np.sort(np.concatenate(found))


def _draws(labels: np.ndarray, number: int, draws: int, seed: int) -> list[np.ndarray]:
    """Places of `number` samples per class, `draws` times; none where a class has fewer, or where that is all of them.

    A draw of more begins with those of a draw of fewer, since the permutations do not depend on `number`.
    """
    members = _members(labels)
    if min(map(len, members)) < number or number * len(members) == len(labels):
        return []
    return [draw_rows(labels, number, draw, seed) for draw in range(draws)]


def _members(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels) if label >= 0]


def _labelled(features: Features, split: str) -> Features:
    there = features.labels >= 0
    if not there.any():
        raise UserError(f"the {split} split has no labelled pictures; put each in a folder named after its class")
    return features if there.all() else features.take(there)


def _checked(labels: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, np.ndarray]:
    found = np.unique(labels["train"])
    if len(found) < 2:
        raise UserError("judging takes two classes or more; the training split has one")
    if found[-1] >= len(classes):
        raise UserError(f"there are {len(classes)} class names, but labels up to {found[-1]}")
    return labels
