"""COCO's panoptic form: a PNG of segment numbers (r + 256 g + 65536 b) for each image, and a .json that says which
class each segment has. Kirillov et al. 2019. Segment 0 is void."""

from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.annotations.coco_tables import is_panoptic, near, read_table, tables_in
from unmask.data.annotations.form import Form
from unmask.data.annotations.legend import NO_CLASS, Legend
from unmask.data.annotations.maps import Maps, described
from unmask.data.annotations.objects import Images, Scene
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage
from unmask.data.labels import printable, split_of
from unmask.data.source import read_regular
from unmask.errors import DataError

__all__ = ["Panoptic"]


class Panoptic(Form):
    form = "panoptic"

    @staticmethod
    def holds_maps(place: Path) -> bool:
        told = described(place)
        if told:
            return any(split.annotations is not None and split.masks is not None for split in told)
        return bool(_files(place))

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        return PanopticMaps(place, images, legend)


def _files(place: Path) -> list[Path]:
    return [Path(path) for path, entries in tables_in(str(place)) if entries is not None and is_panoptic(entries)]


class PanopticMaps(Maps):
    def __init__(self, place: Path, image_folder: Path | None, legend: Legend | None):
        super().__init__("panoptic", place, legend or Legend())
        names = {}
        told = [s for s in described(place) if s.annotations is not None and s.masks is not None]
        files: list[Any] = [(s.annotations, s.masks, s.images, s.split) for s in told]
        for file, masks, images, split in files or [(file, None, None, None) for file in _files(place)]:
            content = _content(file)
            try:
                names |= {int(category["id"]): printable(str(category["name"])) for category in content["categories"]}
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{file} has a category without id or name ({error!r})") from error
            masks = masks or next((f for f in (file.with_suffix(""), file.parent) if f.is_dir()), file.parent)
            folder = image_folder or images
            self._add(content, file, masks, Images([folder] if folder else near(str(place), str(file))), split)
        if legend is None:
            self.legend = Legend(dict(sorted(names.items())), {}, str(place))

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        assert scene.mask is not None
        assert scene.segments is not None
        pixels = decode(read_regular(scene.mask)).pixels.numpy().astype(np.int64)
        if pixels.shape[0] != 3:
            raise BadImage("its panoptic PNG is not in colour")
        segments = pixels[0] + 256 * pixels[1] + 65536 * pixels[2]
        numbers, inverse = np.unique(segments, return_inverse=True)
        strange = [int(number) for number in numbers if number and int(number) not in scene.segments]
        if strange:
            raise BadImage(f"has a segment {strange[0]} that the .json does not list")
        classes = np.array([scene.segments.get(int(number), NO_CLASS) for number in numbers], dtype=np.int32)
        return classes[inverse].reshape(segments.shape)

    def _add(self, content: dict[str, Any], file: Path, masks: Path, images: Images, split: str | None) -> None:
        try:
            named = {image["id"]: str(image["file_name"]) for image in content["images"]}
        except (KeyError, TypeError) as error:
            raise DataError(f"{file} lists an image without id or file_name ({error!r})") from error
        split = split or split_of(file.stem)
        for annotation in content["annotations"]:
            try:
                mask = masks / str(annotation["file_name"])
                shown = named.get(annotation.get("image_id"), mask.with_suffix(".jpg").name)
                classes = {int(s["id"]): int(s["category_id"]) for s in annotation["segments_info"]}
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.lost.append((file.name, f"has an annotation that cannot be read ({error!r})"))
                continue
            name, path = printable(shown), images.find(shown)
            if path is None:
                self.lost.append((name, f"is listed in {file.name} and is not there"))
            elif not mask.is_file():
                self.lost.append((name, "has no panoptic PNG"))
            else:
                self.scenes.append(Scene(path, name, split, mask=str(mask), segments=classes))
        listed = {annotation.get("image_id") for annotation in content["annotations"] if isinstance(annotation, dict)}
        without = [printable(name) for number, name in named.items() if number not in listed]
        self.lost += [(name, "has no annotation") for name in without]


def _content(file: Path) -> dict[str, Any]:
    try:
        content = read_table(str(file))
        if is_panoptic(content["annotations"]):
            return content
    except (OSError, ValueError):
        pass
    raise DataError(f"{file} is no panoptic .json: it needs images, annotations with segments, categories")
