"""What accuracy to expect at more labels: a power law fitted to the label curve, with its interval and its limits.

error(n) = floor + factor * n^-exponent, as learning curves are described (Viering and Loog 2022,
https://arxiv.org/abs/2103.10948). Labels of the curve are drawn at random, so the forecast is one for random labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from unmask.data.datasets.draws import draw_rows, hold_out
from unmask.errors import DataError
from unmask.evaluation.compare import best_candidate
from unmask.evaluation.frozen.linear import Linear
from unmask.evaluation.intervals import bootstrap
from unmask.files import Json
from unmask.report.words import percent
from unmask.studies.label_curve.curve import PRETRAINED

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the labels: the points of the curve
SIZES = 4  # points that a forecast needs: three are fitted, the fourth tests the fit
REACH = 4  # times the largest number of labels of the curve, beyond which nothing is forecast
EXPONENTS = np.linspace(0.05, 2, 40)
RESAMPLES = 500
CHOOSE = 5  # labels of the rarest class from which the penalty is chosen on a fifth of the labels


@dataclass(frozen=True)
class Measured:
    """Accuracies with one number of labels, one for each draw."""

    labels: int
    accuracies: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))


@dataclass(frozen=True)
class Forecast:
    """Expected accuracy, 0 to 1; all None where none can be given, and `reason` says why."""

    now: int  # labels at hand
    then: int  # labels with those that are still to be made
    accuracy_now: float | None = None
    accuracy: float | None = None
    low: float | None = None  # 95 %: bootstrap over draws and test images, widened by the miss
    high: float | None = None
    miss: float | None = None  # error of the fit without the last point at that point
    reason: str = ""
    points: list[Measured] = field(default_factory=list)

    def sentence(self) -> str:
        if self.accuracy is None or self.accuracy_now is None:
            return f"No accuracy at {self.then:,} labels can be forecast: {self.reason}."
        return (
            f"Forecast from the label curve: {percent(self.accuracy, self.low, self.high)} accuracy at {self.then:,}"
            f" labels, against {percent(self.accuracy_now)} at the {self.now:,} of today, if the further ones were"
            " drawn at random."
        )


def measure(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, "n"],
    test: tuple[Float[np.ndarray, "m d"], Int[np.ndarray, "m"]] | None = None,
    draws: int = 5,
    seed: int = 0,
) -> tuple[list[Measured], int]:
    """The label curve of a linear classifier, and the number of test images behind each accuracy.

    test: features and labels of test images; without, each draw holds out another quarter of every class. Raises
    DataError where no class has two labels.
    """
    by_size: dict[int, list[float]] = {}
    num_test, part = 0, penalty(features, labels)
    for draw in range(draws):
        kept, held = (np.arange(len(labels)), None) if test else hold_out(labels, 0.25, seed + draw)
        test_x, test_y = test if test else (features[held], labels[held])
        num_test = len(test_y)
        for share in SHARES:
            rows = kept if share == 1 else kept[draw_rows(labels[kept], share, draw, seed)]
            right = part.fit_predict(features[rows], labels[rows], test_x) == test_y
            by_size.setdefault(len(rows), []).append(float(right.mean()))
    points = [Measured(size, by_size[size]) for size in sorted(by_size)]
    return points, num_test if test else min(len(labels), draws * num_test)


def penalty(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]) -> Linear:
    """The linear classifier whose penalty is best on a fifth of the labels; the default one if there are too few."""
    if np.unique(labels, return_counts=True)[1].min() < CHOOSE:
        return Linear()
    kept, held = hold_out(labels)
    best = best_candidate(Linear(), (features[kept], labels[kept]), (features[held], labels[held]))[1]
    assert isinstance(best, Linear)
    return best


def forecast(
    points: Sequence[Measured], num_test: int, now: int, then: int, seed: int = 0, *, word: str = "image"
) -> Forecast:
    """The accuracy at `then` labels, or the reason why none can be given. word: what a sample is called."""
    points = sorted(points, key=lambda point: point.labels)
    if reason := _lacks(points, num_test, then, word):
        return Forecast(now, then, reason=reason, points=list(points))
    sizes = np.array([point.labels for point in points], float)
    means = np.array([point.mean for point in points])
    expected = _expected(sizes, means, np.array([now, then, sizes[-1]]))
    miss = float(_expected(sizes[:-1], means[:-1], sizes[-1:])[0] - means[-1])

    def resample(generator: np.random.Generator) -> float:
        drawn = np.array([np.mean(generator.choice(p.accuracies, len(p.accuracies))) for p in points])
        noisy = generator.binomial(num_test, drawn.clip(0, 1)) / num_test
        return float(_expected(sizes, noisy, np.array([float(then)]))[0])

    low, high = bootstrap(resample, np.random.default_rng([seed, 0x31]), RESAMPLES)
    now_mean, mean = float(expected[0]), float(expected[1])
    below, above = (float(np.hypot(side, miss)) for side in (max(0.0, mean - low), max(0.0, high - mean)))
    limits = max(0.0, mean - below), min(1.0, mean + above)
    return Forecast(now, then, now_mean, mean, *limits, abs(miss), points=list(points))


def forecast_linear(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, "n"],
    more: int,
    test: tuple[Float[np.ndarray, "m d"], Int[np.ndarray, "m"]] | None = None,
    seed: int = 0,
    *,
    word: str = "image",
) -> Forecast:
    """The forecast for a linear classifier on frozen features, at `more` labels than there are."""
    now, then = len(labels), len(labels) + more
    if len(np.unique(labels)) < 2:
        return Forecast(now, then, reason=f"the labelled {word}s are all of one class")
    try:
        points, num_test = measure(features, labels, test, seed=seed)
    except DataError:
        return Forecast(now, then, reason=f"no class has two labelled {word}s, so none can be held out to test on")
    return forecast(points, num_test, now, then, seed, word=word)


def forecast_recorded(curve: Json, now: int, more: int, seed: int = 0, *, word: str = "image") -> Forecast:
    """The forecast for a fine-tuned classifier from the labels.json of its run, as `unmask labels` writes it; a curve
    over the labels that it was trained on would flatter it."""
    trained = [
        Measured(round(point["per_class"] * len(curve["classes"])), point["draws"])
        for point in curve.get("points", [])
        if point["protocol"] == "full" and point["competitor"] == PRETRAINED
    ]
    if not trained or curve.get("score") != "accuracy":
        reason = (
            "the classifier was fine-tuned on the labels at hand, and its run has no label curve of fine-tuned"
            " accuracy; unmask labels RUN --on LABELLED draws one"
        )
        return Forecast(now, now + more, reason=reason)
    return forecast(trained, curve["counts"]["test"], now, now + more, seed, word=word)


def _lacks(points: Sequence[Measured], num_test: int, then: int, word: str) -> str:
    """What a forecast is missing; empty where there is enough."""
    if len(points) < SIZES:
        return (
            f"the label curve has {len(points)} different numbers of labels and a fit with a test needs {SIZES}; about"
            f" 11 labelled {word}s of every class are enough, or 8 beside a test split"
        )
    if num_test < 20:
        return f"{num_test} test {word}s are too few to tell accuracies apart"
    if then > REACH * points[-1].labels:
        return (
            f"that is {then / points[-1].labels:.1f} times the largest number of the curve ({points[-1].labels:,}), and"
            f" a curve is not followed beyond {REACH} times"
        )
    return ""


def _expected(
    sizes: Float[np.ndarray, "k"], accuracies: Float[np.ndarray, "k"], at: Float[np.ndarray, "m"]
) -> Float[np.ndarray, "m"]:
    """Accuracies at other numbers of labels: for each exponent of a grid the best floor and factor, neither negative;
    then the exponent of the least squares."""
    errors, best, least = 1 - accuracies, np.full(len(at), 1 - accuracies.mean()), np.inf
    for exponent in EXPONENTS:
        x, reached = sizes**-exponent, at**-exponent
        centred = x - x.mean()
        slope = max(0.0, float(centred @ errors) / float(centred @ centred))
        floor = float(errors.mean() - slope * x.mean())
        if floor < 0:  # the best with a floor of zero
            floor, slope = 0.0, float(x @ errors) / float(x @ x)
        rest = float(((floor + slope * x - errors) ** 2).sum())
        if rest < least:
            best, least = floor + slope * reached, rest
    return 1 - best.clip(0, 1)
