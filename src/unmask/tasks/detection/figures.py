"""Boxes and masks drawn on images, ground truth beside detections; precision by recall; classes side by side."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from matplotlib.font_manager import findfont
from torch import Tensor
from torchvision.io import encode_png
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from unmask.data.annotations.objects import Target
from unmask.files import write_atomically
from unmask.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, make_figure, rgb, save, style
from unmask.report.reconstruction import displayed, value_range
from unmask.tasks.detection.detections import Detections

COLOURS = [rgb(colour) for colour in (ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE)]  # more classes take turns
LINES = 8  # classes whose curves are drawn
SHORTEST = 480  # pixels: shorter images are enlarged before they are drawn on


def draw(
    pixels: Shaped[Tensor, "c h w"],
    detections: Detections,
    scores: bool = True,
    masks: Bool[np.ndarray, "n h w"] | None = None,
) -> UInt8[Tensor, "3 p q"]:
    """An image of raw values with boxes, masks, class names and scores on it; small images are enlarged.

    masks: those to draw instead of the detections' own."""
    seen = displayed(pixels, *value_range(pixels))
    image = torch.from_numpy((np.asarray(seen) * 255).round().astype(np.uint8)).permute(2, 0, 1).contiguous()
    times = max(1, round(SHORTEST / min(detections.size)))
    image = image.repeat_interleave(times, 1).repeat_interleave(times, 2)
    if not len(detections):
        return image
    colours = [COLOURS[label % len(COLOURS)] for label in detections.labels]
    masks = detections.masks if masks is None else masks
    if masks is not None:
        enlarged = torch.from_numpy(masks).repeat_interleave(times, 1).repeat_interleave(times, 2)
        image = draw_segmentation_masks(image, enlarged, alpha=0.45, colors=colours)
    texts = [f"{name} {score:.2f}" if scores else name for name, score in zip(detections.names, detections.scores)]
    side = min(image.shape[1:])
    boxes = torch.from_numpy(detections.boxes) * times
    boxes = boxes.clamp(min=torch.zeros(4), max=torch.tensor([image.shape[2], image.shape[1]] * 2) - 1)
    style: dict[str, Any] = {"width": max(1, side // 200), "font": findfont("DejaVu Sans")}
    if "fill_labels" in inspect.signature(draw_bounding_boxes).parameters:  # older ones write on the bare image
        style["fill_labels"] = True
    return draw_bounding_boxes(image, boxes, texts, colors=colours, font_size=max(11, side // 36), **style)


def as_detections(target: Target, name: str, size: tuple[int, int], classes: list[str]) -> Detections:
    """Ground truth in the form of detections."""
    keep = ~target.crowd
    rest = (target.boxes[keep].numpy(), target.labels[keep].numpy(), np.ones(int(keep.sum()), np.float32))
    return Detections(name, size, *rest, classes)


def save_png(path: Path, image: UInt8[Tensor, "3 h w"]) -> None:
    """Writes the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: Path(part).write_bytes(encode_png(image).numpy().tobytes()))


def draw_examples(
    rows: Sequence[tuple[Tensor, Target, Detections]], threshold: float, path: Path, classes: list[str]
) -> None:
    """A row per image: ground truth on the left, detections with at least this score on the right."""
    figure = make_figure(11, 4.1 * len(rows), dpi=100)
    axes = figure.subplots(len(rows), 2, squeeze=False)
    for (left, right), (image, target, detections) in zip(axes, rows):
        true = as_detections(target, detections.name, detections.size, classes)
        shown = detections.above(threshold)
        masks = None if target.masks is None else target.masks[~target.crowd].bool().numpy()
        left.imshow(draw(image, true, scores=False, masks=masks).permute(1, 2, 0).numpy())
        right.imshow(draw(image, shown).permute(1, 2, 0).numpy())
        left.set_title(f"{Path(detections.name).name}: annotated, {len(true)}", fontsize=9)
        right.set_title(f"found with a score of {threshold:g} or more, {len(shown)}", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    save(figure, path)


def draw_curves(curves: dict[str, np.ndarray], recalls: np.ndarray, path: Path, classes: list[str]) -> None:
    """Precision by recall at an overlap of 0.5, for the classes with the highest precision, and the mean; each class in
    the colour of its boxes."""
    if not curves:
        return
    clipped = {name: np.clip(curve, 0, None) for name, curve in curves.items()}
    chosen = sorted(clipped, key=lambda name: -clipped[name].mean())[:LINES]
    figure = make_figure(6.4, 4.4)
    axis = figure.subplots()
    for name in chosen:
        colour = np.array(COLOURS[classes.index(name) % len(COLOURS)]) / 255
        axis.plot(
            recalls, clipped[name], color=colour, lw=1.5, label=f"{name}, mean precision {clipped[name].mean():.2f}"
        )
    mean = np.mean(list(clipped.values()), axis=0)
    axis.plot(recalls, mean, color="black", lw=2, ls="--", label="mean of all classes")
    more = f" ({len(chosen)} of {len(clipped)} classes)" if len(clipped) > len(chosen) else ""
    title = f"Precision by recall at an overlap of 0.5{more}"
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03), title=title)
    axis.legend(frameon=False, fontsize=8)
    style(axis)
    save(figure, path)
