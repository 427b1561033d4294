"""COCO's panoptic form: a PNG of segment numbers (r + 256 g + 65536 b) for each image, and a .json that says which
class each segment has. Kirillov et al. 2019. Segment 0 is void."""

from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.annotations.legend import Legend
from unmask.data.annotations.mask_files import VOID
from unmask.data.annotations.semantic import (
    Beside,
    Found,
    Scene,
    Scenes,
    coco_files,
    coco_like,
    described,
    is_panoptic,
    split_in,
)
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage
from unmask.data.labels import printable
from unmask.data.source import read_regular
from unmask.errors import DataError

__all__ = ["Panoptic"]


class Panoptic(Scenes):
    def __init__(self, place: Path, image_folder: Path | None = None, legend: Legend | None = None):
        self.where, self.found, names = str(place), Found([]), {}
        told = [s for s in described(place)[0] if s.annotations is not None and s.masks is not None]
        files: list[Any] = [(s.annotations, s.masks, s.images, s.split) for s in told]
        files = files or [(file, None, None, None) for file in coco_files(place, True)]
        for file, masks, images, split in files:
            content = coco_like(file) if file.is_file() else None
            if content is None or not is_panoptic(content):
                raise DataError(f"{file} is no panoptic .json: it needs images, annotations with segments, categories")
            try:
                names |= {int(category["id"]): printable(str(category["name"])) for category in content["categories"]}
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{file} has a category without id or name ({error!r})") from error
            masks = masks or next((f for f in (file.with_suffix(""), file.parent) if f.is_dir()), file.parent)
            self._add(content, file, masks, image_folder or images, split or split_in(file.stem))
        self.legend = legend or Legend(dict(sorted(names.items())), {}, str(place))

    @classmethod
    def accepts(cls, place: Path) -> bool:
        told = described(place)[0] if place.is_dir() or place.suffix.lower() in (".yaml", ".yml") else []
        if any(split.annotations is not None and split.masks is not None for split in told):
            return True
        return not told and bool(coco_files(place, True))

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        path, classes = scene.truth
        pixels = decode(read_regular(path)).pixels.numpy().astype(np.int64)
        if pixels.shape[0] != 3:
            raise BadImage("its panoptic PNG is not in colour")
        segments = pixels[0] + 256 * pixels[1] + 65536 * pixels[2]
        numbers, inverse = np.unique(segments, return_inverse=True)
        strange = [int(number) for number in numbers if number and int(number) not in classes]
        if strange:
            raise BadImage(f"has a segment {strange[0]} that the .json does not list")
        found = np.array([classes.get(int(number), VOID) for number in numbers], dtype=np.int32)
        return found[inverse].reshape(segments.shape)

    def _add(self, content: dict[str, Any], file: Path, masks: Path, images: Path | None, split: str | None) -> None:
        try:
            named = {image["id"]: str(image["file_name"]) for image in content["images"]}
        except (KeyError, TypeError) as error:
            raise DataError(f"{file} lists an image without id or file_name ({error!r})") from error
        beside = Beside(file.parent, images)
        for annotation in content["annotations"]:
            try:
                mask = masks / str(annotation["file_name"])
                shown = named.get(annotation.get("image_id"), mask.with_suffix(".jpg").name)
                classes = {int(s["id"]): int(s["category_id"]) for s in annotation["segments_info"]}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.found.lost.append((file.name, f"has an annotation that cannot be read ({error!r})"))
                continue
            name, path = printable(shown), beside.find(shown)
            if path is None:
                self.found.lost.append((name, f"is listed in {file.name} and is not there"))
            elif not mask.is_file():
                self.found.lost.append((name, "has no panoptic PNG"))
            else:
                self.found.scenes.append(Scene(name, path, (str(mask), classes), split))
        listed = {annotation.get("image_id") for annotation in content["annotations"] if isinstance(annotation, dict)}
        without = [printable(name) for number, name in named.items() if number not in listed]
        self.found.lost += [(name, "has no annotation") for name in without]
