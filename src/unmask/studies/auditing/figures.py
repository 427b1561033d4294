"""The figure of an audit: every measure of every group with its interval, beside that of all other images."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.report.palette import BLUE, GREY, VERMILION, make_figure, style
from unmask.report.words import cut_end
from unmask.studies.auditing.results import ColumnAudit

MOST = 24  # groups that are drawn; the tables have all


def draw_column(column: ColumnAudit) -> Figure:
    """A panel for each measure. Dots are groups, with 95 % intervals, in vermilion where they differ from the rest,
    which is a grey line."""
    groups = column.groups[:MOST]
    names = [measure.name for measure in groups[0].measures]
    figure = make_figure(12, max(2.2, 0.34 * len(groups) + 1.3), dpi=100)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for number, (axis, name) in enumerate(zip(panels, names)):
        _draw_measure(axis, column, number)
        rest = len(column.groups) - len(groups)
        axis.set_title(f"{name}, %" + (f" ({rest} more groups)" if rest and not number else ""))
        style(axis, grid="x", title=11)
    words = [f"{cut_end(g.value, 24)} ({g.count:,}{', few' if g.small else ''})" for g in groups]
    panels[0].set_yticks(range(len(groups)), words)
    panels[0].set_ylim(len(groups) - 0.4, -0.6)
    return figure


def _draw_measure(axis: Axes, column: ColumnAudit, number: int) -> None:
    for row, group in enumerate(column.groups[:MOST]):
        measure = group.measures[number]
        value, low, high = (100 * share for share in (measure.value, measure.low, measure.high))
        whiskers = [[max(0.0, value - low)], [max(0.0, high - value)]]
        colour = VERMILION if measure.differs else BLUE
        axis.errorbar([value], [row], xerr=whiskers, fmt="o", color=colour, capsize=3, ms=5)
        axis.plot([100 * measure.rest] * 2, [row - 0.3, row + 0.3], color=GREY, lw=1.6)
