"""Figures of `unmask stress`: accuracies as a map, the drops, and example images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from torch import Tensor

from unmask.report.palette import BLUE, GREY, VERMILION, make_figure, save, style
from unmask.report.reconstruction import displayed
from unmask.studies.robustness.results import Stress


def draw_stress(stress: Stress, path: Path) -> None:
    """Writes a PNG, 1,200 pixels wide. Bars and dots have 95 % intervals."""
    names = stress.corruptions
    figure = make_figure(12, max(0.36 * len(names) + 1.1, 2.2), dpi=100)
    heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
    _draw_map(heat, stress)
    _draw_drops(bars, stress)
    heat.set_ylim(len(names) - 0.5, -0.5)  # bars would add a margin to the axis that both share
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
