"""The comparison: does pretraining help, over the same encoder at random initialisation and over raw pixels?

All choices (pooling, strength of the penalty) are made on the validation split; test labels are used once, to compute
accuracy. Few-label accuracy follows MSN (Assran et al. 2022), with more draws.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import accuracy_score, recall_score

from unmask import registry
from unmask.data.datasets.draws import _members, draw_rows
from unmask.errors import UserError
from unmask.evaluation.features import Features
from unmask.evaluation.intervals import paired_difference, student, wilson
from unmask.evaluation.verdict import Difference, Few, Score, Verdict

SPLITS = ("train", "val", "test")


@runtime_checkable
class Evaluator(Protocol):
    """A part of `frozen/`."""

    def candidates(self) -> Sequence["Evaluator"]:
        """The candidates to choose from on the validation split."""
        ...

    def fit_predict(
        self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"], test_x: Float[np.ndarray, "m d"]
    ) -> Int[np.ndarray, "m"]: ...


@runtime_checkable
class Widening(Protocol):
    """An evaluator whose candidates may be too few."""

    def beyond(self, tried: Sequence[Any]) -> Sequence[Evaluator]:
        """What to try next where this is the best of `tried`; nothing where it lies inside."""
        ...


def judge(
    competitors: dict[str, Callable[[str], Features]],
    *,
    classes: Sequence[str],  # names, in the order of the labels
    evaluators: Sequence[str] = ("knn", "linear"),  # parts of `frozen/`, e.g. "knn(k=10)"
    labels_per_class: Sequence[int] = (1, 5, 10, 50),  # of the training split, where every class has as many
    draws: int = 5,  # of each number of labels
    seed: int = 0,  # of the draws
    progress: Callable[[str], Any] | None = None,  # called with what is being done
    word: str = "image",  # what a sample is called
) -> Verdict:
    """Compares features of the same labelled images; the first competitor is the one judged.

    A competitor is a function from "train", "val" or "test" to Features, called once for each; "random init" and "raw
    pixels" are the names of the baselines in the verdict. Samples without a label (-1) are left out. The same samples
    are drawn for all, and draws of fewer labels are subsets of draws of more. Raises UserError for unknown evaluators,
    competitors over different samples, empty splits, or a single class.
    """
    if not competitors or draws < 1 or any(n < 1 for n in labels_per_class):
        raise UserError("judging takes a competitor, a draw, and a label per class or more")
    parts: dict[str, Evaluator] = {text: registry.build("evaluator", text) for text in evaluators}
    scores, correct, shared, splits = [], {}, None, {}
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
            score, correct[name, text] = _score(name, text, part, splits, drawn)
            scores.append(score)
    assert shared is not None
    first, *others = competitors
    compared = [(text, other, correct[first, text], correct[other, text]) for text in parts for other in others]
    common = np.bincount(shared["train"]).argmax()
    return Verdict(
        classes=list(classes),
        counts={split: len(shared[split]) for split in SPLITS},
        majority=float((shared["test"] == common).mean()),
        seed=seed,
        scores=scores,
        differences=[
            Difference(text, other, *paired_difference(mine, theirs)) for text, other, mine, theirs in compared
        ],
        word=word,
    )


def _score(
    name: str, text: str, part: Evaluator, splits: dict[str, Features], drawn: dict[int, list[np.ndarray]]
) -> tuple[Score, np.ndarray]:
    """The score, and for each test sample whether it was classified correctly."""
    train, test = splits["train"], splits["test"]
    val_accuracy, pooling, chosen = choose(part, train, splits["val"])
    train_x, test_x = train.pools[pooling], test.pools[pooling]
    answers = chosen.fit_predict(train_x, train.labels, test_x)
    correct = answers == test.labels
    few = []
    for number, subsets in drawn.items():
        accuracies = []
        for rows in subsets:  # `part`, not `chosen`: a strength chosen with all labels would be wrong for few
            predicted = part.fit_predict(train_x[rows], train.labels[rows], test_x)
            accuracies.append(float(accuracy_score(test.labels, predicted)))
        if accuracies:
            limits = student(accuracies, 0, 1) or (None, None)
            few.append(Few(number, float(np.mean(accuracies)), *limits, accuracies))
    accuracy = float(accuracy_score(test.labels, answers))
    interval = wilson(int(correct.sum()), len(correct))
    return Score(
        name, text, pooling, str(chosen), val_accuracy, accuracy, *interval, _balanced(test, answers), few
    ), correct


def choose(part: Evaluator, train: Features, val: Features) -> tuple[float, str, Evaluator]:
    """Validation accuracy, pooling and evaluator of the best pair; the first one among equals."""
    best = (-1.0, "", part)
    for pooling, train_x in train.pools.items():
        accuracy, candidate = best_candidate(part, (train_x, train.labels), (val.pools[pooling], val.labels))
        if accuracy > best[0]:
            best = (accuracy, pooling, candidate)
    return best


def best_candidate(
    part: Evaluator,
    train: tuple[Float[np.ndarray, "n d"], Int[np.ndarray, "n"]],
    val: tuple[Float[np.ndarray, "m d"], Int[np.ndarray, "m"]],
) -> tuple[float, Evaluator]:
    """Accuracy on `val` and the best of an evaluator's candidates, the first among equals. Where the best lies at their
    end, they are widened until it lies inside: the same rule for all features."""
    tried: list[Evaluator] = []
    waiting = list(part.candidates())
    best, accuracy = part, -1.0
    while waiting:
        tried.append(waiting.pop(0))
        answers = tried[-1].fit_predict(*train, val[0])
        if (score := float(accuracy_score(val[1], answers))) > accuracy:
            best, accuracy = tried[-1], score
        if not waiting and isinstance(best, Widening):
            waiting = [candidate for candidate in best.beyond(tried) if str(candidate) not in map(str, tried)]
    return accuracy, best


def _balanced(test: Features, answers: np.ndarray) -> float:
    """Mean recall over the classes of the test split: scikit-learn's balanced accuracy without its warning when a
    predicted class is missing from the test split."""
    return float(recall_score(test.labels, answers, labels=np.unique(test.labels), average="macro"))


def _draws(labels: np.ndarray, number: int, draws: int, seed: int) -> list[np.ndarray]:
    """Indices of `number` samples per class, `draws` times; none if a class has fewer, or if that is all of them.

    A draw of more begins with those of a draw of fewer, since the permutations do not depend on `number`.
    """
    members = _members(labels)
    if min(map(len, members)) < number or number * len(members) == len(labels):
        return []
    return [draw_rows(labels, number, draw, seed) for draw in range(draws)]


def _labelled(features: Features, split: str) -> Features:
    labelled = features.labels >= 0
    if not labelled.any():
        raise UserError(f"the {split} split has no labelled images; put each in a folder named after its class")
    return features if labelled.all() else features.take(labelled)


def _checked(labels: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, np.ndarray]:
    used = np.unique(labels["train"])
    if len(used) < 2:
        raise UserError("judging takes two classes or more; the training split has one")
    if used[-1] >= len(classes):
        raise UserError(f"there are {len(classes)} class names, but labels up to {used[-1]}")
    return labels
