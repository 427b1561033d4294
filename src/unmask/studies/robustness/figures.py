"""Figures of `unmask stress`: accuracies as a map, the drops, the groups, and example images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.transforms import offset_copy
from torch import Tensor

from unmask.report.palette import BLUE, GREY, VERMILION, make_figure, save, style
from unmask.report.reconstruction import displayed
from unmask.studies.robustness.groups import Grouping
from unmask.studies.robustness.results import Stress

MOST_GROUPS = 24  # rows of one panel; the table and stress.json have all


def draw_stress(stress: Stress, path: Path) -> None:
    """Writes a PNG, 1,200 pixels wide. Bars and dots have 95 % intervals."""
    names = stress.corruptions
    shown = [len(g.groups[:MOST_GROUPS]) for g in stress.groupings]
    lines = [shown[i : i + 2] for i in range(0, len(shown), 2)]  # two panels side by side
    heights = [max(0.36 * len(names) + 1.1, 2.2), *(0.3 * max(line) + 1.3 for line in lines)]
    figure = make_figure(12, sum(heights), dpi=100)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    heat, bars = parts[0].subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
    _draw_map(heat, stress)
    _draw_drops(bars, stress)
    heat.set_ylim(len(names) - 0.5, -0.5)  # bars would add a margin to the axis that both share
    for row in range(len(lines)):
        pair = stress.groupings[2 * row : 2 * row + 2]
        axes = parts[row + 1].subplots(1, 2, squeeze=False)[0]
        for axis, grouping in zip(axes, pair):
            _draw_groups(axis, grouping, stress)
        for axis in axes[len(pair) :]:
            axis.set_axis_off()
    save(figure, Path(path))


def draw_examples(
    images: Sequence[Shaped[Tensor, "c h w"]], titles: Sequence[str], answers: Sequence[tuple[str, bool]], path: Path
) -> None:
    """One image clean and under each corruption, with its predicted class, marked as correct or wrong."""
    across = min(len(images), 4 if len(images) != 6 else 3)
    down = -(-len(images) // across)
    shape = images[0].shape[-2] / images[0].shape[-1]
    figure = make_figure(2.5 * across, (2.5 * shape + 0.5) * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, title, (answer, right) in zip(axes, images, titles, answers):
        small = image.shape[-1] < 120
        axis.imshow(displayed(image, 0, 255), interpolation="nearest" if small else "antialiased")
        axis.set_title(f"{title}\n", fontsize=10)
        mark = {"color": BLUE if right else VERMILION, "fontsize": 8, "ha": "center", "va": "bottom"}
        axis.annotate(answer, (0.5, 1.015), xycoords="axes fraction", **mark)
    save(figure, Path(path))


def _draw_map(axis: Axes, stress: Stress) -> None:
    names, severities = stress.corruptions, stress.severities
    shares = 100 * np.array([[stress.cell(name, s).accuracy for s in severities] for name in names])
    top = max(100 * stress.accuracy, 1e-6)
    axis.imshow(shares, cmap="viridis", vmin=0, vmax=top, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        ink = "black" if shares[row, column] > 0.55 * top else "white"
        axis.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=9.5)
    axis.set_xticks(range(len(severities)), [f"severity {s}" if s == severities[0] else str(s) for s in severities])
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.tick_params(length=0)
    axis.set_title(
        f"Accuracy, %; clean {100 * stress.accuracy:.1f} ({100 * stress.low:.1f}-{100 * stress.high:.1f}),"
        f" {stress.count:,} images",
        fontsize=11,
    )
    axis.spines[:].set_visible(False)


def _draw_drops(axis: Axes, stress: Stress) -> None:
    means = [stress.mean(name) for name in stress.corruptions]
    drops = [100 * cell.drop for cell in means]
    below = [100 * (cell.drop - cell.drop_low) for cell in means]
    above = [100 * (cell.drop_high - cell.drop) for cell in means]
    rows = range(len(means))
    axis.barh(rows, drops, height=0.72, color=BLUE)
    axis.errorbar(drops, rows, xerr=[below, above], fmt="none", color="black", lw=1.1, capsize=3)
    axis.axvline(0, color="black", lw=0.8)
    axis.axvline(100 * stress.mean().drop, color=GREY, lw=1, ls="--")
    axis.annotate("mean", (100 * stress.mean().drop, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                  textcoords="offset points", fontsize=8.5, color=GREY)  # fmt: skip
    axis.tick_params(left=False)
    axis.set_title("Drop from clean, mean over severities, points", fontsize=11)
    style(axis, hidden=("top", "right", "left"), title=11)


def _draw_groups(axis: Axes, grouping: Grouping, stress: Stress) -> None:
    groups = grouping.groups[:MOST_GROUPS]
    rows = np.arange(len(groups))
    shares = [100 * group.accuracy for group in groups]
    whiskers = [[100 * (g.accuracy - g.low) for g in groups], [100 * (g.high - g.accuracy) for g in groups]]
    axis.errorbar(shares, rows, xerr=whiskers, fmt="o", color=BLUE, capsize=3, ms=5, label="clean")
    damaged = [(100 * g.corrupted, row) for g, row in zip(groups, rows) if g.corrupted is not None]
    if damaged:
        axis.plot(*zip(*damaged), "D", color=VERMILION, ms=5, mfc="none", label="mean under corruption")
    axis.axvline(100 * stress.accuracy, color=GREY, lw=1, ls="--", label="clean, all images")
    axis.set_yticks(rows, [f"{g.value} ({g.count:,}{', few' if g.small else ''})" for g in groups])
    axis.set_ylim(len(groups) - 0.4, -0.6)
    rest = len(grouping.groups) - len(groups)
    title = f"Accuracy by {grouping.column}, %" + (f" (first {MOST_GROUPS}; {rest} more)" if rest else "")
    axis.set_title(title, fontsize=11)
    style(axis, grid="x", title=11)
    under = offset_copy(axis.transAxes, axis.get_figure(root=True), y=-16, units="points")  # the numbers, at any height
    legend_position = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": under}
    axis.legend(frameon=False, fontsize=8.5, ncols=3, **legend_position)
