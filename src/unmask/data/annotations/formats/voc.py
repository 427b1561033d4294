"""Pascal VOC's XML: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,test}.txt. Everingham et al. 2010.

Its pixels count from 1 and xmax, ymax lie inside the box, so left and top lose one. Data in which some xmin or ymin is
0 counts from 0, and nothing is taken away.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from unmask.data.annotations.form import Form
from unmask.data.annotations.objects import Annotated, Images, Instance, Scene, number, walk
from unmask.data.labels import natural, split_of
from unmask.errors import DataError

__all__ = ["Voc"]
SETS = ("train", "val", "test")


class Voc(Form):
    form, takes = "voc", "Pascal VOC (Annotations/*.xml)"

    @staticmethod
    def find(root: str) -> list[str]:
        """Folders with XML files: Annotations, or those that hold the images too."""
        if os.path.isfile(root):
            return []
        folders = {os.path.dirname(path) for path in walk(root, lambda name: name.lower().endswith(".xml"), depth=2)}
        named = [f for f in folders if os.path.basename(f).lower() == "annotations"]
        return sorted(named or folders, key=natural)

    @staticmethod
    def read(root: str, files: Sequence[str], images: str | None) -> Annotated:
        """Raises DataError where no file can be read."""
        found = Annotated("voc", [], [], [])
        for folder in files:
            base = os.path.dirname(folder) if os.path.basename(folder).lower() == "annotations" else folder
            near = [os.path.join(base, "JPEGImages"), os.path.join(base, "images"), base]
            _folder(found, folder, base, Images([images] if images else near), len(files) > 1)
        if not found.scenes:
            why = f": {found.faults[0].kind}, {found.faults[0].file} {found.faults[0].detail}" if found.faults else ""
            raise DataError(f"no annotation of {root} can be used{why}")
        boxes = [instance.box for scene in found.scenes for instance in scene.instances]
        if any(min(box[:2]) == 0 for box in boxes):
            found.remarks.append("some xmin or ymin is 0, so pixels are taken to count from 0")
        else:
            found.remarks.append("pixels count from 1, as in VOC: left and top edges lose one")
            for scene in found.scenes:
                scene.instances = [_from_zero(instance) for instance in scene.instances]
        found.classes = sorted({i.name for scene in found.scenes for i in scene.instances}, key=natural)
        found.ids = list(range(1, len(found.classes) + 1))
        return found


def _folder(found: Annotated, folder: str, base: str, images: Images, several: bool) -> None:
    files = {os.path.splitext(os.path.basename(p))[0]: p for p in walk(folder, lambda n: n.lower().endswith(".xml"), 0)}
    splits = _splits(found, base)
    for id_, split in splits.items():
        if id_ not in files:
            found.fault("missing annotation", f"{id_}.xml", f"named in the {split} split", of="image")
    left_out = [id_ for id_ in files if splits and id_ not in splits]
    if left_out:
        found.remarks.append(f"{len(left_out):,} annotated images are in no split and are left out")
    here = split_of(os.path.basename(folder)) if several else None
    for id_ in sorted(files, key=natural):
        if splits and id_ not in splits:
            continue
        try:
            tree = ET.parse(files[id_]).getroot()
            if tree.tag != "annotation" and tree.find("object") is None:
                raise ValueError(f"<{tree.tag}>, not <annotation>")
        except (ET.ParseError, OSError, ValueError, LookupError) as error:
            found.fault("unreadable file", files[id_], str(error), of="image")
            continue
        named = (tree.findtext("filename") or "").strip()
        path = _image(id_, named, images)
        if path is None:
            found.fault("missing image", named or id_, f"named in {files[id_]}", of="image")
            continue
        scene = Scene(path, os.path.basename(path), splits.get(id_, here), [], files[id_], _size(tree))
        for place, entry in enumerate(tree.iter("object"), 1):
            _add(found, scene, entry, place)
        found.scenes.append(scene)


def _splits(found: Annotated, base: str) -> dict[str, str]:
    """The split of each id, from ImageSets; trainval counts where there is no train. Ids of a second split stay."""
    sets = os.path.join(base, "ImageSets", "Main")
    files = {name: os.path.join(sets, f"{name}.txt") for name in (*SETS, "trainval")}
    there = {name: path for name, path in files.items() if os.path.isfile(path)}
    if "train" not in there and "trainval" in there:
        there["train"] = there["trainval"]
    splits: dict[str, str] = {}
    for name in (name for name in SETS if name in there):
        with open(there[name], encoding="utf-8-sig", errors="replace") as file:
            ids = [line.split()[0] for line in file if line.strip()]
        for id_ in ids:
            if splits.setdefault(id_, name) != name:
                found.fault("duplicate image", id_, f"of {name} is in {splits[id_]} already", of="nothing")
    return splits


def _image(id_: str, named: str, images: Images) -> str | None:
    """By the annotation's own name, which people keep right when they rename, or else by the name inside."""
    endings = [os.path.splitext(named)[1] or ".jpg", ".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".bmp", ".tif"]
    names = [*(id_ + ending for ending in dict.fromkeys(endings)), *([named] if named else [])]
    return next((path for name in names if (path := images.find(name))), None)


def _size(tree: ET.Element) -> tuple[int, int] | None:
    try:
        size = tuple(int(number(tree.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except ValueError:
        return None
    return (size[0], size[1]) if min(size) > 0 else None  # some tools write 0 x 0


def _add(found: Annotated, scene: Scene, entry: ET.Element, place: int) -> None:
    name = (entry.findtext("name") or "").strip()
    try:
        if not name:
            raise ValueError("no name")
        sides = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        if None in sides:
            raise ValueError("no bndbox with xmin, ymin, xmax, ymax")
        left, top, right, bottom = (number(side) for side in sides)
    except ValueError as error:
        found.fault("unreadable entry", scene.told_in, f"object {place}: {error}")
        return
    if right <= left or bottom <= top:  # as written: once pixels are counted from 0 it would be one pixel large
        found.fault("zero area", scene.told_in, f"object {place}, {name}: {left:g} {top:g} {right:g} {bottom:g}")
        return
    scene.instances.append(Instance(name, (left, top, right, bottom)))


def _from_zero(instance: Instance) -> Instance:
    left, top, right, bottom = instance.box
    return Instance(instance.name, (left - 1, top - 1, right, bottom))
