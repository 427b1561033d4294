"""JSON files in COCO's form (images, annotations, categories): finding and opening them, and the images they name."""

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from unmask.data.annotations.objects import walk

NEEDED = ("images", "annotations", "categories")
LIKELY = ("annot", "coco", "train", "val", "test")  # in the name of a broken file that was meant


def read_table(path: str) -> dict[str, Any]:
    """The content. Raises OSError, or ValueError with what is wrong."""
    return _table(path, os.path.getmtime(path))


def forget_tables() -> None:
    """Frees the memory of tables that were opened: a large one takes gigabytes."""
    _table.cache_clear()


@lru_cache(maxsize=8)
def _table(path: str, changed: float) -> dict[str, Any]:
    with open(path, encoding="utf-8-sig") as file:
        table = json.load(file)
    missing = [k for k in NEEDED if not isinstance(table, dict) or not isinstance(table.get(k), list)]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    return table


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
    """True where annotations list segments of a PNG instead of outlines."""
    return any(isinstance(entry, dict) and "segments_info" in entry for entry in annotations[:9])


def near(root: str, file: str) -> list[str]:
    """Folders in and below which the images of a file are looked for."""
    folder = os.path.dirname(os.path.abspath(file))
    places = [folder]
    if os.path.isfile(root) or os.path.basename(folder).lower().startswith("annot"):
        places.append(os.path.dirname(folder))
    if os.path.isdir(root):
        places.append(root)
    return [*places, *(os.path.join(place, "images") for place in places)]
