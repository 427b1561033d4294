"""Clouds with labelled points for training: every cloud and its labels read and checked, in train, val and test."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from unmask.data.annotations.clouds import LabelledClouds, open_clouds
from unmask.data.annotations.objects import Scene
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import PointCloud
from unmask.data.datasets.images import Samples
from unmask.data.datasets.map_classes import Words
from unmask.data.datasets.segmentation import Segmented, Segments
from unmask.data.modalities.points import Points
from unmask.data.source import Several, Source, why
from unmask.errors import DataError


class CloudSegments(Segments):
    """The clouds of a split with their labels."""

    def __init__(self, samples: Samples, maps: Callable[[int], np.ndarray], indices: Sequence[int], modality: Points):
        super().__init__(samples, maps, indices)
        self.modality = modality

    def image(self, i: int) -> PointCloud:  # pyright: ignore[reportIncompatibleMethodOverride]
        """A cloud as it is kept, each of its points with its class; a bad one is replaced by the next."""
        content, place = self.samples.substitute(i)
        return _labelled(content, self.maps(self.indices[place]))

    def whole(self, i: int) -> tuple[PointCloud, UInt8[np.ndarray, "n"]]:
        """All points of cloud `i`, and the class of every point of its file. Raises DataError where it went bad."""
        self.samples.itself(i)
        try:
            cloud, _ = self.modality.cloud(self.samples.source.raw(self.samples.indices[i]))
        except (BadImage, OSError) as error:
            raise DataError(f"{self.names[i]} was good and cannot be read now: {why(error)}") from error
        cloud = self.modality.fitted(cloud, self.samples.channels)
        return cloud, self.maps(self.indices[i])


class SegmentedClouds(Segmented):
    """The splits of clouds with labelled points; missing splits are drawn by the seed."""

    words = Words("cloud", "labels", "the labels of one cloud", "its labels have", "clouds", "point", ground=False)

    def __init__(self, places: Sequence[str], *, modality: Points, **options: Any):
        """options: those of `Segmented` but for max_side. Raises as that."""
        self.modality = modality
        super().__init__(places, max_side=0, **options)

    def _open(self, places: Sequence[str], images: Path | None, classes: Path | None) -> list[LabelledClouds]:
        self.opened = open_clouds(places, self.modality.text, images, classes)
        return self.opened

    def _source(self, scenes: list[Scene]) -> Source:
        sources = [part.source for part in self.opened]
        return sources[0] if len(sources) == 1 else Several(sources)

    def segments(self, split: str, channels: int, rows: Sequence[int] | None = None) -> CloudSegments:
        indices = self.splits[split] if rows is None else [self.splits[split][row] for row in rows]
        samples = Samples(self.source, indices, channels=channels, cache=self.cache)
        return CloudSegments(samples, self.map, indices, self.modality)


def _labelled(cloud: PointCloud, classes: UInt8[np.ndarray, "n"]) -> PointCloud:
    """classes: of all points of the file."""
    return replace(cloud, labels=torch.from_numpy(classes.astype(np.int64))[cloud.of_file])
