"""The label-efficiency curve: accuracy against labels per class, and what pretraining is worth in labels."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from sklearn.isotonic import isotonic_regression

from unmask.evaluation.intervals import bootstrap, student, wilson
from unmask.files import Json
from unmask.report.palette import BLUE, GREY, OTHERS, make_figure, save, style
from unmask.report.words import percent

ALL = "all"  # the size that means every labelled image
PRETRAINED, SCRATCH, RANDOM = "pretrained", "from scratch", "random frozen"
FROZEN = ("knn", "linear", "attentive")
WORDS = {"knn": "kNN, frozen", "linear": "Linear, frozen", "attentive": "Attentive probe, frozen", "full": "Fine-tuned"}
LEAST = 0.1  # times the labels; below, an interval has no lower end worth telling
RESAMPLES, LEVELS = 2000, 64


@dataclass(frozen=True)
class Point:
    """One competitor under one protocol with one number of labels; shares from 0 to 1."""

    protocol: str
    competitor: str
    size: str  # "10" per class, "all", or "5 %" of the images
    per_class: float  # labels per class, on average
    accuracy: float  # mean over draws
    low: float  # 95 %: Student's t over draws; of a single draw, Wilson's over test images
    high: float
    draws: list[float]


@dataclass(frozen=True)
class Worth:
    """Labels that the rival needs, over those that the pretrained encoder needs, for the same accuracy."""

    protocol: str
    rival: str
    ratio: float  # mean over the accuracies that both reach; infinite where the rival never gets there
    low: float  # 95 %, bootstrap over draws and test images
    high: float
    levels: tuple[float, float] | None  # accuracies that were compared


@dataclass(frozen=True)
class Curve:
    points: list[Point]
    worths: list[Worth]
    classes: list[str]
    counts: dict[str, int]  # split -> images
    skipped: list[str]  # sizes that the data does not have
    unit: str = "labels per class"  # what is counted along the axis
    score: str = "accuracy"  # what is measured
    majority: float | None = None  # share of the commonest class among the test images, where accuracy is measured
    word: str = "image"  # what a sample is called

    def to_json(self) -> Json:
        single = (
            f"Wilson over test {self.word}s for a single draw" if self.score == "accuracy" else "none for a single draw"
        )
        intervals = f"95 %: Student's t over draws; {single}; bootstrap for worths"
        worths = [{k: None if v == math.inf else v for k, v in asdict(w).items()} for w in self.worths]
        return asdict(self) | {"worths": worths, "sentence": self.sentence(), "intervals": intervals}

    @property
    def protocols(self) -> list[str]:
        return list(dict.fromkeys(point.protocol for point in self.points))

    def line(self, protocol: str, competitor: str) -> list[Point]:
        """The points of one curve, few labels first."""
        points = [p for p in self.points if (p.protocol, p.competitor) == (protocol, competitor)]
        return sorted(points, key=lambda p: p.per_class)

    def sentence(self) -> str:
        """What pretraining is worth, by fine-tuning if that was done; also if it does not help."""
        if not self.worths:
            return self._no_better() + "Nothing to compare with: the curve has too few points."
        worth = next((w for w in self.worths if w.protocol == "full"), self.worths[0])
        how = f"{WORDS[worth.protocol].lower()}, against {_rival(worth.rival)}"
        if worth.low <= 1 <= worth.high:
            text = f"No clear benefit: {_undecided(worth, self.unit)} ({how})."
        else:
            start = "Pretraining is worth" if worth.low > 1 else "Pretraining costs labels: it is worth"
            text = f"{start} {_times(worth.ratio, self.unit)} ({_interval(worth)}; {how})."
        return self._no_better() + text + self._gaps(worth)

    def _no_better(self) -> str:
        """A sentence where even with the most labels no pretrained classifier beats the commonest class."""
        last = [line[-1] for protocol in self.protocols if (line := self.line(protocol, PRETRAINED))]
        if self.majority is None or not last or any(point.low > self.majority for point in last):
            return ""
        best = max(last, key=lambda point: point.accuracy)
        return (
            f"No classifier is clearly better than always answering the commonest class, which gives"
            f" {100 * self.majority:.1f} %: with the most labels, the best reaches {_percent(best)}. "
        )

    def _gaps(self, worth: Worth) -> str:
        """The sizes at which the two curves' intervals do not overlap, and the accuracies at the largest gap."""
        rivals = {p.size: p for p in self.line(worth.protocol, worth.rival)}
        pairs = [(p, rivals[p.size]) for p in self.line(worth.protocol, PRETRAINED) if p.size in rivals]
        apart = [(p, q) for p, q in pairs if p.low > q.high]
        below = [p.size for p, q in pairs if q.low > p.high]
        if not apart:
            text = f" At no number of {self.unit} do the intervals lie apart in its favour."
        else:
            best, other = max(apart, key=lambda pair: pair[0].accuracy - pair[1].accuracy)
            sizes = ", ".join(p.size for p, _ in apart)
            text = (
                f" Intervals lie apart at {sizes} {self.unit}; e.g. at {best.size}: {_percent(best)} against"
                f" {_percent(other)}."
            )
        return text + (f" It is worse at {', '.join(below)}." if below else "")


def make_point(
    protocol: str, competitor: str, size: str, per_class: float, draws: Sequence[float], num_test: int | None
) -> Point:
    """Mean and interval over draws. num_test: images behind each accuracy; None: scores that are not shares of images,
    for which a single draw has no interval."""
    mean = float(np.mean(draws))
    low, high = student(draws, 0, 1) or ((mean, mean) if num_test is None else wilson(round(mean * num_test), num_test))
    return Point(protocol, competitor, size, per_class, mean, low, high, list(draws))


def worths(points: Sequence[Point], num_test: int | None, seed: int = 0) -> list[Worth]:
    """For every protocol: fine-tuned against from scratch, frozen against random frozen."""
    results = []
    for protocol in dict.fromkeys(p.protocol for p in points):
        rival = RANDOM if protocol in FROZEN else SCRATCH
        mine, theirs = (_by_size(points, protocol, name) for name in (PRETRAINED, rival))
        sizes = sorted(mine.keys() & theirs.keys(), key=lambda s: mine[s].per_class)
        if len(sizes) >= 2:
            results.append(
                _worth(protocol, rival, [mine[s] for s in sizes], [theirs[s] for s in sizes], num_test, seed)
            )
    return results


def horizontal_gap(
    labels: Float[np.ndarray, "n"], mine: Float[np.ndarray, "n"], theirs: Float[np.ndarray, "n"]
) -> tuple[float, tuple[float, float] | None]:
    """The horizontal distance of two rising curves as a factor of labels, averaged over evenly spaced accuracies that
    both reach; and those accuracies. Infinite, or zero, if one curve begins above the other's end.

    Curves are made monotone by isotonic regression and interpolated linearly on log(labels).
    """
    at = np.log(labels)
    mine, theirs = (isotonic_regression(y) for y in (mine, theirs))
    low, high = max(mine[0], theirs[0]), min(mine[-1], theirs[-1])
    if low > high:
        return (math.inf if mine[0] > theirs[-1] else 0.0), None
    levels = np.linspace(low, high, LEVELS)
    gap = np.mean(_reach(theirs, at, levels) - _reach(mine, at, levels))
    return float(np.exp(gap)), (float(low), float(high))


def draw_curve(curve: Curve, path: Path) -> None:
    """Writes a PNG: a panel per protocol, bands of 95 %, one scale for all."""
    protocols = curve.protocols
    figure = make_figure(1.2 + 4.3 * len(protocols), 4.6)
    axes = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(point.competitor for point in curve.points))
    colors = {PRETRAINED: BLUE, SCRATCH: GREY, RANDOM: GREY}
    rest = [name for name in names if name not in colors]
    colors |= {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(rest)}
    for axis, protocol in zip(axes, protocols):
        _draw_panel(axis, curve, protocol, names, colors)
    axes[0].set_ylabel(f"test {curve.score}, %")
    figure.suptitle(_heading(curve.sentence(), figure.get_figwidth()), fontsize=10.5)
    save(figure, path)


def _heading(sentence: str, inches: float) -> str:
    """The first sentence, wrapped to the width of the figure."""
    first, end, _ = sentence.partition(").")
    return "\n".join(textwrap.wrap(first + end, int(11.5 * inches)))


def _draw_panel(axis: Axes, curve: Curve, protocol: str, names: list[str], colors: dict[str, str]) -> None:
    ticks: dict[float, str] = {}
    for name in names:
        line = curve.line(protocol, name)
        if not line:
            continue
        x, y = [p.per_class for p in line], [100 * p.accuracy for p in line]
        axis.plot(x, y, "o-", color=colors[name], ms=4, lw=1.8, label=name)
        bounds = [100 * p.low for p in line], [100 * p.high for p in line]
        axis.fill_between(x, *bounds, color=colors[name], alpha=0.17, lw=0)
        ticks |= {p.per_class: p.size for p in line}
    axis.set_xscale("log")
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.minorticks_off()
    if curve.score == "accuracy":
        axis.axhline(100 / len(curve.classes), color="black", lw=0.8, ls=":", label="chance")
    axis.set_title(WORDS[protocol])
    axis.set_xlabel(curve.unit)
    axis.legend(frameon=False, fontsize=9, loc="best")
    style(axis, grid="y", title=10.5)


def _worth(protocol: str, rival: str, mine: list[Point], theirs: list[Point], num_test: int | None, seed: int) -> Worth:
    labels = np.array([p.per_class for p in mine])
    ratio, levels = horizontal_gap(labels, *(np.array([p.accuracy for p in line]) for line in (mine, theirs)))

    def resample(rng: np.random.Generator) -> float:
        return horizontal_gap(labels, *(_resampled(line, num_test, rng) for line in (mine, theirs)))[0]

    rng = np.random.default_rng([seed, 0x30])
    return Worth(protocol, rival, ratio, *bootstrap(resample, rng, RESAMPLES, interpolate=False), levels)


def _resampled(line: list[Point], num_test: int | None, rng: np.random.Generator) -> np.ndarray:
    """Resamples the draws and the test images with replacement."""
    means = np.array([np.mean(rng.choice(p.draws, len(p.draws))) for p in line])
    if num_test is None:
        return means
    return rng.binomial(num_test, means.clip(0, 1)) / num_test


def _reach(accuracy: np.ndarray, at: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Where a rising curve reaches each level; on a plateau, about where it begins."""
    rising = accuracy + 1e-9 * np.arange(len(accuracy))
    return np.interp(levels, rising, at)


def _by_size(points: Sequence[Point], protocol: str, competitor: str) -> dict[str, Point]:
    return {p.size: p for p in points if (p.protocol, p.competitor) == (protocol, competitor)}


def _times(ratio: float, unit: str = "labels per class") -> str:
    things = unit.split(" per ")[0]
    return f"more than the largest number of {things}" if ratio == math.inf else f"{ratio:.1f} times the {things}"


def _interval(worth: Worth) -> str:
    high = "no upper bound" if worth.high == math.inf else f"{worth.high:.1f}"
    return f"95 % interval {'beyond the curve' if worth.low == math.inf else f'{worth.low:.1f}'} to {high}"


def _undecided(worth: Worth, unit: str) -> str:
    """What an interval that holds 1, no effect, leaves open."""
    what = unit.split(" per ")[0]
    if worth.low < LEAST and worth.high == math.inf:
        return f"whether pretraining saves {what} or costs {what} does not show here; more draws or tests would help"
    least = f"{worth.low:.1f}" if worth.low >= LEAST else f"less than {LEAST:g}"
    bounds = f"{least} times the {what} or more"
    if worth.high < math.inf:
        bounds = f"between {least} and {worth.high:.1f} times the {what}"
    return f"pretraining may save {what} or cost {what}; it is worth {bounds}, at 95 %"


def _rival(name: str) -> str:
    return "the same network from scratch" if name == SCRATCH else "the same network at random, frozen"


def _percent(point: Point) -> str:
    return percent(point.accuracy, point.low, point.high)
