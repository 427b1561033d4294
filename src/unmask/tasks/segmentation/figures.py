"""A segmenter's results as figures and words: overlays beside the ground truth, bars per class, one line."""

import colorsys
import csv
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.patches import Patch
from torch import Tensor

from unmask.data.annotations.legend import VOID, Legend
from unmask.data.datasets.segmentation import Segments
from unmask.evaluation.one_class import one_class
from unmask.files import Json, write_atomically
from unmask.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, make_figure, rgb, save, style
from unmask.report.reconstruction import displayed, value_range

ROWS = "images_test.csv"
OVERLAYS, CLASSES, CONFUSION = "overlays.png", "classes.png", "confusion.png"
SHOWN = 6  # test images that are drawn: the best, the middle and the worst
NAMED = 40  # classes up to which the images carry names
OPACITY = 0.55  # of colours over images
# Okabe and Ito's colours first, readable without red and green; then those that are least like any before
FIRST = tuple(map(rgb, (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)))
Colours = Sequence[Sequence[int]]


def colours_of(numbers: Sequence[int], legend: Legend) -> list[list[int]]:
    """A colour for each class: the data's own if it has one for each, otherwise ours."""
    if all(number in legend.colours for number in numbers):
        return [list(legend.colours[number]) for number in numbers]
    chosen = [list(colour) for colour in FIRST[: len(numbers)]]
    steps = itertools.product(range(48), (0.3, 0.45, 0.6, 0.75), (0.45, 0.9))
    candidates = np.array([colorsys.hls_to_rgb(hue / 48, light, saturation) for hue, light, saturation in steps])
    candidates = np.round(255 * candidates)
    nearest = np.min([_unlike(candidates, colour) for colour in (*FIRST, (0, 0, 0))], axis=0)  # void is black
    while len(chosen) < len(numbers):
        chosen.append(candidates[nearest.argmax()].astype(int).tolist())
        nearest = np.minimum(nearest, _unlike(candidates, chosen[-1]))
    return chosen


def _unlike(colours: np.ndarray, other: Sequence[int]) -> np.ndarray:
    """How unlike colours, n 3, are to another one: eyes tell greens apart best, and reds least."""
    return ((colours - np.array(other)) ** 2 * (2, 4, 3)).sum(axis=1)


def painted(map_: UInt8[np.ndarray, "h w"], colours: Colours) -> UInt8[np.ndarray, "h w 3"]:
    """A map in colours; void pixels are black."""
    table = np.zeros((VOID + 1, 3), dtype=np.uint8)
    table[: len(colours)] = np.array(colours, dtype=np.uint8)
    return table[map_]


def laid_over(
    image: UInt8[np.ndarray, "h w 3"], map_: UInt8[np.ndarray, "h w"], colours: Colours
) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of a map over its image; void pixels show the image."""
    mixed = image * (1 - OPACITY) + painted(map_, colours) * OPACITY
    return np.where((map_ == VOID)[..., None], image, mixed.round()).astype(np.uint8)


def as_image(pixels: Tensor, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """An image for display, resized if a size is given."""
    from unmask.models.sliding_window import resized

    shown = pixels if size is None or tuple(pixels.shape[1:]) == size else resized(pixels, size)
    return (255 * displayed(shown, *value_range(pixels))).round().astype(np.uint8)


def draw_results(
    result: Json,
    rows: list[Json],
    segments: Segments,
    answer: Callable[[int], np.ndarray],
    classes: list[str],
    colours: Colours,
    out: Path,
) -> None:
    """Writes the images. rows: as `write_rows` takes them; answer: the map of a test image by its place."""
    draw_classes(result["per_class"], out / CLASSES)
    draw_confusion(np.array(result["confusion"]), classes, out / CONFUSION)
    draw_overlays(chosen(rows), rows, segments, answer, classes, colours, out / OVERLAYS)


def chosen(rows: list[Json]) -> list[int]:
    """Indices of the best, median and worst images, the best first."""
    order = sorted(
        (i for i, row in enumerate(rows) if row["pixel_accuracy"] is not None), key=lambda i: -rows[i]["pixel_accuracy"]
    )
    picked = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    return [order[place] for place in dict.fromkeys(picked.tolist())]


def draw_overlays(
    places: list[int],
    rows: list[Json],
    segments: Segments,
    answer: Callable[[int], np.ndarray],
    classes: list[str],
    colours: Colours,
    path: Path,
) -> None:
    """A row for each image: the image, the ground truth, the prediction, and where they differ."""
    if not places:
        return
    titles = ("", "truth", "prediction", "wrong pixels")  # over the image itself stands its name
    lines, seen = [], set()
    for place in places:
        pixels, truth = segments.pair(place)
        predicted = answer(place)
        image = as_image(segments.picture(pixels), truth.shape)
        wrong = (predicted != truth) & (truth != VOID)
        marked = image // 3
        marked[wrong] = (255, 90, 60)
        over = [laid_over(image, map_, colours) for map_ in (truth, predicted)]
        lines.append((image, *over, marked))
        seen |= set(np.unique(truth).tolist()) | set(np.unique(predicted).tolist())
    shape = sum(line[0].shape[0] / line[0].shape[1] for line in lines) / len(lines)
    figure = make_figure(12, 0.7 + len(lines) * (3 * shape + 0.22), dpi=100)
    axes = figure.subplots(len(lines), 4, squeeze=False)
    for number, (row, place, line) in enumerate(zip(axes, places, lines)):
        for axis, image, title in zip(row, line, titles):
            axis.imshow(image, interpolation="nearest" if image.shape[1] < 200 else None)
            axis.set_axis_off()
            axis.set_title("" if number else title, fontsize=9)
        share = rows[place]["pixel_accuracy"]
        row[0].set_title(f"{Path(rows[place]['path']).name[-34:]}: {share:.1%} of pixels right", fontsize=8, loc="left")
    shown = sorted(seen - {VOID})[:NAMED]
    patches = [Patch(color=tuple(value / 255 for value in colours[i]), label=classes[i]) for i in shown]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=7.5, frameon=False)
    save(figure, path)


def draw_classes(per_class: list[Json], path: Path, unit: str = "pixel") -> None:
    """One bar per tested class, the weakest first; at most 60."""
    entries = sorted((c for c in per_class if c["iou"] is not None), key=lambda c: c["iou"])[:60]
    if not entries:
        return
    figure = make_figure(7.5, 0.9 + 0.24 * len(entries))
    axis = figure.subplots()
    axis.barh(range(len(entries)), [100 * c["iou"] for c in entries], color=BLUE, height=0.72)
    axis.set_yticks(range(len(entries)), [f"{c['name'][:24]} ({c['share']:.1%})" for c in entries], fontsize=8)
    for place, entry in enumerate(entries):
        text: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7.5}
        axis.annotate(f"{100 * entry['iou']:.0f}", (100 * entry["iou"], place), xytext=(3, 0), **text)
    axis.set(xlim=(0, 108), title=f"Intersection over union of each class, % (in brackets: share of the test {unit}s)")
    axis.invert_yaxis()
    style(axis)
    save(figure, path)


def draw_confusion(matrix: np.ndarray, classes: list[str], path: Path, unit: str = "pixel") -> None:
    """Confusion matrix as shares of each true class's pixels, voxels or points: `unit`. Classes missing from the test
    split are left out."""
    present = np.flatnonzero(matrix.sum(axis=1))
    share = matrix[present] / matrix[present].sum(axis=1, keepdims=True)
    side = min(13.0, 2.6 + 0.36 * len(classes))
    figure = make_figure(side + 1, 0.8 + side * max(0.4, len(present) / len(classes)), dpi=100)
    axis = figure.subplots()
    drawn = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(f"Where the {unit}s of each class went, test split", fontsize=9.5)
    if len(classes) <= NAMED:
        axis.set_xticks(range(len(classes)), [name[:18] for name in classes], rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(len(present)), [classes[i][:18] for i in present], fontsize=8)
    figure.colorbar(drawn, ax=axis, shrink=0.7, label=f"share of the true class's {unit}s")
    save(figure, path)


def write_rows(rows: list[Json], out: Path, columns: Sequence[str] = ("pixel_accuracy", "void")) -> None:
    """A row for each test image, the worst by the first column first: path, share of correct pixels, share of void
    pixels; or other columns."""
    order = sorted(rows, key=lambda row: 2.0 if row[columns[0]] is None else row[columns[0]])

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", *columns])
            for row in order:
                values = ["" if row[name] is None else f"{row[name]:.6f}" for name in columns]
                table.writerow([row["path"], *values])

    write_atomically(out / ROWS, write)


def headline(result: Json, classes: list[str]) -> str:
    """The result in one line."""
    tested = sum(entry["iou"] is not None for entry in result["per_class"])
    of = f"{tested} classes" if tested == len(classes) else f"{tested} of {len(classes)} classes that were tested"
    return one_class(result["confusion"], classes, "test pixel") + (
        f"mIoU {100 * result['miou']:.1f} % over {of}, pixel accuracy {100 * result['pixel_accuracy']:.1f} %,"
        f" mean class accuracy {100 * result['mean_accuracy']:.1f} %; {result['count']:,} test images."
    )
