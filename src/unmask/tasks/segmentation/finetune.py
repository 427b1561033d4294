"""One training of a segmenter, from settings: what `transfer` does once and studies do many times."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.segmentation import Segmented, Segments
from unmask.data.loaders.map_style import Loader
from unmask.data.transforms.segmentation import SceneView
from unmask.models.encoder import Encoder
from unmask.models.sliding_window import windows_at_once
from unmask.models.state import copied
from unmask.plain import Place
from unmask.runtime.machine import autocast_dtype
from unmask.seeds import mix
from unmask.tasks.segmentation.metrics import overlap
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import class_weights
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.task import DataOptions, reading
from unmask.tasks.training_settings import TrainingSettings, loader_options


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(TrainingSettings):
    """What a segmenter and its batches are made from, when everything has been chosen."""

    head: str
    crop_size: tuple[int, int]  # height, width in pixels
    side: int  # pixels of the shorter side of an image
    scale: tuple[float, float]
    class_limit: float
    distort: str  # on or off
    dice: float
    balanced: str  # on or off


def make_segment_task(encoder: Encoder, data: Segmented, settings: SegmentSettings, scratch: bool) -> Segment:
    """The segmenter before training: weights of `encoder`, or fresh ones, and a head, drawn from the seed."""
    torch.manual_seed(mix(settings.seed, 0x5E63))
    copy = copied(encoder, settings.drop_path, scratch)
    shape: dict[str, Any] = {"head": settings.head, "window": settings.crop_size, "side": settings.side}
    weights = class_weights(data.pixels["train"].astype(float)) if settings.balanced == "on" else None
    return Segment(
        ImageSegmenter(copy, data.classes, data.numbers, **shape),
        protocol=settings.protocol,
        layer_decay=settings.layer_decay,
        dice=settings.dice,
        weights=weights,
    )


def make_segment_loader(segments: Any, encoder: Encoder, settings: SegmentSettings, micro: int | None = None) -> Loader:
    """Augmented training batches of images with their maps."""
    view = SceneView(
        settings.crop_size,
        settings.side,
        tuple(encoder.mean.tolist()),
        scale=settings.scale,
        limit=settings.class_limit,
        flip=settings.flip == "on",
        distort=settings.distort == "on",
    )
    return Loader(samples=segments, view=view, **loader_options(settings, micro))


def answers(
    model: Any, segments: Segments, precision: str, rows: list[int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Answered and true map of images, one after the other, as the model is used later: whole, by windows."""
    rows, truths = list(range(len(segments))) if rows is None else rows, []

    def shown() -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for row in rows:
            image, truth = segments.pair(row)
            truths.append(truth)
            yield image, (truth.shape[0], truth.shape[1])

    maps = model.maps(shown(), windows_at_once(model.window), autocast_dtype(precision))
    for place, found in enumerate(maps):
        yield found, truths[place]
        truths[place] = None  # many large maps would not fit into memory


def score_split(
    model: Any, data: Segmented, split: str, precision: str, rows: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """See `overlap`. rows: filled with a line for each image."""
    was, segments = model.training, data.segments(split, model.encoder.channels)
    model.eval()

    def watched() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for place, (found, truth) in enumerate(answers(model, segments, precision)):
            if rows is not None:
                known = truth != VOID
                right = float((found == truth)[known].mean()) if known.any() else None
                rows.append({"path": segments.names[place], "pixel_accuracy": right, "void": float(1 - known.mean())})
            yield found, truth

    result = overlap(watched(), data.classes)
    model.train(was)
    return result


def read_segmented(
    data: DataOptions,
    encoder: Encoder,
    console: Console,
    *,
    crop_size: tuple[int, int] | None = None,  # pixels of crops, and
    side: int | None = None,  # of images' shorter sides, where they are known already
    images: Place | None = None,
    classes: Place | None = None,
    void: tuple[str, ...] = (),
    max_bad: float | None = None,
) -> Segmented:
    """The segmented data, checked for this purpose. What a person should know is said."""
    with reading(console, "looking at images and masks") as told:
        segmented = Segmented(
            data.on,
            max_side=decode_side(side or min(crop_size or encoder.input_size)),
            images=None if images is None else Path(images),
            classes=None if classes is None else Path(classes),
            void=void,
            most=data.most,
            seed=data.seed,
            max_bad=max_bad,
            **told,
        )
    segmented.sheet.statistics(encoder.channels)  # refuses images that cannot be brought to these channels
    told["say"](f"{len(segmented.classes)} classes; {segmented.said} images")
    return segmented
