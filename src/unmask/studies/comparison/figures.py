"""Accuracy against compute: one panel for each judge, one line for each method, baselines across."""

import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.report.palette import BLACK, GREY, SERIES, make_figure, style
from unmask.report.words import cut_end
from unmask.studies.comparison.findings import Accuracy, Findings, words
from unmask.studies.comparison.settings import RANDOM, Contestant

COLUMNS, LONGEST = 3, 26  # panels side by side; characters of a name
EQUAL, SPREAD = 1.05, 1.45  # largest ratio of compute that counts as the same; over which such points are spread then
MARKERS = "osD^vP*X<>"
DASHES = (":", "--", "-.", (0, (1, 3)), (0, (5, 4)))  # of baselines


def draw(findings: Findings, title: str) -> Figure | None:
    """None before anything is judged."""
    judges = [judge for judge in findings.judges if any(key[1] == judge for key in findings.rows)]
    if not judges:
        return None
    lines = math.ceil(len(judges) / COLUMNS)
    figure = make_figure(4.1 * min(COLUMNS, len(judges)) + 2.2, 3.5 * lines + 0.3)
    grid = figure.subplots(lines, min(COLUMNS, len(judges)), squeeze=False).flatten()
    for panel, judge in zip(grid, judges):
        _panel(panel, findings, judge)
    for panel in grid[len(judges) :]:
        panel.set_axis_off()
    labels: dict[str, Artist] = {}
    for panel in grid[: len(judges)]:
        handles, names = panel.get_legend_handles_labels()
        labels |= dict(zip(names, handles))
    figure.legend(list(labels.values()), list(labels), loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


def _panel(panel: Axes, findings: Findings, judge: str) -> None:
    trained = [contestant for contestant in findings.contestants if contestant.trained]
    beside = _side_by_side(trained)
    for number, contestant in enumerate(trained):
        points = _line(findings, contestant, judge)
        if not points:
            continue
        x = [beside[number] * contestant.spent(point.share) / 1e12 for point in points]
        y = [100 * point.mean for point in points]
        below = [100 * (point.mean - point.low) for point in points]
        above = [100 * (point.high - point.mean) for point in points]
        colour, marker = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]
        style_of_line = "-" if number < len(SERIES) else "--"
        panel.errorbar(
            x, y, [below, above], color=colour, marker=marker, ms=5, lw=1.3, ls=style_of_line, capsize=2,
            label=cut_end(contestant.name, LONGEST),
        )  # fmt: skip
    for number, contestant in enumerate(contestant for contestant in findings.contestants if not contestant.trained):
        accuracy = findings.accuracy(contestant.name, judge)
        if accuracy is not None:
            colour = BLACK if contestant.kind == RANDOM else GREY
            dash = DASHES[number % len(DASHES)]
            panel.axhline(100 * accuracy.mean, color=colour, lw=1.1, ls=dash, label=cut_end(contestant.name, LONGEST))
            panel.axhspan(100 * accuracy.low, 100 * accuracy.high, color=colour, alpha=0.07, lw=0)
    panel.set_xscale("log")
    panel.minorticks_off()
    _ticks(
        panel,
        [contestant.spent(share) / 1e12 for contestant in trained for share in _shares(findings, contestant, judge)],
    )
    side_by_side = "; equal ones side by side" if len(set(beside)) > 1 else ""
    panel.set(xlabel=f"training, TFLOPs{side_by_side}", ylabel="accuracy in %", title=words(judge))
    style(panel, grid="y", title=10)


def _side_by_side(contestants: Sequence[Contestant]) -> list[float]:
    """Factors that keep the points of contestants apart which took the same compute."""
    spent, last = [contestant.spent(1.0) for contestant in contestants], len(contestants) - 1
    if last < 1 or max(spent) > EQUAL * min(spent):
        return [1.0] * len(spent)
    return [SPREAD ** (number / last - 0.5) for number in range(len(spent))]


def _line(findings: Findings, contestant: Contestant, judge: str) -> list[Accuracy]:
    points = [findings.accuracy(contestant.name, judge, share) for share in _shares(findings, contestant, judge)]
    return [point for point in points if point is not None]


def _shares(findings: Findings, contestant: Contestant, judge: str) -> Sequence[float]:
    return sorted(share for name, of, share in findings.rows if (name, of) == (contestant.name, judge))


def _ticks(panel: Axes, values: Sequence[float]) -> None:
    """A few of them, spread evenly over a logarithmic axis."""
    if not values:
        return
    low, high = min(values), max(values)
    if high <= low * 1.5:  # labels of several ticks would lie on each other
        middle = math.sqrt(low * high)
        panel.set_xticks([middle], [f"{middle:.3g}"])
        panel.set_xlim(middle / 2, middle * 2)
        return
    count = 4 if high > low * 4 else 2
    ticks = [low * (high / low) ** (i / (count - 1)) for i in range(count)]
    panel.set_xticks(ticks, [f"{tick:.2g}" if tick < 100 else f"{tick:,.0f}" for tick in ticks])
    panel.set_xlim(low / 1.3, high * 1.3)
