"""Which form annotations have, from what lies in a folder: the readers in `annotations/` are asked in turn."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask import registry
from unmask.data.annotations.objects import Annotated, Scene, listed, unique
from unmask.data.labels import is_hidden
from unmask.errors import DataError, UserError, closest, closest_place

PARTS = "boxes"
AUTO = "auto"


def known_forms() -> list[str]:
    """Names that --format takes, besides auto."""
    return registry.names(PARTS)


def open_annotations(places: Sequence[str], form: str = AUTO, images: str | None = None) -> Annotated:
    """What is annotated in a folder, or in the files that are named.

    images: folder of the images, where they do not lie as usual. Raises UserError where it is not clear what is
    meant, saying what was found and which option decides; DataError where nothing can be read.
    """
    if form not in (AUTO, *known_forms()):
        known = ", ".join([AUTO, *known_forms()])
        raise UserError(
            f"--format {form}: no such form of annotations{closest(form, known_forms())} There are: {known}"
        )
    if images is not None and not os.path.isdir(images):
        raise UserError(f"--images {images} is no folder{closest_place(Path(images))}")
    for place in places:
        if not os.path.exists(place):
            raise UserError(f"{place} does not exist{closest_place(Path(place))}")
    parts: dict[str, Any] = {name: registry.find(PARTS, name) for name in known_forms() if form in (AUTO, name)}
    root, found = _found(places, parts)
    if not found:
        raise DataError(_nothing(places, form))
    if len(found) > 1:
        told = "; ".join(f"{parts[name].takes}: {listed(_relative(files, root), 2)}" for name, files in found.items())
        raise UserError(
            f"{root} holds several forms of annotations ({told}): say which with --format {'|'.join(found)}"
        )
    ((name, files),) = found.items()
    annotated = parts[name].read(root, files, images)
    _drop_copies(annotated)
    _name_apart(annotated)
    return annotated


def _found(places: Sequence[str], parts: dict[str, Any]) -> tuple[str, dict[str, list[str]]]:
    """Files by form. Of a folder that has none, those in the one folder below it that has."""
    if len(places) > 1 or os.path.isfile(places[0]):
        found = {name: [f for place in places for f in part.find(place)] for name, part in parts.items()}
        found = {name: files for name, files in found.items() if files}
        folder = places[0] if os.path.isfile(places[0]) else os.path.commonpath([os.path.abspath(p) for p in places])
        return folder, found
    root = places[0]
    inside = sorted(e.path for e in os.scandir(root) if e.is_dir() and not is_hidden(e.name))
    for place in [root, *(inside if len(inside) == 1 else [])]:
        found = {name: files for name, part in parts.items() if (files := part.find(place))}
        if found:
            return place, found
    return root, {}


def _nothing(places: Sequence[str], form: str) -> str:
    takes = "; ".join(registry.find(PARTS, name).takes for name in known_forms() if form in (AUTO, name))
    return f"no annotations of boxes in {', '.join(places)}. What is looked for: {takes}"


def _relative(files: Sequence[str], root: str) -> list[str]:
    return [os.path.relpath(file, root) if os.path.isdir(root) else file for file in files]


def _drop_copies(annotated: Annotated) -> None:
    """A file that a split names twice counts once, as it was annotated first."""
    kept: dict[tuple[str, str | None], Scene] = {}
    for scene in annotated.scenes:
        if kept.setdefault((scene.path, scene.split), scene) is not scene:
            annotated.fault("duplicate image", scene.name, f"comes again in {scene.told_in}", of="image")
    annotated.scenes = list(kept.values())


def _name_apart(annotated: Annotated) -> None:
    """Images of one name in several folders get their folder's name too."""
    again = set(unique(scene.name for scene in annotated.scenes))
    if not again:
        return
    common = os.path.commonpath([os.path.dirname(scene.path) for scene in annotated.scenes])
    for scene in annotated.scenes:
        if scene.name in again:
            scene.name = os.path.relpath(scene.path, common).replace(os.sep, "/")
