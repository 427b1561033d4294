"""COCO's JSON: instances_train2017.json and the like; boxes, polygons, run lengths, crowds. Lin et al. 2014.

Category ids need not be contiguous. The folder of the images is found by their names.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.data.annotations.coco_tables import (
    as_id,
    class_numbers,
    ids_by_class,
    names_of_categories,
    near,
    read_table,
    stated_images,
    tables_in,
)  # fmt: skip
from unmask.data.annotations.form import Form
from unmask.data.annotations.geometry import box_of
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.maps import Maps, described
from unmask.data.annotations.objects import Annotated, Box, Images, Instance, Scene, number
from unmask.data.annotations.rasterize import Rasterised
from unmask.data.names import split_of
from unmask.errors import DataError, UserError
from unmask.files import Json

__all__ = ["Coco"]
Polygon = tuple[float, ...]
OTHERS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")  # COCO's files of other tasks


class Coco(Form):
    form, takes = "coco", "COCO JSON (images, annotations, categories)"

    @staticmethod
    def find(root: str) -> list[str]:
        """Files that may hold boxes: those named instances*, or else any JSON that says it does; also broken ones."""
        return [root] if os.path.isfile(root) and root.lower().endswith(".json") else _files(root, OTHERS)

    @staticmethod
    def read(root: str, files: Sequence[str], images: str | None) -> Annotated:
        """Raises UserError if two files annotate one split, DataError if none can be read."""
        return _read(root, [_File(file, _split(file, len(files)), images) for file in files])

    @staticmethod
    def holds_maps(place: Path) -> bool:
        told = described(place)
        if told:
            return any(split.annotations is not None and split.masks is None for split in told)
        return any(_has_outlines(file) for file in _map_files(place))

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        folder = None if images is None else str(images)
        files = [
            _File(str(told.annotations), told.split, folder or (None if told.images is None else str(told.images)))
            for told in described(place) if told.annotations is not None and told.masks is None
        ]  # fmt: skip
        paths = [] if files else _map_files(place)
        for path in paths:
            split = _split(path, len(paths)) or split_of(Path(path).parent.name, whole=True)
            files.append(_File(path, split, folder))
        return Rasterised("coco", place, _read(str(place), files), legend)


@dataclass(frozen=True)
class _File:
    path: str
    split: str | None
    images: str | None  # their folder, where it is known


def _files(root: str, others: tuple[str, ...]) -> list[str]:
    tables = [(path, entries) for path, entries in tables_in(root) if not os.path.basename(path).startswith(others)]
    named = [path for path, _ in tables if os.path.basename(path).startswith("instances")]
    return named or [path for path, entries in tables if entries is None or _speaks_of_objects(entries)]


def _speaks_of_objects(entries: list[Any]) -> bool:
    return any(isinstance(entry, dict) and ("bbox" in entry or "segmentation" in entry) for entry in entries[:100])


def _map_files(place: Path) -> list[str]:
    return _files(str(place), tuple(name for name in OTHERS if name != "stuff"))


def _has_outlines(file: str) -> bool:
    """Raises DataError for a broken file."""
    try:
        return any(isinstance(a, dict) and a.get("segmentation") for a in read_table(file)["annotations"])
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _split(file: str, number_of_files: int) -> str | None:
    split = split_of(os.path.basename(file))
    return split or (split_of(os.path.basename(os.path.dirname(file))) if number_of_files > 1 else None)


def _read(root: str, files: Sequence[_File]) -> Annotated:
    annotated, tables = Annotated("coco", [], [], []), {}
    for file in files:
        try:
            tables[file] = read_table(file.path)
        except (OSError, ValueError) as error:
            annotated.fault("unreadable file", file.path, str(error).splitlines()[0], of="file")
            if file.split == "train":
                raise DataError(
                    f"the train split cannot be read: {file.path} ({annotated.faults[-1].detail})"
                ) from error
    if not tables:
        raise DataError(
            f"no COCO JSON of {root} can be read: {annotated.faults[0].file} ({annotated.faults[0].detail})"
        )
    for split in {file.split for file in tables if file.split}:
        both = [file.path for file in tables if file.split == split]
        if len(both) > 1:
            raise UserError(f"{' and '.join(both)} annotate the {split} split: name the files to use with --on")
    numbers = class_numbers(list(tables.values()), annotated.remarks)
    annotated.classes, annotated.ids = list(numbers), list(numbers.values())
    for file, table in tables.items():
        annotated.category_ids[file.path] = ids_by_class(table)
        _add_file(annotated, file, table, Images([file.images] if file.images else near(root, file.path)))
    annotated.drop_copies()
    return annotated


def _add_file(annotated: Annotated, file: _File, table: Mapping[str, Any], images: Images) -> None:
    names = names_of_categories(table)
    stated = stated_images(annotated, file.path, table)
    stem = os.path.splitext(os.path.basename(file.path))[0]
    prefer = [
        stem.rsplit("_", 1)[-1],
        *([file.split] if file.split else []),
        *(["valid"] if file.split == "val" else []),
    ]
    matches = images.match([image.name for image in stated.values()], prefer)
    annotated.remarks += matches.remarks(f"images of {os.path.basename(file.path)} are found")
    scenes: dict[str, Scene | None] = {}
    for id_, image in stated.items():
        path = matches.files.get(image.name)
        scene = Scene(path or "", image.name, file.split, [], file.path, image.size, id_=image.id_)
        scenes[id_] = scene if path else None
        if path is None:
            why = matches.why_not(image.name)
            annotated.fault("missing image", image.name, f"named in {file.path}{why and f'; {why}'}", of="image")
    for annotation in table["annotations"]:
        _add(annotated, file.path, annotation, scenes, names)
    annotated.scenes += [scene for scene in scenes.values() if scene is not None]


def _add(
    annotated: Annotated, file: str, entry: Any, scenes: Mapping[str, Scene | None], names: Mapping[str, str]
) -> None:
    which = f"annotation {entry.get('id', '?')}" if isinstance(entry, dict) else repr(entry)[:40]
    where = file
    try:
        image, category = as_id(entry["image_id"]), as_id(entry["category_id"])
        if image not in scenes:
            alike = next((repr(id_) for id_ in scenes if id_.lstrip("0") == image.lstrip("0")), "")
            near = f", but one with {alike}" if alike else ""
            annotated.fault("unknown image", file, f"{which}: there is no image with id {entry['image_id']!r}{near}")
            return
        if (scene := scenes[image]) is None:  # its image is missing, which is known
            return
        where = scene.name
        if category not in names:
            annotated.fault("unknown class", where, f"{which}: category {category}")
            return
        crowd = bool(int(entry.get("iscrowd") or 0))
        polygons, rle, problem = _outline(entry.get("segmentation"))
        if problem:
            annotated.fault("unreadable outline", where, f"{which}: {problem}", of="nothing")
        box = box_of(rle) if rle is not None and not entry.get("bbox") else _box(entry.get("bbox"), polygons)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        annotated.fault("unreadable entry", where, f"{which}: {error}")
        return
    scene.instances.append(Instance(names[category], box, polygons, rle, crowd))


def _box(given: object, polygons: tuple[Polygon, ...]) -> Box:
    """The box as left, top, right, bottom; COCO writes left, top, width, height. Without one, it is that of the
    polygons."""
    if given:
        if not isinstance(given, list) or len(given) != 4:
            raise ValueError(f"a bbox is left, top, width, height; got {given!r}"[:120])
        x, y, width, height = (number(v) for v in given)
        return x, y, x + width, y + height
    if not polygons:
        raise ValueError("no bbox and no polygons")
    xs, ys = [v for p in polygons for v in p[0::2]], [v for p in polygons for v in p[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _outline(given: object) -> tuple[tuple[Polygon, ...], Json | None, str]:
    """Polygons, run lengths, and what is wrong with what cannot be read; the box counts without it."""
    try:
        if isinstance(given, list) and len(given) == 1 and isinstance(given[0], dict):
            given = given[0]
        if isinstance(given, dict):
            return (), _run_lengths(given), ""
        polygons = _polygons(given or [])
    except (KeyError, TypeError, ValueError) as error:
        return (), None, f"its outline cannot be read: {error}"
    good = tuple(polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0)
    bad = next((len(polygon) for polygon in polygons if polygon not in good), 0)
    return good, None, f"a polygon of {bad} numbers" if bad else ""


def _run_lengths(given: Mapping[str, Any]) -> Json:
    (height, width), counts = (int(v) for v in given["size"]), given["counts"]
    if isinstance(counts, list):
        counts = [int(number(v)) for v in counts]
        if min(counts, default=0) < 0 or sum(counts) != height * width:
            raise ValueError(f"its run lengths do not add up to {height} x {width}")
    elif not isinstance(counts, str):
        raise ValueError(f"its run lengths are {counts!r}")
    return {"size": [height, width], "counts": counts}


def _polygons(given: Any) -> list[Polygon]:
    """A list of polygons, as COCO has it, or one polygon that is in no list; its points may be pairs."""
    if given and not any(isinstance(part, list) for part in given):
        given = [given]
    elif len(given) > 2 and all(len(part) == 2 and not isinstance(part[0], list) for part in given):
        given = [given]
    return [tuple(number(v) for point in polygon for v in (point if isinstance(point, list) else [point]))
            for polygon in given]  # fmt: skip
