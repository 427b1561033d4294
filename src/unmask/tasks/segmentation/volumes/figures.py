"""A volume segmenter's results as figures and words: slices with contours, Dice per class, one line."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unmask.data.annotations.legend import VOID
from unmask.files import Json, write_atomically
from unmask.report.palette import BLUE, GREY, make_figure, save, style
from unmask.tasks.segmentation.figures import CLASSES, CONFUSION, OVERLAYS, ROWS, Colours, draw_confusion

SHOWN = 3  # test volumes that are drawn: the best, the middle and the worst
NAMED = 12  # classes up to which a title lists their Dice
PLANES = ("axial", "coronal", "sagittal")  # across d, h and w, of volumes that say how they lie


def draw_volumes(
    result: Json,
    rows: list[Json],
    answer: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]],
    classes: list[str],
    colours: Colours,
    background: int,
    out: Path,
) -> None:
    """Writes the images. answer: values, prediction, truth and spacing of a test volume by its place."""
    draw_dice(result["per_class"], background, out / CLASSES)
    draw_confusion(np.array(result["confusion"]), classes, out / CONFUSION, unit="voxel")
    places = chosen(rows)
    if not places:
        return
    figure = make_figure(9.5, 0.7 + 3.1 * len(places), dpi=110)
    axes = figure.subplots(len(places), 3, squeeze=False)
    for line, place in zip(axes, places):
        values, predicted, truth, spacing = answer(place)
        draw_slices(line, values, predicted, truth, spacing, colours, background)
        mean = "no structure" if rows[place]["dice"] is None else f"Dice {rows[place]['dice']:.3f}"
        line[0].set_title(f"{Path(rows[place]['path']).name[-40:]}: {mean}", fontsize=8.5, loc="left")
    _legend(figure, classes, colours, background, truth=True)
    save(figure, out / OVERLAYS)


def draw_one(
    values: np.ndarray,
    predicted: np.ndarray,
    spacing: tuple[float, float, float],
    classes: list[str],
    colours: Colours,
    background: int,
    path: Path,
) -> None:
    """Three slices of a volume with the contours of what was predicted."""
    figure = make_figure(9.5, 3.7, dpi=110)
    draw_slices(figure.subplots(1, 3), values, predicted, None, spacing, colours, background)
    _legend(figure, classes, colours, background, truth=False)
    save(figure, path)


def draw_slices(
    axes: Iterable[Axes],
    values: Shaped[np.ndarray, "d h w"],
    predicted: UInt8[np.ndarray, "d h w"],
    truth: UInt8[np.ndarray, "d h w"] | None,
    spacing: tuple[float, float, float],
    colours: Colours,
    background: int,
) -> None:
    """The slice across each axis that shows most of the structures, with their contours: truth dashed in white,
    prediction in the classes' colours."""
    shown = predicted if truth is None else truth
    structure = (shown != background) & (shown != VOID)
    low, high = np.percentile(values, (0.5, 99.5))
    for axis, (plot, name) in enumerate(zip(axes, PLANES)):
        counts = structure.sum(axis=tuple(n for n in range(3) if n != axis))
        place = int(counts.argmax()) if counts.any() else values.shape[axis] // 2
        rows, columns = (n for n in range(3) if n != axis)
        aspect = spacing[rows] / spacing[columns]
        plot.imshow(values.take(place, axis), cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower",
                    aspect=aspect, interpolation="nearest")  # fmt: skip
        for number, colour in enumerate(colours):
            if number == background:
                continue
            for map_, how in ((predicted, [tuple(c / 255 for c in colour)]), (truth, ["white"])):
                inside = None if map_ is None else map_.take(place, axis) == number
                if inside is None or not inside.any():
                    continue
                width, line = (1.0, "dashed") if map_ is truth else (1.7, "solid")
                columns_rows = np.arange(-1, inside.shape[1] + 1), np.arange(-1, inside.shape[0] + 1)
                plot.contour(*columns_rows, np.pad(inside, 1).astype(float), [0.5], colors=how, linewidths=width,
                             linestyles=line)  # fmt: skip
        plot.set(xlim=(-0.5, values.shape[columns] - 0.5), ylim=(-0.5, values.shape[rows] - 0.5))
        plot.set_axis_off()
        plot.text(0.5, -0.02, f"{name}, slice {place}", transform=plot.transAxes, color=GREY, fontsize=7,
                  ha="center", va="top")  # fmt: skip


def _legend(figure: Figure, classes: list[str], colours: Colours, background: int, truth: bool) -> None:
    lines = [
        Line2D([], [], color=(colour[0] / 255, colour[1] / 255, colour[2] / 255), label=name)
        for place, (name, colour) in enumerate(zip(classes, colours))
        if place != background
    ][:NAMED]
    if truth:
        lines.append(Line2D([], [], color=GREY, linestyle="dashed", label="truth (white)"))
    figure.legend(handles=lines, loc="outside lower center", ncols=6, fontsize=8, frameon=False)


def chosen(rows: list[Json]) -> list[int]:
    """Indices of the best, median and worst volumes by Dice, the best first."""
    order = sorted((i for i, row in enumerate(rows) if row["dice"] is not None), key=lambda i: -rows[i]["dice"])
    places = np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int)
    return [order[place] for place in dict.fromkeys(places.tolist())]


def draw_dice(per_class: list[Json], background: int, path: Path) -> None:
    """One bar for each structure, with its interval over the test volumes."""
    entries = [entry for place, entry in enumerate(per_class) if place != background and entry["dice"] is not None]
    if not entries:
        return
    entries = sorted(entries, key=lambda entry: entry["dice"])[:60]
    figure = make_figure(7.5, 0.9 + 0.3 * len(entries))
    axis = figure.subplots()
    ends = [entry["interval"] or (entry["dice"], entry["dice"]) for entry in entries]
    error = np.array([[e["dice"] - low, high - e["dice"]] for e, (low, high) in zip(entries, ends)]).T
    axis.barh(range(len(entries)), [entry["dice"] for entry in entries], xerr=np.maximum(error, 0), color=BLUE,
              height=0.7, error_kw={"lw": 1.2, "capsize": 3})  # fmt: skip
    names = [f"{entry['name'][:24]} ({entry['volumes']:,} volumes)" for entry in entries]
    axis.set_yticks(range(len(entries)), names, fontsize=8)
    axis.set(xlim=(0, 1.02), title="Dice of each structure, mean over the test volumes, with its 95 % interval")
    axis.invert_yaxis()
    style(axis)
    save(figure, path)


def write_rows(rows: list[Json], classes: list[str], out: Path) -> None:
    """A row for each test volume, the worst first: path, mean Dice of its structures, Dice of each class."""
    order = sorted(rows, key=lambda row: 2.0 if row["dice"] is None else row["dice"])

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", "dice", *classes])
            for row in order:
                values = ["" if value is None else f"{value:.6f}" for value in (row["dice"], *row["per_class"])]
                table.writerow([row["path"], *values])

    write_atomically(out / ROWS, write)


def headline(result: Json, classes: list[str]) -> str:
    """The result in one line, and which classes some volumes lack."""
    structures = [entry for entry in result["per_class"] if entry["name"] != result["background"]]
    tested = [entry for entry in structures if entry["dice"] is not None]
    each = ", ".join(f"{entry['name']} {entry['dice']:.3f}" for entry in tested[:NAMED])
    nothing = "It finds no structure in any volume. " if not any(entry["answered"] for entry in structures) else ""
    absent = [
        f"{entry['name']} in {result['count'] - entry['volumes']:,}"
        for entry in structures
        if entry["volumes"] < result["count"]
    ]
    lacking = f" Neither there nor predicted, and not counted: {', '.join(absent)} of the volumes." if absent else ""
    between = result["dice_interval"]
    interval = f" ({between[0]:.3f} to {between[1]:.3f})" if between else ""
    return nothing + (
        f"Dice {result['dice']:.3f}{interval}, mean over structures and {result['count']:,} test volumes; {each}."
        + lacking
    )
