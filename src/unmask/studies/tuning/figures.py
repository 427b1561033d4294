"""One image per axis: validation accuracy of every value in every round, with intervals."""

from matplotlib.figure import Figure

from unmask.report.palette import BLUE, GREY, make_figure, style
from unmask.studies.tuning.findings import Outcome, Round


def draw_axis(outcome: Outcome, where: str, word: str) -> Figure:
    """Rounds of short runs in grey, the last one in blue; the baseline is an open circle. word: for a sample."""
    figure = make_figure(8.5, 4.2)
    panel = figure.subplots()
    axis = outcome.axis
    places = {value.key: float(number) for number, value in enumerate(axis.values)}
    if axis.unit:
        places = {value.key: float(value.x or 0) for value in axis.values}
        if axis.logarithmic:
            panel.set_xscale("log", base=2)
            panel.minorticks_off()
        panel.set_xlabel(axis.unit)
    last = len(outcome.rounds) - 1
    for number, done in enumerate(outcome.rounds):
        shift = 0.0 if axis.unit else 0.12 * (number - last / 2)
        _round(panel, done, {key: x + shift for key, x in places.items()}, outcome.baseline, number == last, number)
    labels = [value.label for value in axis.values]
    panel.set_xticks(list(places.values()), labels, fontsize=8, rotation=0 if axis.unit else 10)
    panel.set_ylabel(f"accuracy on validation {word}s, %")
    panel.legend(frameon=False, fontsize=8)
    style(panel, grid="y")
    figure.suptitle(f"{axis.title} · {where}", fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _round(panel, done: Round, places: dict[str, float], baseline: str, last: bool, number: int) -> None:
    color = BLUE if last else GREY
    results = sorted(done.results, key=lambda result: places[result.value.key])
    xs = [places[result.value.key] for result in results]
    means = [100 * result.accuracy[0] for result in results]
    share = f"{done.rung.share:.0%} of a run" if done.rung.share < 1 else "whole runs"
    seeds = f"{done.rung.seeds} seed{'s' if done.rung.seeds > 1 else ''}"
    panel.plot(xs, means, color=color, lw=1.2, alpha=0.6 if last else 0.35, label=f"{share}, {seeds}")
    for x, result, mean in zip(xs, results, means):
        below, above = mean - 100 * result.accuracy[1], 100 * result.accuracy[2] - mean
        panel.errorbar(x, mean, [[below], [above]], color=color, capsize=3, lw=1.2, alpha=1.0 if last else 0.5)
        own = result.value.key == baseline
        panel.plot(x, mean, "o", color=color, ms=6, mfc="white" if own else color, mew=1.6, zorder=3)
