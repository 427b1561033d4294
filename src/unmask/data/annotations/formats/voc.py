"""Pascal VOC's XML: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,test}.txt. Everingham et al. 2010.

Its pixels count from 1 and xmax, ymax are inside the box, so 1 is subtracted from left and top. Data in which some xmin
or ymin is 0 counts from 0, and nothing is subtracted.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence

from unmask.data.annotations.form import Form
from unmask.data.annotations.objects import Annotated, Images, Instance, Scene, number, walk
from unmask.data.labels import class_name, natural
from unmask.data.names import key_of, match_keys, plain, split_of
from unmask.errors import DataError

__all__ = ["Voc"]
SETS = ("train", "val", "test")
MOST_BYTES = 16 << 20  # of one image's XML


class Voc(Form):
    form, takes = "voc", "Pascal VOC (Annotations/*.xml)"

    @staticmethod
    def find(root: str) -> list[str]:
        """Folders with XML files: Annotations, or those that hold the images too."""
        if os.path.isfile(root):
            return []
        folders = {os.path.dirname(path) for path in walk(root, _is_xml, depth=2)}
        named = [f for f in folders if os.path.basename(f).lower() == "annotations"]
        return sorted(named or folders, key=natural)

    @staticmethod
    def read(root: str, files: Sequence[str], images: str | None) -> Annotated:
        """Raises DataError if no file can be read."""
        annotated = Annotated("voc", [], [], [])
        for folder in files:
            base = os.path.dirname(folder) if os.path.basename(folder).lower() == "annotations" else folder
            near = [os.path.join(base, "JPEGImages"), os.path.join(base, "images"), base]
            _folder(annotated, folder, base, Images([images] if images else near), len(files) > 1)
        if not annotated.scenes:
            first = next(iter(annotated.faults), None)
            why = f": {first.kind}, {first.file} {first.detail}" if first else ""
            raise DataError(f"no annotation of {root} can be used{why}")
        boxes = [instance.box for scene in annotated.scenes for instance in scene.instances]
        if any(min(box[:2]) == 0 for box in boxes):
            annotated.remarks.append("some xmin or ymin is 0, so pixels are taken to count from 0")
        else:
            annotated.remarks.append("pixels count from 1, as in VOC: left and top edges lose one")
            for scene in annotated.scenes:
                scene.instances = [_from_zero(instance) for instance in scene.instances]
        annotated.classes = sorted({i.name for scene in annotated.scenes for i in scene.instances}, key=natural)
        annotated.ids = list(range(1, len(annotated.classes) + 1))
        return annotated


def _folder(annotated: Annotated, folder: str, base: str, images: Images, several: bool) -> None:
    paths = {plain(os.path.splitext(os.path.basename(path))[0]): path for path in walk(folder, _is_xml, 0)}
    splits = _splits(annotated, base)
    for id_, split in splits.items():
        if id_ not in paths:
            annotated.fault("missing annotation", f"{id_}.xml", f"named in the {split} split", of="image")
    left_out = [id_ for id_ in paths if splits and id_ not in splits]
    if left_out:
        annotated.remarks.append(f"{len(left_out):,} annotated images are in no split and are left out")
    here = split_of(os.path.basename(folder)) if several else None
    trees = {}
    for id_ in sorted(paths.keys() - set(left_out), key=natural):
        try:
            tree = trees[id_] = _tree(paths[id_])
            if tree.tag != "annotation" and tree.find("object") is None:
                raise ValueError(f"<{tree.tag}>, not <annotation>")
        except (ET.ParseError, OSError, ValueError, LookupError) as error:
            trees.pop(id_, None)
            annotated.fault("unreadable file", paths[id_], str(error), of="image")
    names = {id_: (tree.findtext("filename") or "").strip() for id_, tree in trees.items()}
    image_paths = _find_images(annotated, names, paths.keys(), images)
    for id_, tree in trees.items():
        if id_ not in image_paths:
            annotated.fault("missing image", names[id_] or id_, f"named in {paths[id_]}", of="image")
            continue
        name = os.path.basename(image_paths[id_])
        scene = Scene(image_paths[id_], name, splits.get(id_, here), [], paths[id_], _size(tree))
        for place, entry in enumerate(tree.iter("object"), 1):
            _add(annotated, scene, entry, place)
        annotated.scenes.append(scene)


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


class _Builder(ET.TreeBuilder):
    """Refuses a document type: it declares entities, a few of which can stand for a billion letters."""

    def doctype(self, *declared: object) -> None:
        raise ValueError("it declares a document type (DTD), which is not read")


def _tree(path: str) -> ET.Element:
    """Raises ValueError or ET.ParseError for a file that is no annotation."""
    if (size := os.path.getsize(path)) > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, more than the {MOST_BYTES:,} that are read of one image")
    return ET.parse(path, ET.XMLParser(target=_Builder())).getroot()


def _splits(annotated: Annotated, base: str) -> dict[str, str]:
    """The split of each id, from ImageSets; trainval is used if there is no train. An id keeps its first split."""
    sets = os.path.join(base, "ImageSets", "Main")
    files = {name: os.path.join(sets, f"{name}.txt") for name in (*SETS, "trainval")}
    files = {name: path for name, path in files.items() if os.path.isfile(path)}
    if "train" not in files and "trainval" in files:
        files["train"] = files["trainval"]
    splits: dict[str, str] = {}
    for name in (name for name in SETS if name in files):
        with open(files[name], encoding="utf-8-sig", errors="replace") as file:
            ids = [plain(line.split()[0]) for line in file if line.strip()]
        for id_ in ids:
            if splits.setdefault(id_, name) != name:
                annotated.fault("duplicate image", id_, f"of {name} is in {splits[id_]} already", of="nothing")
    return splits


def _find_images(
    annotated: Annotated, names: Mapping[str, str], ids: Collection[str], images: Images
) -> dict[str, str]:
    """By the annotation's own name, which people keep right when they rename, or else by the name inside, unless that
    is the name of another annotation."""
    keys = {path: (*key[:-1], os.path.splitext(key[-1])[0]) for path, key in images.keys.items()}
    matches = match_keys({id_: (id_,) for id_ in names}, keys)
    for id_, paths in matches.several.items():
        if named := [path for path in paths if plain(path).endswith(f"/{plain(names[id_])}")]:
            matches.files[id_] = named[0]
    others = {id_: name for id_, name in names.items() if id_ not in matches.files and name}
    others = {id_: name for id_, name in others.items() if os.path.splitext(key_of(name)[-1])[0] not in ids}
    by_name = images.match(others.values())
    annotated.remarks += [*matches.remarks("images are found"), *by_name.remarks("images are found")]
    return matches.files | {id_: by_name.files[name] for id_, name in others.items() if name in by_name.files}


def _size(tree: ET.Element) -> tuple[int, int] | None:
    try:
        size = tuple(int(number(tree.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    except ValueError:
        return None
    return (size[0], size[1]) if min(size) > 0 else None  # some tools write 0 x 0


def _add(annotated: Annotated, scene: Scene, entry: ET.Element, place: int) -> None:
    name = class_name(entry.findtext("name") or "")
    try:
        if not name:
            raise ValueError("no name")
        sides = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        if None in sides:
            raise ValueError("no bndbox with xmin, ymin, xmax, ymax")
        left, top, right, bottom = (number(side) for side in sides)
    except ValueError as error:
        annotated.fault("unreadable entry", scene.told_in, f"object {place}: {error}")
        return
    if right <= left or bottom <= top:  # as written: once pixels are counted from 0 it would be one pixel large
        annotated.fault("zero area", scene.told_in, f"object {place}, {name}: {left:g} {top:g} {right:g} {bottom:g}")
        return
    scene.instances.append(Instance(name, (left, top, right, bottom)))


def _from_zero(instance: Instance) -> Instance:
    left, top, right, bottom = instance.box
    return Instance(instance.name, (left - 1, top - 1, right, bottom))
