"""Colour-blind-safe colours (Okabe and Ito 2008), and the style that all figures share."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unmask.files import write_atomically

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, ORANGE, YELLOW, BLACK = "#56B4E9", "#E69F00", "#F0E442", "#000000"
GREY, LIGHT_GREY = "#6E6E6E", "#DDDDDD"  # yardsticks and notes; grid lines
OTHERS = (GREEN, PURPLE, SKY, ORANGE, BLACK)  # rivals, beside a subject in blue and yardsticks in grey and vermilion
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)  # lines of one panel, in this order
PAGE = {"ink": "#1d2433", "soft": "#5b6577", "line": "#dde2ea", "panel": "#f4f6fa", "accent": BLUE, "mark": VERMILION}


def rgb(colour: str) -> tuple[int, int, int]:
    """'#0072B2' -> (0, 114, 178)."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def make_figure(width: float, height: float, dpi: int = 110) -> Figure:
    """A figure with constrained layout; sizes in inches."""
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Writes the figure atomically, in the format of the file's suffix. A sign that matplotlib's font lacks, such as a
    Chinese one in a name, is drawn as a box; pages have the text itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        write_atomically(path, lambda part: figure.savefig(part, format=path.suffix[1:] or "png"))


def style(
    axis: Axes, grid: Literal["x", "y"] | None = None, hidden: Sequence[str] = ("top", "right"), title: float = 9.5
) -> None:
    """Removes the upper and right sides of the frame. grid: "x" or "y", grid lines; title: its size in points."""
    axis.spines[list(hidden)].set_visible(False)
    axis.title.set_fontsize(title)
    if grid:
        axis.grid(axis=grid, color=LIGHT_GREY, lw=0.6)
        axis.set_axisbelow(True)


def unframe(axis: Axes) -> None:
    """For images: no ticks and no frame; labels are kept."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def training_curves(
    records: Sequence[Mapping[str, Any]],
    losses: Mapping[str, str],
    scores: Mapping[str, str],
    loss_title: str,
    score_title: str,
    scale: float = 1.0,
) -> Figure | None:
    """Losses by step, and beside them validation scores times `scale`, if there are any; None before the first record.
    losses, scores: label of each line by its name in the records; names without records are left out."""
    steps = [record for record in records if "loss" in record and "epoch" in record]
    if not steps:
        return None
    looks = [record for record in records if any(name in record for name in scores)]
    figure = make_figure(11, 3.2)
    axes = figure.subplots(1, 2 if looks else 1, squeeze=False)[0]
    axes[0].set(xlabel="step", title=loss_title)
    _draw_lines(axes[0], steps, losses, (BLUE,) if len(losses) == 1 else (BLACK, *SERIES), "-", 1.0)
    if looks:
        axes[1].set(xlabel="step", title=score_title)
        _draw_lines(axes[1], looks, scores, (VERMILION,) if len(scores) == 1 else SERIES, "o-", scale)
    return figure


def _draw_lines(
    axis: Axes,
    records: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
    colours: Sequence[str],
    kind: str,
    scale: float,
) -> None:
    widths = [1.6] + [1.0] * (len(labels) - 1)
    for (name, label), colour, width in zip(labels.items(), colours, widths):
        points = [(record["step"], scale * record[name]) for record in records if name in record]
        if points:
            axis.plot(*zip(*points), kind, color=colour, ms=3, lw=width, label=label)
    if len(labels) > 1:
        axis.set_ylim(0, None)
        axis.legend(frameon=False, fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    style(axis)
