"""Trains a segmenter from settings: once in `transfer`, many times in studies."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Shaped
from rich.console import Console
from torch import Tensor

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.scenes import SegmentedScenes
from unmask.data.datasets.segmentation import Segmented, Segments
from unmask.data.loaders.map_style import Loader
from unmask.data.modality import make_modality
from unmask.data.transforms.labelled.segmentation import NoDataView, SceneView
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.models.sliding_window import windows_at_once
from unmask.models.state import copied
from unmask.plain import numbers
from unmask.runtime.machine import autocast_dtype
from unmask.runtime.progress import make_say
from unmask.seeds import mix
from unmask.tasks.segmentation.metrics import overlap
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import class_weights
from unmask.tasks.segmentation.points.settings import CloudSettings
from unmask.tasks.segmentation.reading import read_labelled
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.segmentation.settings import SegmentOptions, SegmentSettings
from unmask.tasks.segmentation.volumes.settings import VolumeSettings
from unmask.tasks.task import DataOptions


def make_segment_task(encoder: Encoder, data: Segmented, settings: SegmentSettings, scratch: bool) -> Segment:
    """The segmenter before training: weights of `encoder`, or new ones, and a head initialised from the seed."""
    make = partial(make_segmenter, classes=data.classes, numbers=data.numbers, settings=settings)
    return untrained(make, encoder, data.pixels["train"], settings, scratch, mix(settings.seed, 0x5E63))


def untrained(
    make: Callable[[Encoder], Segmenter],
    encoder: Encoder,
    pixels: Shaped[np.ndarray, "k"],  # of each class in the training split
    settings: SegmentSettings | VolumeSettings | CloudSettings,
    scratch: bool,
    seed: int,
) -> Segment:
    """What trains the segmenter that `make` builds on a copy of the encoder, with a head drawn from this seed."""
    torch.manual_seed(seed)
    return Segment(
        make(copied(encoder, settings.drop_path, scratch)),
        protocol=settings.protocol,
        layer_decay=settings.layer_decay,
        dice=settings.dice,
        weights=class_weights(pixels.astype(float)) if settings.balanced == "on" else None,
    )


def make_segmenter(
    encoder: Encoder, classes: Sequence[str], numbers: Sequence[int], settings: SegmentSettings
) -> ImageSegmenter:
    """On this very encoder, with a head drawn from torch's global generator. numbers: of the classes, in masks."""
    return ImageSegmenter(encoder, classes, numbers, head=settings.head, window=settings.crop_size, side=settings.side)


def make_segment_loader(
    segments: Segments, encoder: Encoder, settings: SegmentSettings, micro: int | None = None
) -> Loader:
    """Augmented training batches of images with their maps."""
    kind = make_modality(encoder.modality)
    make = partial(NoDataView, planes=encoder.planes) if kind.gaps else SceneView
    view = make(
        settings.crop_size,
        settings.side,
        (math.nan,) * (encoder.channels + encoder.planes) if kind.gaps else tuple(encoder.mean.tolist()),
        scale=settings.scale,
        limit=settings.class_limit,
        flip=settings.flip == "on",
        distort=settings.distort == "on",
    )
    return Loader(samples=segments, view=view, **settings.loading(micro))


def answers(
    model: Segmenter, segments: Segments, precision: str, rows: list[int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Predicted and true map of each image in turn, with the whole image seen by windows, as in later use."""
    rows, truths = list(range(len(segments))) if rows is None else rows, []

    def shown() -> Iterator[tuple[Tensor, tuple[int, int]]]:
        for row in rows:
            image, truth = segments.pair(row)
            truths.append(truth)
            yield image, (truth.shape[0], truth.shape[1])

    maps = model.maps(shown(), windows_at_once(model.window), autocast_dtype(precision))
    for place, map_ in enumerate(maps):
        yield map_, truths[place]
        truths[place] = None  # many large maps would not fit into memory


def score_split(model: Segmenter, data: Segmented, split: str, precision: str, rows: list[Json] | None = None) -> Json:
    """See `overlap`. rows: filled with a line for each image."""
    was, segments = model.training, data.segments(split, model.encoder.channels)
    model.eval()

    def watched() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for place, (predicted, truth) in enumerate(answers(model, segments, precision)):
            if rows is not None:
                judged = truth != VOID
                right = float((predicted == truth)[judged].mean()) if judged.any() else None
                rows.append({"path": segments.names[place], "pixel_accuracy": right, "void": float(1 - judged.mean())})
            yield predicted, truth

    result = overlap(watched(), data.classes)
    model.train(was)
    return result


def read_segmented(data: DataOptions, options: SegmentOptions, encoder: Encoder, console: Console) -> Segmented:
    """Opens and checks the segmented data, and prints its remarks."""
    crop_size = encoder.input_size if options.crop_size is None else numbers(options.crop_size)
    divides = make_modality(encoder.modality).divides
    kind = partial(SegmentedScenes, modality=encoder.modality) if divides else Segmented
    make = partial(kind, max_side=decode_side(options.side or min(crop_size)))
    segmented = read_labelled(make, data, options, encoder, console, "images and masks")
    make_say(console)(f"{len(segmented.classes)} classes; {segmented.said} images")
    return segmented
