"""Figures of anomalies: heat maps over images on a shared scale, with the threshold as a contour; histograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from unmask.report.palette import BLUE, GREY, SKY, VERMILION, make_figure, save, style
from unmask.report.words import cut_start

COLOURS = "inferno"
SIDE = 2.6  # inches of an image's longer side


@dataclass(frozen=True)
class Scale:
    """The colour scale of all images: from the median to twice the distance to the threshold."""

    median: float  # of the maps of held-out normal images
    threshold: float  # of images: the contour
    pixel: float  # of pixels

    @property
    def norm(self) -> Normalize:
        return Normalize(self.median, self.median + 2 * max(self.threshold - self.median, 1e-9), clip=True)


@dataclass(frozen=True)
class MapOnImage:
    """An image and its map."""

    title: str
    image: Float[np.ndarray, "h w 3"]  # 0..1
    map: Float[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"] | None = None


def draw_heatmap(shown: MapOnImage, scale: Scale, path: Path) -> None:
    """The image, and the map over it, with a colour bar that marks the threshold."""
    height, width = shown.map.shape
    unit = SIDE / max(height, width)
    size = (2 * width * unit + 0.95, height * unit + 0.42)
    figure = Figure(figsize=size, dpi=110)
    for number, draw in enumerate((_plain, _overlay)):
        left = 0.08 + number * (width * unit + 0.08)
        box = (left / size[0], 0.06 / size[1], width * unit / size[0], height * unit / size[1])
        draw(figure.add_axes(box), shown, scale)
    bar = figure.add_axes((1 - 0.66 / size[0], 0.06 / size[1], 0.12 / size[0], height * unit / size[1]))
    _bar(figure, bar, scale)
    figure.text(0.08 / size[0], 1 - 0.26 / size[1], cut_start(shown.title, round(13 * size[0])), fontsize=8)
    save(figure, path)


def gallery(images: Sequence[MapOnImage], scale: Scale, columns: int = 6) -> Figure:
    """A grid of images with their maps; known defects are outlined in blue."""
    rows = -(-len(images) // columns)
    height, width = images[0].map.shape
    cell = 1.75
    size = (columns * cell + 0.7, rows * (cell * height / width + 0.22) + 0.1)
    figure = Figure(figsize=size, dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, shown in zip(axes, images):
        _overlay(axis, shown, scale)
        axis.set_title(cut_start(shown.title, 27), fontsize=6.5, pad=2)
    figure.subplots_adjust(left=0.004, right=1 - 0.68 / size[0], bottom=0.01, top=1 - 0.2 / size[1], wspace=0.03)
    share = min(1.0, 2.2 / size[1])
    _bar(figure, figure.add_axes((1 - 0.6 / size[0], 0.97 - 0.94 * share, 0.12 / size[0], 0.92 * share)), scale)
    return figure


def histogram(
    scores: Float[np.ndarray, "n"], labels: np.ndarray, calibration: Float[np.ndarray, "m"], threshold: float
) -> Figure:
    """Histogram of scores by label, beside those of the held-out normal images."""
    figure = make_figure(8, 2.9)
    axis = figure.subplots()
    groups = [("judged, nothing known", scores[labels < 0], GREY), ("normal", scores[labels == 0], BLUE)]
    groups += [("anomalous", scores[labels == 1], VERMILION)]
    every = np.concatenate([scores, calibration])
    top = max(float(np.quantile(every, 0.98)), threshold * 1.1 if threshold > 0 else threshold)
    bins = np.linspace(float(every.min()), max(top, float(every.min()) + 1e-9), 41).tolist()
    for words, values, colour in groups:
        if len(values):
            label = f"{words} ({len(values):,})"
            axis.hist(np.minimum(values, bins[-1]), bins, alpha=0.55, color=colour, density=True, label=label)
    held = f"held-out normal ({len(calibration):,})"
    axis.hist(np.minimum(calibration, bins[-1]), bins, histtype="step", color="black", lw=1, density=True, label=held)
    axis.axvline(threshold, color="black", lw=1, ls="--")
    axis.annotate(" threshold", (threshold, 0.94), xycoords=("data", "axes fraction"), fontsize=8)
    axis.set(xlabel="score (the highest ones are put into the last bar)", yticks=[])
    axis.legend(frameon=False, fontsize=8)
    style(axis, hidden=("top", "right", "left"))
    return figure


def _plain(axis: Axes, shown: MapOnImage, scale: Scale) -> None:
    axis.imshow(shown.image, interpolation="nearest" if max(shown.map.shape) < 100 else "antialiased")
    axis.set_axis_off()


def _overlay(axis: Axes, shown: MapOnImage, scale: Scale) -> None:
    """Draws the map over a grey image, so that all colour comes from the map."""
    grey = shown.image.mean(axis=2)
    share = scale.norm(shown.map)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=1)
    axis.imshow(shown.map, cmap=COLOURS, norm=scale.norm, alpha=np.clip(0.15 + 0.75 * np.asarray(share), 0, 0.85))
    for level, line in ((scale.pixel, ":"), (scale.threshold, "-")):
        if shown.map.min() < level < shown.map.max():
            axis.contour(shown.map, [level], colors="white", linewidths=0.9, linestyles=line)
    if shown.mask is not None and shown.mask.any() and not shown.mask.all():
        axis.contour(shown.mask, [0.5], colors=SKY, linewidths=0.9)
    axis.set_axis_off()


def _bar(figure: Figure, axis: Axes, scale: Scale) -> None:
    bar = figure.colorbar(ScalarMappable(scale.norm, COLOURS), cax=axis)
    bar.set_ticks([float(scale.norm.vmin or 0), scale.threshold, float(scale.norm.vmax or 0)])
    bar.ax.axhline(scale.threshold, color="white", lw=1)
    bar.ax.tick_params(labelsize=6.5, length=2)
