"""Detects the form of annotations in a folder: the forms in `formats/` are tried in turn."""

import os
from collections.abc import Sequence
from pathlib import Path

from unmask.data.annotations.coco_tables import forget_tables
from unmask.data.annotations.form import Form, forms
from unmask.data.annotations.legend import read_legend
from unmask.data.annotations.maps import Maps, give_one_legend, images_below
from unmask.data.annotations.objects import Annotated, unique
from unmask.data.labels import is_hidden, some
from unmask.data.names import IMAGE_FOLDERS
from unmask.errors import DataError, UserError, closest, closest_place

AUTO = "auto"
FORMS_OF_MAPS = {
    "coco": "outlines in a .json",
    "pairs": "masks as images",
    "panoptic": "a panoptic .json with its PNG files",
}


def known_forms() -> list[str]:
    """Names that --format accepts, besides auto."""
    return [name for name, form in forms().items() if form.takes is not None]


def open_annotations(places: Sequence[str], form: str = AUTO, images: str | None = None) -> Annotated:
    """Opens the annotations in a folder, or in the given files.

    images: folder of the images, if they are not at the usual place. Raises UserError if several readings are possible,
    saying what was found and which option decides; DataError if nothing can be read.
    """
    if form not in (AUTO, *known_forms()):
        listed = ", ".join([AUTO, *known_forms()])
        raise UserError(
            f"--format {form}: no such form of annotations{closest(form, known_forms())} There are: {listed}"
        )
    if images is not None and not os.path.isdir(images):
        raise UserError(f"--images {images} is no folder{closest_place(Path(images))}")
    for place in places:
        if not os.path.exists(place):
            raise UserError(f"{place} does not exist{closest_place(Path(place))}")
    parts = {name: forms()[name] for name in known_forms() if form in (AUTO, name)}
    root, files_by_form = _found(places, parts)
    if not files_by_form:
        raise DataError(_nothing(places, form))
    if len(files_by_form) > 1:
        told = "; ".join(
            f"{parts[name].takes}: {some(_relative(files, root), 2)}" for name, files in files_by_form.items()
        )
        raise UserError(
            f"{root} holds several forms of annotations ({told}): say which with --format {'|'.join(files_by_form)}"
        )
    ((name, files),) = files_by_form.items()
    annotated = parts[name].read(root, files, images)
    forget_tables()
    annotated.drop_copies()
    _name_apart(annotated)
    return annotated


def open_maps(places: Sequence[str], images: Path | None = None, classes: Path | None = None) -> list[Maps]:
    """The maps at each place, all with the same classes.

    images: the folder of the images, if they are not beside the masks; classes: a file that names the classes, if none
    is beside the masks. Raises UserError for a path that does not exist, DataError for one that no form recognises.
    """
    legend = None if classes is None else read_legend(classes)
    opened = []
    for place in map(Path, places):
        if not place.exists():
            raise UserError(f"{place} does not exist{closest_place(place)}")
        accepting = [name for name, form in forms().items() if form.holds_maps(place)]
        if len(several := [FORMS_OF_MAPS[name] for name in accepting if name in FORMS_OF_MAPS]) > 1:
            raise UserError(f"{place} has {' and '.join(several)}; give the one that is meant with --on")
        if not accepting and images is not None and place.is_dir() and images_below(place):
            accepting = ["pairs"]  # a folder of masks, whatever it is called
        if not accepting:
            raise DataError(_no_maps(place))
        opened.append(forms()[accepting[0]].maps(place, images, legend))
    forget_tables()
    give_one_legend(opened)
    return opened


def _no_maps(place: Path) -> str:
    if boxes := forms()["coco"].find(str(place)):
        return (
            f"{place} has boxes, no outlines: to segment, annotations need polygons or RLE under `segmentation` in"
            f" {os.path.basename(boxes[0])}. With boxes: --to detect"
        )
    folders = sorted(place.parent.iterdir()) if place.is_dir() and images_below(place) else []
    for folder in folders:
        if folder.is_dir() and folder.name.lower() in IMAGE_FOLDERS:
            return f"{place} holds no images beside its masks: give --on {place.parent}, or add --images {folder}"
    return (
        f"{place} holds no segmented images that are known here: give a folder with images/ and masks/, or train/ and"
        " trainannot/, or a.jpg and a_mask.png side by side; a folder of masks, with --images for that of their"
        " images; a COCO .json with polygons or RLE; a panoptic .json with its PNG files beside it; or a .yaml that"
        " names such folders"
    )


def _found(places: Sequence[str], parts: dict[str, type[Form]]) -> tuple[str, dict[str, list[str]]]:
    """Files by form; for a folder without any, those in its only subfolder that has some."""
    if len(places) > 1 or os.path.isfile(places[0]):
        files_by_form = {name: [f for place in places for f in part.find(place)] for name, part in parts.items()}
        files_by_form = {name: files for name, files in files_by_form.items() if files}
        folder = places[0] if os.path.isfile(places[0]) else os.path.commonpath([os.path.abspath(p) for p in places])
        return folder, files_by_form
    root = places[0]
    inside = sorted(e.path for e in os.scandir(root) if e.is_dir() and not is_hidden(e.name))
    for place in [root, *(inside if len(inside) == 1 else [])]:
        files_by_form = {name: files for name, part in parts.items() if (files := part.find(place))}
        if files_by_form:
            return place, files_by_form
    return root, {}


def _nothing(places: Sequence[str], form: str) -> str:
    takes = "; ".join(str(forms()[name].takes) for name in known_forms() if form in (AUTO, name))
    return f"no annotations of boxes in {', '.join(places)}. What is looked for: {takes}"


def _relative(files: Sequence[str], root: str) -> list[str]:
    return [os.path.relpath(file, root) if os.path.isdir(root) else file for file in files]


def _name_apart(annotated: Annotated) -> None:
    """Images that share a name get their folder's name too."""
    again = set(unique(scene.name for scene in annotated.scenes))
    if not again:
        return
    common = os.path.commonpath([os.path.dirname(scene.path) for scene in annotated.scenes])
    for scene in annotated.scenes:
        if scene.name in again:
            scene.name = os.path.relpath(scene.path, common).replace(os.sep, "/")
