"""A cloud segmenter's results as figures and words: clouds beside their truth, IoU of each class, one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.patches import Patch

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.points import PointCloud
from unmask.data.transforms.kernels.cloud_picture import GREY, by_height, picture, write_turning
from unmask.data.transforms.kernels.cloud_view import in_sphere
from unmask.evaluation.one_class import one_class
from unmask.files import Json
from unmask.report.palette import make_figure, save
from unmask.tasks.segmentation.figures import (
    CLASSES,
    CONFUSION,
    NAMED,
    OVERLAYS,
    Colours,
    chosen,
    draw_classes,
    draw_confusion,
)

DRAWN = 2048  # points of a cloud that are drawn
SIDE = 256  # pixels of a cloud
WRONG = (0.90, 0.20, 0.15)


def draw_clouds(
    result: Json,
    rows: list[Json],
    answer: Callable[[int], tuple[PointCloud, np.ndarray, np.ndarray]],
    classes: list[str],
    colours: Colours,
    upright: int,
    out: Path,
) -> None:
    """Writes the images. answer: a test cloud by its place, its prediction and its truth."""
    draw_classes(result["per_class"], out / CLASSES, unit="point")
    draw_confusion(np.array(result["confusion"]), classes, out / CONFUSION, unit="point")
    places = chosen(rows)
    if not places:
        return
    figure = make_figure(10, 0.7 + 2.6 * len(places), dpi=110)
    axes = figure.subplots(len(places), 4, squeeze=False)
    seen: set[int] = set()
    for number, (line, place) in enumerate(zip(axes, places)):
        cloud, predicted, truth = answer(place)
        points, rows_drawn = shown(cloud)
        guess, true = predicted[rows_drawn], truth[rows_drawn]
        wrong = np.where(((guess != true) & (true != VOID))[:, None], WRONG, GREY)
        for axis, painted, title in zip(
            line,
            (by_height(points, upright), in_colours(true, colours), in_colours(guess, colours), wrong),
            ("", "truth", "prediction", "wrong points"),
        ):
            axis.imshow(picture(points, painted, upright, side=SIDE))
            axis.set_axis_off()
            axis.set_title("" if number else title, fontsize=9)
        seen |= {*true.tolist(), *guess.tolist()}
        right = f"{Path(rows[place]['path']).name[-34:]}: {rows[place]['pixel_accuracy']:.1%} of points right"
        line[0].set_title(right, fontsize=8, loc="left")
    table = in_colours(np.arange(len(classes), dtype=np.uint8), colours)
    patches = [Patch(color=table[i].tolist(), label=classes[i]) for i in sorted(seen - {VOID})[:NAMED]]
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=7.5, frameon=False)
    save(figure, out / OVERLAYS)


def draw_turning(cloud: PointCloud, map_: UInt8[np.ndarray, "n"], colours: Colours, upright: int, path: Path) -> Path:
    """A moving picture: a cloud as it is, and in the colours of its classes."""
    points, rows = shown(cloud)
    own = cloud.features.get("colours")
    plain = by_height(points, upright) if own is None else _of_rows(cloud, own.numpy(), rows)
    clouds = [("input", points, plain), ("classes", points, in_colours(map_[rows], colours))]
    return write_turning(clouds, path, upright)


def shown(cloud: PointCloud) -> tuple[Float[np.ndarray, "m 3"], np.ndarray]:
    """Points that are drawn, in the sphere of radius 1, and which of the file's they are; the same every time."""
    points, rows = in_sphere(cloud.points).numpy(), cloud.of_file.numpy()
    if len(points) <= DRAWN:
        return points, rows
    few = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:DRAWN].sort().values.numpy()
    return points[few], rows[few]


def in_colours(map_: UInt8[np.ndarray, "n"], colours: Colours) -> Float[np.ndarray, "n 3"]:
    """The colour of each point's class, 0..1; of points of no class grey."""
    table = np.full((VOID + 1, 3), GREY)
    table[: len(colours)] = np.array(colours) / 255
    return table[map_]


def headline(result: Json, classes: list[str]) -> str:
    """The result in one line."""
    tested = sum(entry["iou"] is not None for entry in result["per_class"])
    of = f"{tested} classes" if tested == len(classes) else f"{tested} of {len(classes)} classes that were tested"
    between = result["miou_interval"]
    interval = f" ({100 * between[0]:.1f} to {100 * between[1]:.1f})" if between else ""
    parts = ""
    if "instance_miou" in result:
        instance, category = 100 * result["instance_miou"], 100 * result["category_miou"]
        parts = f" By category: instance mIoU {instance:.1f} %, the mean of the categories {category:.1f} %."
    return one_class(result["confusion"], classes, "test point") + (
        f"mIoU {100 * result['miou']:.1f} %{interval} over {of}, mean over clouds {100 * result['cloud_miou']:.1f} %,"
        f" {100 * result['pixel_accuracy']:.1f} % of the points right; {result['count']:,} test clouds." + parts
    )


def _of_rows(cloud: PointCloud, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return values[np.searchsorted(cloud.of_file.numpy(), rows)].clip(0, 1)
