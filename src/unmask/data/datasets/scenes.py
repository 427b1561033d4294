"""Segmented scenes for training: the windows of large ones, each a sample with its part of the map of labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unmask.data.annotations.maps import Maps
from unmask.data.annotations.objects import Scene
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.datasets.segmentation import Segmented
from unmask.data.modalities.bands import Bands
from unmask.data.modality import Modality, Raw, make_modality
from unmask.data.source import Files, Item, Source


class SegmentedScenes(Segmented):
    """`Segmented` of a kind of data that is read by pieces."""

    def __init__(self, places: Sequence[str], *, modality: str, **options: Any):
        """modality: as text of the registry; options: as for `Segmented`."""
        kind = make_modality(modality)
        if not isinstance(kind, Bands):
            raise ValueError(f"{modality} is not read by pieces")
        self.kind = kind
        super().__init__(places, **options)

    def _source(self, scenes: list[Scene]) -> Source:
        return _SceneFiles(self.where, scenes, self.kind)

    def _divided(self, scenes: list[tuple[Maps, Scene]]) -> list[tuple[Maps, Scene]]:
        parts = []
        for part, scene in scenes:
            try:
                size = self.kind.georeference(scene.path).size
            except (BadImage, OSError):  # said when it is read
                parts.append((part, scene))
                continue
            for place in [cut.place for cut in self.kind.pieces(scene.path).cuts] or [(0, 0, *size)]:
                name = scene.name if place[2:] == size else f"{scene.name}@{place[0]}+{place[1]}"
                parts.append((part, replace(scene, name=name, place=place, whole=size)))
        return parts


class _SceneFiles(Files):
    """Files of which a sample may be a part."""

    def __init__(self, where: str, scenes: Sequence[Scene], modality: Modality):
        items = [Item(scene.name, None, scene.split) for scene in scenes]
        super().__init__(where, items, [scene.path for scene in scenes])
        self.places, self.modality = [scene.place for scene in scenes], modality

    def raw(self, index: int) -> Raw:
        place = self.places[index]
        return Piece(self.paths[index], place) if place else self.paths[index]
