"""Trains a segmenter of clouds from settings: once in `transfer`, many times in studies."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from rich.console import Console

from unmask.data.codecs.points import PointCloud
from unmask.data.datasets.clouds import CloudSegments, SegmentedClouds
from unmask.data.loaders.map_style import Loader
from unmask.data.modalities.points import Points
from unmask.data.modality import make_modality
from unmask.data.transforms.labelled.points import PointsView, collate_both
from unmask.errors import UserError
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.runtime.machine import autocast_dtype
from unmask.runtime.progress import make_say
from unmask.seeds import mix
from unmask.tasks.segmentation.finetune import untrained
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.points.metrics import cloud_overlap
from unmask.tasks.segmentation.points.segmenter import CloudSegmenter
from unmask.tasks.segmentation.points.settings import CloudSettings
from unmask.tasks.segmentation.reading import read_labelled
from unmask.tasks.segmentation.settings import SegmentOptions
from unmask.tasks.task import DataOptions


def make_cloud_task(encoder: Encoder, data: SegmentedClouds, settings: CloudSettings, scratch: bool) -> Segment:
    """The segmenter before training: weights of `encoder`, or new ones, and a head initialised from the seed."""
    make = partial(make_cloud_segmenter, classes=data.classes, numbers=data.numbers, settings=settings)
    return untrained(make, encoder, data.pixels["train"], settings, scratch, mix(settings.seed, 0x5E65))


def make_cloud_segmenter(
    encoder: Encoder, classes: Sequence[str], numbers: Sequence[int], settings: CloudSettings
) -> CloudSegmenter:
    """On this very encoder, with a head drawn from torch's global generator. numbers: of the classes, in the files."""
    return CloudSegmenter(encoder, classes, numbers, head=settings.head, window=settings.crop_size)


def make_cloud_loader(
    clouds: CloudSegments, data: SegmentedClouds, settings: CloudSettings, micro: int | None = None
) -> Loader:
    """Augmented training batches: what the encoder sees, and the points that it is made of, with their labels."""
    view = PointsView(data.modality.window("random", settings.crop_size, 1.0, False, "exact"))
    return Loader(samples=clouds, view=view, collate=collate_both, **settings.loading(micro))


def answers(
    model: CloudSegmenter, clouds: CloudSegments, precision: str, rows: Sequence[int] | None = None
) -> Iterator[tuple[PointCloud, np.ndarray, np.ndarray]]:
    """Each cloud with the predicted and the true class of every point of its file."""
    for row in range(len(clouds)) if rows is None else rows:
        cloud, truth = clouds.whole(row)
        yield cloud, model.map_of(cloud, autocast_dtype(precision)), truth


def score_clouds(
    model: CloudSegmenter, data: SegmentedClouds, split: str, precision: str, rows: list[Json] | None = None
) -> Json:
    """See `cloud_overlap`. rows: filled with a line for each cloud."""
    was, clouds = model.training, data.segments(split, model.encoder.channels)
    model.eval()
    result, table = cloud_overlap(((predicted, truth) for _, predicted, truth in answers(model, clouds, precision)),
                                  data.classes)  # fmt: skip
    model.train(was)
    if rows is not None:
        rows += [{"path": name, **row} for name, row in zip(clouds.names, table)]
    return result


def read_clouds(data: DataOptions, options: SegmentOptions, encoder: Encoder, console: Console) -> SegmentedClouds:
    """Opens and checks the clouds and their labels, and prints remarks."""
    modality = make_modality(encoder.modality)
    if not isinstance(modality, Points):
        raise UserError(f"labels of points need an encoder of clouds; this one takes {modality.word}s")
    make = partial(SegmentedClouds, modality=modality)
    segmented = read_labelled(make, data, options, encoder, console, "clouds and labels")
    make_say(console)(f"{len(segmented.classes)} classes; {segmented.said} clouds")
    return segmented
