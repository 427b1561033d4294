"""Rows of images with a heading over each column, as one file: what `unmask show` draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.report.words import cut_start

SMALL = 100  # pixels: smaller images are drawn as squares


@dataclass(frozen=True)
class Row:
    title: str  # left of the row, in lines
    columns: dict[str, np.ndarray]  # heading -> h w 3 in 0..1; or rows columns of numbers, a map over the first image
    caption: str = ""  # below the last column


def draw_panel(rows: Sequence[Row], path: Path, note: str, cell: float, scale: float | None = None) -> None:
    """Writes the panel in the format of the file's suffix. cell: width of a column in inches; scale: the value drawn
    brightest in all maps; None: each map from its minimum to its maximum."""
    from matplotlib.figure import Figure  # here, since training, which draws at its end, begins sooner without it

    from unmask.report.palette import save, unframe

    headings = list(rows[0].columns)
    shapes = [next(iter(row.columns.values())).shape[:2] for row in rows]
    heights = [cell * height / width for height, width in shapes]
    gap = 0.17 if any(row.caption for row in rows) else 0.12
    size = (max(4.2, cell * len(headings) + 0.4), sum(heights) + gap * len(rows) + 0.62)
    figure = Figure(figsize=size, dpi=130)
    axes = figure.subplots(len(rows), len(headings), squeeze=False, height_ratios=heights)
    for line, row, (height, width) in zip(axes, rows, shapes):
        for axis, image in zip(line, row.columns.values()):
            if image.ndim == 2:
                limits = {} if scale is None else {"vmin": 0, "vmax": scale}
                axis.imshow(image, cmap="magma", extent=(0, width, height, 0), interpolation="nearest", **limits)
            else:
                axis.imshow(image, interpolation="nearest" if height < SMALL else "antialiased")
            unframe(axis)
        title = "\n".join(cut_start(part, 26) for part in row.title.splitlines())
        line[0].set_ylabel(title, fontsize=6.5, parse_math=False)
        line[-1].set_xlabel(row.caption, fontsize=7, labelpad=2)
    for axis, heading in zip(axes[0], headings):
        axis.set_title(heading, fontsize=9)
    figure.text(0.01, 0.06 / size[1], note, fontsize=6, color="0.35", wrap=True)
    sides = {"left": 0.3 / size[0], "right": 0.995, "top": 1 - 0.3 / size[1], "bottom": 0.36 / size[1]}
    figure.subplots_adjust(**sides, wspace=0.03, hspace=gap / 2 / float(np.mean(heights)))
    save(figure, path)
