"""COCO's instances: outlines as polygons or run lengths, in a .json beside the pictures. Lin et al. 2014.

Pixels inside no outline are the class `background`. Where outlines overlap, the smaller lies on top.
"""

from pathlib import Path
from typing import Any

import numpy as np

from unmask.decode import BadPicture
from unmask.errors import DataError
from unmask.layout import printable
from unmask.scene import (
    Beside,
    Found,
    Scene,
    Scenes,
    coco_files,
    coco_like,
    described,
    has_outlines,
    split_in,
    split_of,
)
from unmask.segmentation.legend import Legend
from unmask.segmentation.truth import drawn

__all__ = ["Coco"]


class Coco(Scenes):
    def __init__(self, place: Path, pictures: Path | None = None, legend: Legend | None = None):
        self.where = str(place)
        told = [s for s in described(place)[0] if s.annotations is not None and s.masks is None]
        files = [(s.annotations, s.images, s.split) for s in told] or [
            (f, None, None) for f in coco_files(place, False)
        ]
        self.found, names = Found([]), {}
        for file, images, split in files:
            assert file is not None
            content = coco_like(file)
            if content is None:
                raise DataError(f"{file} is no COCO .json: it needs images, annotations and categories")
            names |= {int(category["id"]): printable(str(category["name"])) for category in content["categories"]}
            self._add(content, file, pictures or images, split or split_in(file.stem) or split_of([file.parent.name]))
        self.shift = 1 if 0 in names else 0
        named = {0: "background"} | {number + self.shift: name for number, name in sorted(names.items())}
        self.legend = legend or Legend(named, {}, str(place))
        self.known = set(names)

    @classmethod
    def accepts(cls, place: Path) -> bool:
        told = described(place)[0] if place.is_dir() or place.suffix.lower() in (".yaml", ".yml") else []
        if any(split.annotations is not None and split.masks is None for split in told):
            return True
        return not told and any(has_outlines(file) for file in coco_files(place, False))

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        outlines, told = scene.truth
        if told is not None and told != size:
            raise BadPicture(f"is {size[0]} x {size[1]}, its annotations are for {told[0]} x {told[1]}")
        found = np.zeros(size, dtype=np.int32)
        shapes = [(number, drawn(outline, size)) for number, outline in outlines]
        for number, shape in sorted(shapes, key=lambda pair: -int(pair[1].sum())):
            if number not in self.known:
                raise BadPicture(f"has an annotation of the unknown category {number}")
            found[shape] = number + self.shift
        return found

    def _add(self, content: dict[str, Any], file: Path, images: Path | None, split: str | None) -> None:
        outlines: dict[Any, list[tuple[int, Any]]] = {image["id"]: [] for image in content["images"]}
        strange = 0
        for annotation in content["annotations"]:
            if annotation.get("image_id") not in outlines:
                strange += 1
            elif annotation.get("segmentation"):
                outlines[annotation["image_id"]].append((int(annotation["category_id"]), annotation["segmentation"]))
        if strange:
            self.found.remarks.append(f"{file.name}: {strange:,} annotations are of pictures that it does not list")
        beside = Beside(file.parent, images)
        for image in content["images"]:
            name, path = printable(str(image["file_name"])), beside.find(str(image["file_name"]))
            if path is None:
                self.found.lost.append((name, f"is listed in {file.name} and is not there"))
                continue
            told = (int(image["height"]), int(image["width"])) if image.get("height") and image.get("width") else None
            self.found.scenes.append(Scene(name, path, (outlines[image["id"]], told), split))
