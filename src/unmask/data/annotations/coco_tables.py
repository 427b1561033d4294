"""JSON files in COCO's form (images, annotations, categories): finding and opening them, and the images they name."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from unmask.data.annotations.legend import number_by_name
from unmask.data.annotations.objects import Annotated, Id, walk
from unmask.data.labels import class_name
from unmask.files import Json, parse_json

NEEDED = ("images", "annotations", "categories")
LIKELY = ("annot", "coco", "train", "val", "test")  # in the name of a broken file that was meant


def read_table(path: str, needed: tuple[str, ...] = NEEDED) -> Json:
    """The content. Raises OSError, or ValueError with what is wrong."""
    return _table(path, os.path.getmtime(path), needed)


def forget_tables() -> None:
    """Frees the memory of opened tables: a large one takes gigabytes."""
    _table.cache_clear()


@lru_cache(maxsize=8)
def _table(path: str, changed: float, needed: tuple[str, ...]) -> Json:
    with open(path, encoding="utf-8-sig") as file:
        table = parse_json(file.read())
    missing = [k for k in needed if not isinstance(table, dict) or not isinstance(table.get(k), list)]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    return table


def as_id(value: object) -> str:
    """An id as text, so that "1", 1 and 1.0 are one. Raises TypeError for what can be no id."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no id")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


class Stated(NamedTuple):
    """An image as a table states it."""

    name: str
    size: tuple[int, int] | None  # height, width
    id_: Id  # as it is written there


def stated_images(annotated: Annotated, file: str, table: Mapping[str, Any]) -> dict[str, Stated]:
    """The images of a table by their ids as text; what is wrong becomes a fault."""
    images: dict[str, Stated] = {}
    for image in table["images"]:
        try:
            id_, name = as_id(image["id"]), str(image["file_name"])
            size = (int(image.get("height") or 0), int(image.get("width") or 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            annotated.fault("unreadable entry", file, f"an image without id or file_name ({error!r})", of="image")
            continue
        if id_ in images:
            annotated.fault("duplicate image", file, f"image id {id_} comes again, as {name}", of="nothing")
        else:
            images[id_] = Stated(name, size if min(size) > 0 else None, image["id"])
    return images


def valid_categories(table: Mapping[str, Any], remarks: list[str] | None = None) -> list[Json]:
    """The categories of a table that have an id and a name, the first where an id has two names."""
    names: dict[str, str] = {}
    categories = []
    for category in table["categories"]:
        try:
            id_, name = as_id(category["id"]), class_name(category["name"])
            if not name or names.setdefault(id_, name) != name:
                raise ValueError
            categories.append(category)
        except (KeyError, TypeError, ValueError):
            if remarks is not None:
                remarks.append(f"a category without id or name of its own is passed over: {category!r}"[:120])
    return categories


def names_of_categories(table: Mapping[str, Any], remarks: list[str] | None = None) -> dict[str, str]:
    """The name of each category's id as text."""
    return {as_id(c["id"]): class_name(c["name"]) for c in valid_categories(table, remarks)}


def class_numbers(tables: Sequence[Mapping[str, Any]], remarks: list[str]) -> dict[str, int]:
    """Number of each class: its id where it is a number. See `number_by_name`."""
    numberings = []
    for table in tables:
        names = names_of_categories(table, remarks)
        numbers = {id_: int(id_) for id_ in names if re.fullmatch("[0-9]+", id_)}
        free = max(numbers.values(), default=0) + 1
        numbers |= {id_: free + place for place, id_ in enumerate(id_ for id_ in names if id_ not in numbers)}
        numberings.append({numbers[id_]: name for id_, name in names.items()})
    return number_by_name(numberings, remarks)


def tables_in(root: str) -> Iterator[tuple[str, list[Any] | None]]:
    """JSON files in COCO's form at a place or one folder below, with their annotations; None for a broken one."""
    if os.path.isfile(root):
        paths = [root] if root.lower().endswith(".json") else []
    else:
        paths = list(walk(root, lambda name: name.lower().endswith(".json"), depth=1))
    for path in paths:
        try:
            yield path, read_table(path)["annotations"]
        except (OSError, ValueError) as error:
            name = os.path.basename(path).lower()
            likely = path == root or any(word in name for word in LIKELY)
            if name.startswith("instances") or (likely and "it has no" not in str(error)):
                yield path, None


def is_panoptic(annotations: list[Any]) -> bool:
    """True if annotations list segments of a PNG instead of outlines."""
    return any(isinstance(entry, dict) and "segments_info" in entry for entry in annotations[:9])


def near(root: str, file: str) -> list[str]:
    """Folders to search, with their subfolders, for the images of a file."""
    folder = os.path.dirname(os.path.abspath(file))
    places = [folder]
    if os.path.isfile(root) or os.path.basename(folder).lower().startswith("annot"):
        places.append(os.path.dirname(folder))
    if os.path.isdir(root):
        places.append(root)
    return [*places, *(os.path.join(place, "images") for place in places)]


def ids_by_class(table: Mapping[str, Any]) -> dict[str, Id]:
    """The id of each class as it is written in a table."""
    return {class_name(category["name"]): category["id"] for category in valid_categories(table)}
