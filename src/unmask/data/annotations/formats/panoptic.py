"""COCO's panoptic form: a PNG of segment numbers (r + 256 g + 65536 b) for each image, and a .json that says which
class each segment has. Kirillov et al. 2019. Segment 0 is void."""

from pathlib import Path

import numpy as np

from unmask.data.annotations.coco_tables import (
    as_id,
    class_numbers,
    is_panoptic,
    names_of_categories,
    near,
    read_table,
    stated_images,
    tables_in,
)
from unmask.data.annotations.form import Form
from unmask.data.annotations.legend import NO_CLASS, Legend
from unmask.data.annotations.maps import Described, Maps, described
from unmask.data.annotations.objects import Annotated, Images, Scene
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage
from unmask.data.labels import printable
from unmask.data.names import as_spelled, split_of
from unmask.data.regular_files import read_regular
from unmask.errors import DataError
from unmask.files import Json

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

    @staticmethod
    def png_folders(place: Path) -> list[Path]:
        """Folders of the PNG files of the panoptic .json files at a place."""
        return [_png_folder(file) for file in _files(place)]


def _files(place: Path) -> list[Path]:
    return [Path(path) for path, entries in tables_in(str(place)) if entries is not None and is_panoptic(entries)]


def _png_folder(file: Path) -> Path:
    """Of the .json's name, beside it or beside its folder; else all lie beside it."""
    folders = (file.with_suffix(""), file.parent.parent / file.stem)
    return next((folder for folder in folders if folder.is_dir()), file.parent)


class PanopticMaps(Maps):
    def __init__(self, place: Path, image_folder: Path | None, legend: Legend | None):
        super().__init__("panoptic", place, legend or Legend())
        files = [s for s in described(place) if s.annotations is not None and s.masks is not None]
        files = files or [Described(split_of(f.stem), None, _png_folder(f), f) for f in _files(place)]
        tables = [_content(file.annotations) for file in files]
        self.numbers = class_numbers(tables, self.remarks)
        for file, table in zip(files, tables):
            folder = image_folder or file.images
            self._add(table, file, Images([folder] if folder else near(str(place), str(file.annotations))))
        if legend is None:
            self.legend = Legend({number: name for name, number in self.numbers.items()}, {}, str(place))

    def truth(self, scene: Scene, size: tuple[int, ...]) -> np.ndarray:
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

    def _add(self, table: Json, file: Described, images: Images) -> None:
        assert file.masks is not None
        told, told_in = Annotated("panoptic", [], [], []), Path(str(file.annotations)).name
        stated, names = stated_images(told, told_in, table), names_of_categories(table)
        self.lost += [(fault.file, f"{fault.kind}: {fault.detail}") for fault in told.faults if fault.of == "image"]
        matches = images.match(image.name for image in stated.values())
        self.remarks += matches.remarks(f"images of {told_in} are found")
        annotated: set[str] = set()
        for annotation in table["annotations"]:
            try:
                image, png = as_id(annotation["image_id"]), str(annotation["file_name"])
                segments = {int(s["id"]): names[as_id(s["category_id"])] for s in annotation["segments_info"]}
                shown = stated[image].name
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.lost.append((told_in, f"has an annotation that cannot be read ({error!r})"))
                continue
            name, path, mask = printable(shown), matches.files.get(shown), as_spelled(str(file.masks / png))
            if image in annotated:
                self.lost.append((name, f"is annotated again in {told_in}"))
            elif path is None:
                why = matches.why_not(shown)
                self.lost.append((name, f"is listed in {told_in} and is not there{why and f'; {why}'}"))
            elif mask is None:
                self.lost.append((name, "has no panoptic PNG"))
            else:
                numbers = {id_: self.numbers[class_] for id_, class_ in segments.items()}
                self.scenes.append(Scene(path, name, file.split, mask=mask, segments=numbers))
            annotated.add(image)
        self.lost += [
            (printable(image.name), "has no annotation") for id_, image in stated.items() if id_ not in annotated
        ]


def _content(file: Path | None) -> Json:
    try:
        content = read_table(str(file))
        if is_panoptic(content["annotations"]):
            return content
    except (OSError, ValueError):
        pass
    raise DataError(f"{file} is no panoptic .json: it needs images, annotations with segments, categories")
