"""COCO's JSON: instances_train2017.json and the like; boxes, polygons, run lengths, crowds. Lin et al. 2014.

Category numbers need not be contiguous. The folder of the images is found by their names.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.data.annotations.coco_tables import near, read_table, tables_in
from unmask.data.annotations.form import Form
from unmask.data.annotations.geometry import box_of
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.maps import Maps, described
from unmask.data.annotations.objects import Annotated, Box, Images, Instance, Scene, number
from unmask.data.annotations.rasterize import Rasterised
from unmask.data.labels import split_of
from unmask.errors import DataError, UserError

__all__ = ["Coco"]
OTHERS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")  # COCO's files of other tasks


class Coco(Form):
    form, takes = "coco", "COCO JSON (images, annotations, categories)"

    @staticmethod
    def find(root: str) -> list[str]:
        """Files that may hold boxes: those named instances*, or else any JSON that says it does; also broken ones."""
        return [root] if os.path.isfile(root) and root.lower().endswith(".json") else _files(root, OTHERS)

    @staticmethod
    def read(root: str, files: Sequence[str], images: str | None) -> Annotated:
        """Raises UserError where two files annotate one split, DataError where none can be read."""
        found, tables = Annotated("coco", [], [], []), {}
        for file in files:
            try:
                tables[file] = read_table(file)
            except (OSError, ValueError) as error:
                found.fault("unreadable file", file, str(error).splitlines()[0], of="file")
        if not tables:
            raise DataError(f"no COCO JSON of {root} can be read: {found.faults[0].file} ({found.faults[0].detail})")
        splits = {file: _split(file, len(tables)) for file in tables}
        for fault in found.faults:
            if _split(fault.file, len(files)) == "train" and "train" not in splits.values():
                raise DataError(f"the train split cannot be read: {fault.file} ({fault.detail})")
        for split in {s for s in splits.values() if s}:
            both = [file for file in tables if splits[file] == split]
            if len(both) > 1:
                raise UserError(f"{' and '.join(both)} annotate the {split} split: name the files to use with --on")
        _classes(found, list(tables.values()))
        for file, table in tables.items():
            _scenes(found, file, table, splits[file], Images([images] if images else near(root, file)))
        return found

    @staticmethod
    def holds_maps(place: Path) -> bool:
        told = described(place)
        if told:
            return any(split.annotations is not None and split.masks is None for split in told)
        return any(_has_outlines(file) for file in _map_files(place))

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        told = [s for s in described(place) if s.annotations is not None and s.masks is None]
        files = [(str(s.annotations), s.images, s.split) for s in told]
        parts = []
        for file, own, split in files or [(file, None, None) for file in _map_files(place)]:
            folder = images or own
            part = Coco.read(str(place), [file], None if folder is None else str(folder))
            for scene in part.scenes:
                scene.split = split or scene.split or split_of(Path(file).parent.name, whole=True)
            parts.append(part)
        return Rasterised("coco", place, parts, legend)


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


def _classes(found: Annotated, tables: list[dict[str, Any]]) -> None:
    """All classes in the order of their numbers. The name says which class it is: two numbers of one name become one
    class, and where files give one number to two names, the later name gets a free number."""
    numbers: dict[str, int] = {}
    for id_, name in [
        pair for table in tables for pair in sorted(_numbered(table["categories"], found.remarks).items())
    ]:
        if numbers.get(name, id_) != id_:
            found.remarks.append(f"category {id_} is named {name} too: both are one class")
        elif name not in numbers and id_ in numbers.values():
            numbers[name] = max(numbers.values()) + 1
            found.remarks.append(f"category {id_} has another name in another file: {name} becomes {numbers[name]}")
        else:
            numbers[name] = id_
    found.classes = sorted(numbers, key=lambda name: numbers[name])
    found.ids = [numbers[name] for name in found.classes]


def _numbered(categories: list[Any], remarks: list[str]) -> dict[int, str]:
    """The name of each number of a file, the first where it has two; numbers may be text, as category_id may."""
    names: dict[int, str] = {}
    for category in categories:
        try:
            id_, name = int(category["id"]), str(category["name"]).strip()
            if not name or names.setdefault(id_, name) != name:
                raise ValueError
        except (KeyError, TypeError, ValueError):
            remarks.append(f"a category without id or name of its own is passed over: {category!r}"[:120])
    return names


def _scenes(found: Annotated, file: str, table: dict[str, Any], split: str | None, images: Images) -> None:
    names = _numbered(table["categories"], [])
    stem = os.path.splitext(os.path.basename(file))[0]
    prefer = [stem.rsplit("_", 1)[-1], *([split] if split else [])]
    if split == "val":
        prefer.append("valid")
    scenes: dict[Any, Scene | None] = {}
    for image in table["images"]:
        try:
            id_, name = image["id"], str(image["file_name"])
            size = (int(image.get("height") or 0), int(image.get("width") or 0))
            hash(id_)
        except (KeyError, TypeError, ValueError) as error:
            found.fault("unreadable entry", file, f"an image without id or file_name ({error!r})", of="image")
            continue
        if id_ in scenes:
            found.fault("duplicate image", file, f"image id {id_} comes again, as {name}", of="nothing")
            continue
        path = images.find(name, prefer)
        scenes[id_] = None
        if path is None:
            found.fault("missing image", name, f"named in {file}", of="image")
        else:
            stated = size if min(size) > 0 else None
            scenes[id_] = Scene(path, name, split, [], file, stated)
    for annotation in table["annotations"]:
        _add(found, file, annotation, scenes, names)
    found.scenes += [scene for scene in scenes.values() if scene is not None]


def _add(found: Annotated, file: str, entry: Any, scenes: dict[Any, Scene | None], names: dict[int, str]) -> None:
    which = f"annotation {entry.get('id', '?')}" if isinstance(entry, dict) else repr(entry)[:40]
    scene: Scene | str | None = "none"
    try:
        scene = scenes.get(entry["image_id"], "none")
        number_ = int(entry["category_id"])
        if scene is None:  # its image is missing, which is known
            return
        if scene == "none":
            found.fault("unknown image", file, f"{which}: there is no image with id {entry['image_id']}")
            return
        assert isinstance(scene, Scene)
        if number_ not in names:
            found.fault("unknown class", scene.name, f"{which}: category {number_}")
            return
        crowd = bool(int(entry.get("iscrowd") or 0))
        polygons, rle, bad = _mask(entry.get("segmentation"))
        if bad:
            found.fault("unreadable outline", scene.name, f"{which}: a polygon of {bad} numbers", of="nothing")
        box = box_of(rle) if rle is not None and not entry.get("bbox") else _box(entry.get("bbox"), polygons)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found.fault("unreadable entry", scene.name if isinstance(scene, Scene) else file, f"{which}: {error}")
        return
    scene.instances.append(Instance(names[number_], box, polygons, rle, crowd))


def _box(given: object, polygons: tuple[tuple[float, ...], ...]) -> Box:
    """COCO writes left, top, width, height; without that the polygons tell."""
    if given:
        if not isinstance(given, list) or len(given) != 4:
            raise ValueError(f"a bbox is left, top, width, height; got {given!r}"[:120])
        x, y, width, height = (number(v) for v in given)
        return x, y, x + width, y + height
    if not polygons:
        raise ValueError("no bbox and no polygons")
    xs, ys = [v for p in polygons for v in p[0::2]], [v for p in polygons for v in p[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _mask(
    segmentation: dict[str, Any] | list[Any] | None,
) -> tuple[tuple[tuple[float, ...], ...], dict[str, Any] | None, int]:
    """Polygons, run lengths, and of a polygon that is none how many numbers it has; the box counts without it."""
    if isinstance(segmentation, dict):
        (height, width), counts = (int(v) for v in segmentation["size"]), segmentation["counts"]
        if isinstance(counts, list):
            counts = [int(number(v)) for v in counts]
            if min(counts, default=0) < 0 or sum(counts) != height * width:
                raise ValueError(f"its run lengths do not add up to {height} x {width}")
        elif not isinstance(counts, str):
            raise ValueError(f"its run lengths are {counts!r}")
        return (), {"size": [height, width], "counts": counts}, 0
    polygons = [tuple(number(v) for v in polygon) for polygon in segmentation or ()]
    good = tuple(polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0)
    bad = next((len(polygon) for polygon in polygons if polygon not in good), 0)
    return good, None, bad
