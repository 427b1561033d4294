"""One image per axis: what was measured, with intervals over seeds, and the paper's curve beside it in grey."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.files import Json
from unmask.report.palette import BLUE, GREY, VERMILION, make_figure, style
from unmask.studies.ablation.axes import Axis, paper
from unmask.studies.ablation.findings import BASELINE, METRICS, Row

COLORS = {"finetune": VERMILION, "linear": BLUE}


def draw_axis(axis: Axis, rows: list[Row], scratch: Row | None, where: str) -> Figure:
    """Draws this data, and on its right the paper where it has this axis: fine-tuning above, linear probe below."""
    figure = make_figure(10.5 if axis.points else 7.5, 6.2)
    points = axis.points
    grid = figure.subplots(2, 2 if points else 1, sharex="col", squeeze=False)
    for line, (metric, words) in enumerate(METRICS.items()):
        ours = grid[line][0]
        _ours(ours, axis, rows, metric, scratch)
        ours.set_ylabel(f"{words}, accuracy in %")
        if points:
            _theirs(grid[line][1], axis, points, metric)
    seeds = max(len(row.seeds) for row in rows)
    grid[0][0].set_title(f"{where} · {seeds} seed{'s' if seeds > 1 else ''}, 95 % over seeds", fontsize=9.5)
    if points:
        grid[0][1].set_title(paper()["label"], fontsize=9.5, color=GREY)
    if axis.unit:
        grid[1][0].set_xlabel(axis.unit)
    if axis.unit and points:
        grid[1][1].set_xlabel(_their_unit(axis), color=GREY)
    figure.suptitle(axis.title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    return figure


def _ours(panel: Axes, axis: Axis, rows: list[Row], metric: str, scratch: Row | None) -> None:
    places = _places(panel, axis, [(row.value.x, row.value.label) for row in rows])
    means = [100 * row.accuracy[metric].mean for row in rows]
    color = COLORS[metric]
    if axis.unit:
        panel.plot(places, means, color=color, lw=1.3, alpha=0.7)
    for x, row, mean in zip(places, rows, means):
        of, base = row.accuracy[metric], row.value.key == BASELINE
        if of.low is not None and of.high is not None:
            panel.errorbar(
                x, mean, [[mean - 100 * max(0, of.low)], [100 * min(1, of.high) - mean]], color=color, capsize=3, lw=1.3
            )
        panel.plot([x] * len(of.values), [100 * v for v in of.values], ".", color=color, ms=4, alpha=0.45)
        panel.plot(x, mean, "o", color=color, ms=7, mfc="white" if base else color, mew=1.8, zorder=3)
    if scratch is not None:
        level = 100 * scratch.accuracy[metric].mean
        panel.axhline(level, color=GREY, lw=0.9, ls=":")
        style: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 7.5, "color": GREY}
        panel.annotate("no pretraining", (1, level), xycoords=("axes fraction", "data"), **style)
    panel.plot([], [], "o", color=color, mfc="white", mew=1.8, label="baseline")
    panel.legend(frameon=False, fontsize=7.5, loc="best")
    _plain(panel)


def _theirs(panel: Axes, axis: Axis, points: Sequence[Json], metric: str) -> None:
    named = [(float(p["key"]) if axis.unit else None, p["key"]) for p in points]
    places = _places(panel, axis, named)
    values = [p[metric] for p in points]
    panel.plot(places, values, "-o" if axis.unit else "o", color=GREY, lw=1.2, ms=5)
    for x, value in zip(places, values):
        panel.annotate(f"{value:.1f}", (x, value), (0, 5), textcoords="offset points", **_small("center"))
    panel.margins(y=0.2)
    panel.tick_params(colors=GREY)
    _plain(panel)


def _places(panel: Axes, axis: Axis, named: Sequence[tuple[float | None, str]]) -> list[float]:
    """Positions and ticks of the values: numbers to scale, names evenly spaced."""
    if not axis.unit:
        panel.set_xticks(range(len(named)), [label for _, label in named], rotation=12, fontsize=8)
        panel.set_xlim(-0.5, len(named) - 0.5)
        return [float(i) for i in range(len(named))]
    places = [float(x or 0) for x, _ in named]
    if axis.logarithmic:
        panel.set_xscale("log", base=2)
        panel.minorticks_off()
    panel.set_xticks(places, [_short(x) for x in places], fontsize=8)
    return places


def _short(x: float) -> str:
    return f"{x:g}" if x < 1e4 else f"{x / 1e3:.3g} k" if x < 1e6 else f"{x / 1e6:.3g} M"


def _their_unit(axis: Axis) -> str:
    return "epochs" if axis.name == "schedule" else axis.unit


def _small(side: str) -> Json:
    return {"ha": side, "fontsize": 7, "color": GREY}


def _plain(panel: Axes) -> None:
    style(panel, grid="y")
