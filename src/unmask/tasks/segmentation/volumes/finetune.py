"""Trains a segmenter of volumes from settings: once in `transfer`, many times in studies."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from rich.console import Console

from unmask.data.datasets.volumes import LabelledVolumes, SegmentedVolumes
from unmask.data.loaders.map_style import Loader
from unmask.data.modalities.volume import Located, Volume
from unmask.data.modality import make_modality
from unmask.data.transforms.labelled.volume import BoxView
from unmask.errors import UserError
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.runtime.machine import autocast_dtype
from unmask.runtime.progress import make_say
from unmask.seeds import mix
from unmask.tasks.segmentation.finetune import untrained
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.reading import read_labelled
from unmask.tasks.segmentation.settings import SegmentOptions
from unmask.tasks.segmentation.volumes.metrics import volume_overlap
from unmask.tasks.segmentation.volumes.segmenter import VolumeSegmenter
from unmask.tasks.segmentation.volumes.settings import VolumeSettings
from unmask.tasks.task import DataOptions


def make_volume_task(encoder: Encoder, data: SegmentedVolumes, settings: VolumeSettings, scratch: bool) -> Segment:
    """The segmenter before training: weights of `encoder`, or new ones, and a head initialised from the seed."""
    make = partial(make_volume_segmenter, classes=data.classes, numbers=data.numbers, settings=settings)
    return untrained(make, encoder, data.pixels["train"], settings, scratch, mix(settings.seed, 0x5E64))


def make_volume_segmenter(
    encoder: Encoder, classes: Sequence[str], numbers: Sequence[int], settings: VolumeSettings
) -> VolumeSegmenter:
    """On this very encoder, with a head drawn from torch's global generator. numbers: of the classes, in the files."""
    shape = {"window": settings.crop_size, "share": settings.share}
    return VolumeSegmenter(encoder, classes, numbers, head=settings.head, **shape)


def make_volume_loader(
    volumes: LabelledVolumes, data: SegmentedVolumes, encoder: Encoder, settings: VolumeSettings,
    micro: int | None = None,
) -> Loader:  # fmt: skip
    """Augmented training batches of boxes with their labels."""
    view = BoxView(
        settings.crop_size,
        settings.share,
        tuple(encoder.mean.tolist()),
        background=data.background,
        scale=settings.scale,
        turn=settings.turn,
        flip=settings.flip == "on",
        distort=settings.distort == "on",
    )
    return Loader(samples=volumes, view=view, **settings.loading(micro))


def answers(
    model: VolumeSegmenter, volumes: LabelledVolumes, precision: str, rows: Sequence[int] | None = None
) -> Iterator[tuple[Located, np.ndarray, np.ndarray]]:
    """Each volume with its predicted and its true map, at the resolution of its file."""
    for row in range(len(volumes)) if rows is None else rows:
        located, truth = volumes.located(row)
        yield located, model.map_of(located, autocast=autocast_dtype(precision)), truth


def score_volumes(
    model: VolumeSegmenter, data: SegmentedVolumes, split: str, precision: str, rows: list[Json] | None = None
) -> Json:
    """See `volume_overlap`. rows: filled with a line for each volume."""
    was, volumes = model.training, data.segments(split, model.encoder.channels)
    model.eval()
    pairs = ((predicted, truth) for _, predicted, truth in answers(model, volumes, precision))
    result, table = volume_overlap(pairs, data.classes, data.background)
    model.train(was)
    for name, dice in zip(volumes.names, table):
        values = [None if np.isnan(value) else float(value) for value in dice]
        structures = [v for place, v in enumerate(values) if place != data.background and v is not None]
        if rows is not None:
            mean = float(np.mean(structures)) if structures else None
            rows.append({"path": name, "dice": mean, "per_class": values})
    return result


def read_volumes(data: DataOptions, options: SegmentOptions, encoder: Encoder, console: Console) -> SegmentedVolumes:
    """Opens and checks the volumes and their labels, and prints remarks."""
    modality = make_modality(encoder.modality)
    if not isinstance(modality, Volume):
        raise UserError(f"--to segment needs an encoder of images or volumes; this one takes {modality.word}s")
    make = partial(SegmentedVolumes, modality=modality)
    segmented = read_labelled(make, data, options, encoder, console, "volumes and labels")
    names = [name for place, name in enumerate(segmented.classes) if place != segmented.background]
    make_say(console)(f"{len(segmented.classes)} classes, structures: {', '.join(names)}; {segmented.said} volumes")
    return segmented
