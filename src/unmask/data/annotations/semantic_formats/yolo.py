"""Outlines as YOLO keeps them: a .yaml that names folders and classes, and for each image a .txt with a line per
object, `class x y x y ...` as shares of width and height."""

from pathlib import Path

from unmask.data.annotations.legend import Legend
from unmask.data.annotations.object_formats.yolo import Yolo as Reader
from unmask.data.annotations.rasterize import Outlined
from unmask.data.annotations.semantic import described

__all__ = ["Yolo"]


class Yolo(Outlined):
    def __init__(self, place: Path, images: Path | None = None, legend: Legend | None = None):
        file = described(place)[1]
        self.take(place, [Reader.read(str(place), [str(file)], None if images is None else str(images))], legend)

    @classmethod
    def accepts(cls, place: Path) -> bool:
        splits = described(place)[0]
        return bool(splits) and all(s.masks is None and s.annotations is None and s.images for s in splits)
