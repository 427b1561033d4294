"""COCO's instances: outlines as polygons or run lengths, in a .json beside the images. Lin et al. 2014."""

from pathlib import Path
from typing import Any

from unmask.data.annotations.legend import Legend
from unmask.data.annotations.object_formats.coco import Coco as Reader
from unmask.data.annotations.rasterize import Outlined
from unmask.data.annotations.semantic import coco_files, described, has_outlines, split_in, split_of

__all__ = ["Coco"]


class Coco(Outlined):
    def __init__(self, place: Path, image_folder: Path | None = None, legend: Legend | None = None):
        told = [s for s in described(place)[0] if s.annotations is not None and s.masks is None]
        files: list[Any] = [(s.annotations, s.images, s.split) for s in told]
        parts = []
        for file, images, split in files or [(file, None, None) for file in coco_files(place, False)]:
            folder = image_folder or images
            part = Reader.read(str(place), [str(file)], None if folder is None else str(folder))
            for scene in part.scenes:
                scene.split = split or split_in(file.stem) or split_of([file.parent.name])
            parts.append(part)
        self.take(place, parts, legend)

    @classmethod
    def accepts(cls, place: Path) -> bool:
        told = described(place)[0] if place.is_dir() or place.suffix.lower() in (".yaml", ".yml") else []
        if any(split.annotations is not None and split.masks is None for split in told):
            return True
        return not told and any(has_outlines(file) for file in coco_files(place, False))
