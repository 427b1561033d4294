"""Segmented volumes for training: every volume and its labels read and checked, in train, val and test."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unmask.data.annotations.objects import Scene
from unmask.data.annotations.volumes import PairedVolumes, open_volumes
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.images import Samples
from unmask.data.datasets.segmentation import Segmented, Segments
from unmask.data.modalities.volume import Located, Volume
from unmask.data.source import Source, why
from unmask.errors import DataError


class LabelledVolumes(Segments):
    """The volumes of a split with their labels, which are the last channel for the loader."""

    def __init__(self, samples: Samples, maps: Callable[[int], np.ndarray], indices: Sequence[int], modality: Volume):
        super().__init__(samples, maps, indices)
        self.modality = modality

    def image(self, i: int) -> Float[Tensor, "c d h w"]:
        """A volume and its labels, at the resolution that a model is given; a bad one is replaced by the next."""
        content, place = self.samples.substitute(i)
        labels = self.maps(self.indices[place])
        same = tuple(content.shape[1:]) == labels.shape
        laid = torch.from_numpy(labels) if same else self._located(place).laid(labels)
        return torch.cat([content, laid[None].to(content.dtype)])

    def located(self, i: int) -> tuple[Located, UInt8[np.ndarray, "d h w"]]:
        """Volume `i` with the way back to its file, and the labels there. Raises DataError where it went bad."""
        self.samples.itself(i)
        return self._located(i), self.maps(self.indices[i])

    def _located(self, place: int) -> Located:
        try:
            return self.modality.located(self.samples.source.raw(self.samples.indices[place]))
        except (BadImage, OSError) as error:
            raise DataError(f"{self.names[place]} was good and cannot be read now: {why(error)}") from error


class SegmentedVolumes(Segmented):
    """The splits of volumes with labels; missing splits are drawn by the seed."""

    def __init__(self, places: Sequence[str], *, modality: Volume, **options: Any):
        """options: those of `Segmented` but for max_side. Raises as that."""
        self.modality = modality
        super().__init__(places, max_side=0, **options)

    @property
    def background(self) -> int:
        """The place in `classes` of what is no structure: the number 0 in the files, else the first."""
        return self.numbers.index(0) if 0 in self.numbers else 0

    def _open(self, places: Sequence[str], images: Path | None, classes: Path | None) -> list[PairedVolumes]:
        return open_volumes(places, images, classes)

    def _source(self, scenes: list[Scene]) -> Source:
        source = super()._source(scenes)
        source.modality = self.modality
        return source

    def segments(self, split: str, channels: int, rows: Sequence[int] | None = None) -> LabelledVolumes:
        indices = self.splits[split] if rows is None else [self.splits[split][row] for row in rows]
        samples = Samples(self.source, indices, channels=channels, cache=self.cache)
        return LabelledVolumes(samples, self.map, indices, self.modality)
