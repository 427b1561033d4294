"""The verdict of an evaluation: numbers with their intervals, one honest sentence, a table and a figure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from unmask.files import Json
from unmask.report.palette import BLUE, GREY, LIGHT_GREY, OTHERS, VERMILION, make_figure, save, style
from unmask.report.words import percent, points

if TYPE_CHECKING:
    from rich.table import Table


PRETRAINED, RANDOM, PIXELS = "pretrained", "random init", "raw pixels"
NAMES = {"knn": "kNN"}  # display names of evaluators, where they differ from the file name


@dataclass(frozen=True)
class Few:
    """Accuracy with a few labels per class; all shares, 0 to 1."""

    labels: int  # per class
    accuracy: float  # mean over the draws
    low: float | None  # 95 % interval of the mean over draws; None for a single draw
    high: float | None
    draws: list[float]


@dataclass(frozen=True)
class Score:
    """One competitor under one evaluator; accuracies are shares of the test images, 0 to 1."""

    competitor: str
    evaluator: str  # as asked for, e.g. "linear"
    pooling: str  # chosen on the validation split, as is the next
    setting: str  # e.g. "linear(C=0.01)"
    val_accuracy: float
    accuracy: float
    low: float  # 95 % interval over test images
    high: float
    balanced_accuracy: float  # mean over the classes of the test split
    few: list[Few] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first competitor minus that of another, on the same test images."""

    evaluator: str
    other: str
    accuracy: float
    low: float  # 95 % interval
    high: float


@dataclass(frozen=True)
class Verdict:
    """The result of `judge`. The first competitor is the one evaluated."""

    classes: list[str]
    counts: dict[str, int]  # split -> labelled images used
    majority: float  # share of the commonest training class among the test images
    seed: int
    scores: list[Score]
    differences: list[Difference]
    word: str = "image"  # what a sample is called

    def to_json(self) -> Json:
        """Plain lists, dicts, numbers and text, the sentence included."""
        intervals = f"95 %: Wilson over test {self.word}s; Student's t over draws; Newcombe's paired one of differences"
        return asdict(self) | {"sentence": self.sentence(), "intervals": intervals}

    @property
    def competitors(self) -> list[str]:
        return list(dict.fromkeys(score.competitor for score in self.scores))

    @property
    def evaluators(self) -> list[str]:
        return list(dict.fromkeys(score.evaluator for score in self.scores))

    @property
    def headline(self) -> str:
        """The evaluator that the sentence mentions first."""
        return next((name for name in self.evaluators if name.split("(")[0] == "linear"), self.evaluators[0])

    def score(self, competitor: str, evaluator: str) -> Score:
        return next(s for s in self.scores if (s.competitor, s.evaluator) == (competitor, evaluator))

    def difference(self, other: str, evaluator: str) -> Difference:
        return next(d for d in self.differences if (d.other, d.evaluator) == (other, evaluator))

    def outcome(self, evaluator: str) -> str:
        """The effect of pretraining in a few words: a difference counts if its 95 % interval excludes zero."""
        others = [name for name in (RANDOM, PIXELS) if name in self.competitors[1:]]
        if not others:
            return "Nothing to compare with"
        signs = [_sign(self.difference(name, evaluator)) for name in others]
        if all(sign > 0 for sign in signs):
            return "Pretraining helped"
        if signs[0] < 0:
            return "Pretraining hurt" if others[0] == RANDOM else "Raw pixels are better"
        if signs[0] > 0:
            return "Pretraining helped, but raw pixels do " + ("better" if signs[1] < 0 else "as well")
        return "No clear benefit"

    def sentence(self) -> str:
        """The outcome in words, with the numbers behind it."""
        subject, best = self.competitors[0], self.score(self.competitors[0], self.headline)
        parts = [self._against(name) for name in (RANDOM, PIXELS) if name in self.competitors[1:]]
        against = " against " + " and ".join(parts) if parts else ""
        text = (
            f"{self.outcome(self.headline)}: {label(self.headline)} accuracy of {subject} {_range(best)}{against};"
            f" {self.counts['test']:,} test {self.word}s, {best.pooling} pooling, chosen on the validation split."
        )
        if best.low <= self.majority:
            text += f" Always answering the commonest class would give {percent(self.majority)}."
        for evaluator in self.evaluators if parts else []:
            if evaluator != self.headline:
                text += " " + self._second(evaluator)
        rest = [name for name in self.competitors[1:] if name not in (RANDOM, PIXELS)]
        if rest:
            reached = " and ".join(f"{name} reaches {_range(self.score(name, self.headline))}" for name in rest)
            text += f" For comparison, {reached}."
        return text

    def _against(self, other: str) -> str:
        mine, theirs = self.score(self.competitors[0], self.headline), self.score(other, self.headline)
        meet = mine.low <= theirs.high and theirs.low <= mine.high
        who = "the same encoder at random initialisation" if other == RANDOM else other
        gained = _points(self.difference(other, self.headline))
        return f"{_range(theirs)} for {who} ({gained}{'; the intervals overlap' if meet else ''})"

    def _second(self, evaluator: str) -> str:
        others = [name for name in (RANDOM, PIXELS) if name in self.competitors[1:]]
        against = ", ".join(f"{_points(self.difference(name, evaluator))} over {name}" for name in others)
        outcome, first = self.outcome(evaluator), self.outcome(self.headline)
        words = "the same" if outcome == first else outcome[0].lower() + outcome[1:]
        mine = _range(self.score(self.competitors[0], evaluator))
        return (
            f"By {label(evaluator)} {'' if words == 'the same' else 'the result differs: '}{words}: {mine}, {against}."
        )


def label(evaluator: str) -> str:
    """For people: `knn(k=10)` -> `kNN(k=10)`."""
    name, *options = evaluator.split("(", 1)
    return "(".join([NAMES.get(name, name), *options])


def rows(verdict: Verdict) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table, in percent."""
    numbers = sorted({few.labels for score in verdict.scores for few in score.few})
    heads = [
        "features",
        "evaluator",
        "accuracy, %",
        "balanced, %",
        *(f"{n}/class" for n in numbers),
        "pooling, setting",
    ]
    body = []
    for score in verdict.scores:
        few = {f.labels: percent(f.accuracy, f.low, f.high, unit="") for f in score.few}
        accuracy = percent(score.accuracy, score.low, score.high, unit="")
        cells = [accuracy, f"{100 * score.balanced_accuracy:.1f}", *(few.get(n, "") for n in numbers)]
        body.append([score.competitor, label(score.evaluator), *cells, f"{score.pooling}, {score.setting}"])
    return heads, body


def table(verdict: Verdict, more: Sequence[Sequence[str]] = ()) -> "Table":
    """For a terminal. more: further rows."""
    from rich.table import Table

    heads, body = rows(verdict)
    result = Table(
        title=f"Accuracy on {verdict.counts['test']:,} test {verdict.word}s, 95 % intervals", title_justify="left"
    )
    for column, head in enumerate(heads):
        result.add_column(head, justify="right" if 2 <= column < len(heads) - 1 else "left")
    for cells in (*body, *more):
        result.add_row(*cells)
    return result


def markdown(verdict: Verdict) -> str:
    """For a file: the sentence, then the table."""
    heads, body = rows(verdict)
    align = ["---:" if 2 <= column < len(heads) - 1 else "---" for column in range(len(heads))]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (heads, align, *body)]
    return verdict.sentence() + "\n\n" + "\n".join(lines) + "\n"


def draw_verdict(verdict: Verdict, path: Path) -> None:
    """Writes a PNG, 1,200 pixels wide. Bands and bars are 95 % intervals."""
    figure = make_figure(12, 4.8, dpi=100)
    colors = _colors(verdict.competitors)
    curves, bars = figure.subplots(1, 2, width_ratios=[1.35, 1])
    _draw_curves(curves, verdict, colors)
    _draw_bars(bars, verdict, colors)
    names = bars.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower right", frameon=False, fontsize=9.5, ncols=min(5, len(names[0])))
    for axis in (curves, bars):
        style(axis, title=11)
    save(figure, Path(path))


def _draw_curves(axis: Axes, verdict: Verdict, colors: dict[str, str]) -> None:
    evaluator = verdict.headline
    scores = [verdict.score(name, evaluator) for name in verdict.competitors]
    numbers = sorted({few.labels for score in scores for few in score.few})
    full = numbers[-1] * 3 if numbers else 1  # where "all" stands on the axis: after a gap, since it is no number
    for score in scores:
        color, few = colors[score.competitor], score.few
        x, y = [f.labels for f in few], [100 * f.accuracy for f in few]
        axis.plot(x, y, "o-", color=color, ms=4, lw=1.8)
        axis.plot([*x[-1:], full], [*y[-1:], 100 * score.accuracy], ":", color=color, lw=1.4)
        bands = [(f.labels, 100 * f.low, 100 * f.high) for f in few if f.low is not None and f.high is not None]
        if bands:
            x, low, high = zip(*bands)
            axis.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
        axis.errorbar([full], [100 * score.accuracy], yerr=_whiskers([score]), fmt="o", ms=5, color=color, capsize=3)
    axis.set_xscale("log")
    axis.set_xlim((numbers[0] if numbers else full) / 1.25, full * 1.15)
    axis.set_xticks([*numbers, full], [*map(str, numbers), "all"])
    axis.minorticks_off()
    names = label(evaluator)
    axis.set(
        xlabel="labels per class",
        ylabel="test accuracy, %",
        title=f"{names[0].upper()}{names[1:]}, by number of labels",
    )
    axis.grid(axis="y", color=LIGHT_GREY, lw=0.6)
    _name_lines(axis, scores, colors, full)


def _name_lines(axis: Axes, scores: list[Score], colors: dict[str, str], x: float) -> None:
    """Writes names to the right of the lines' ends, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    gap, height = 0.062 * (high - low), -float("inf")
    for score in sorted(scores, key=lambda s: s.accuracy):
        height = max(100 * score.accuracy, height + gap)
        text = f"{score.competitor} {100 * score.accuracy:.1f}"
        end = {"xy": (x, 100 * score.accuracy), "xytext": (x * 1.2, height), "annotation_clip": False}
        axis.annotate(text, **end, color=colors[score.competitor], va="center", fontsize=10)


def _draw_bars(axis: Axes, verdict: Verdict, colors: dict[str, str]) -> None:
    names, evaluators = verdict.competitors, verdict.evaluators
    width, floor = 0.8 / len(names), 0.0
    for position, name in enumerate(names):
        scores = [verdict.score(name, evaluator) for evaluator in evaluators]
        x = [i + (position - (len(names) - 1) / 2) * width for i in range(len(scores))]
        y = [100 * score.accuracy for score in scores]
        axis.bar(x, y, 0.92 * width, color=colors[name], label=name)
        axis.errorbar(x, y, yerr=_whiskers(scores), fmt="none", color="black", lw=1.1, capsize=3)
        for at, score in zip(x, scores):
            text = {"ha": "center", "va": "bottom", "fontsize": 9, "xytext": (0, 2), "textcoords": "offset points"}
            axis.annotate(f"{100 * score.accuracy:.1f}", (at, 100 * score.high), **text)
    axis.axhline(100 * verdict.majority, color="black", lw=0.9, ls="--")
    axis.annotate("commonest class", (1, 100 * verdict.majority), xycoords=("axes fraction", "data"), ha="right",
                  va="bottom", fontsize=8.5, xytext=(0, 3), textcoords="offset points",
                  bbox={"boxstyle": "square,pad=0.15", "color": "white", "alpha": 0.8})  # fmt: skip
    axis.set_xticks(range(len(evaluators)), [label(evaluator) for evaluator in evaluators])
    axis.set_ylim(floor, min(108, 12 + max(100 * score.high for score in verdict.scores)))
    axis.set(title=f"All labels: {verdict.counts['train']:,} train, {verdict.counts['test']:,} test", ylabel="%")


def _whiskers(scores: list[Score]) -> list[list[float]]:
    down = [100 * (score.accuracy - score.low) for score in scores]
    return [down, [100 * (score.high - score.accuracy) for score in scores]]


def _colors(names: list[str]) -> dict[str, str]:
    fixed = {names[0]: BLUE, RANDOM: GREY, PIXELS: VERMILION}
    others = cycle(OTHERS)
    return {name: fixed.get(name) or next(others) for name in names}


def _sign(difference: Difference) -> int:
    return (difference.low > 0) - (difference.high < 0)


def _range(score: Score) -> str:
    return percent(score.accuracy, score.low, score.high)


def _points(difference: Difference) -> str:
    return points(difference.accuracy, difference.low, difference.high)
