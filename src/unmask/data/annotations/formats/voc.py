"""Pascal VOC's XML: Annotations/*.xml, JPEGImages/, ImageSets/Main/{train,val,test}.txt. Everingham et al. 2010.

Its pixels count from 1 and xmax, ymax are inside the box, so 1 is subtracted from left and top. Data in which some xmin
or ymin is 0 counts from 0, and nothing is subtracted.
"""

import os
import posixpath
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from unmask.data.annotations.form import Form
from unmask.data.annotations.objects import DEPTH, Annotated, Images, Instance, Scene, number, walk
from unmask.data.labels import class_name, natural
from unmask.data.names import Key, key_of, match_keys, plain, split_of
from unmask.errors import DataError

__all__ = ["Voc"]
SETS = ("train", "val", "test")
MOST_BYTES = 16 << 20  # of one image's XML


class Voc(Form):
    form, takes = "voc", "Pascal VOC (Annotations/*.xml)"

    @staticmethod
    def find(root: str) -> list[str]:
        """Folders with XML files: Annotations, whose folders mirror those of the images, or those that hold the images
        too."""
        if os.path.isfile(root):
            return []
        folders = {os.path.dirname(path) for path in walk(root, _is_xml, depth=3)}
        named = {above for folder in folders if (above := _annotations(folder))}
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
    depth = DEPTH if _annotations(folder) == folder else 0
    paths = {_id(os.path.relpath(path, folder)): path for path in walk(folder, _is_xml, depth)}
    splits = _splits(annotated, base, paths)
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
    texts = {id_: [(tree.findtext(tag) or "").strip() for tag in ("folder", "filename")] for id_, tree in trees.items()}
    named = {id_: _Named(folder, filename) for id_, (folder, filename) in texts.items()}
    image_paths, why_not = _find_images(annotated, named, paths.keys(), images)
    for id_, tree in trees.items():
        if id_ not in image_paths:
            why = f"named in {paths[id_]}" + (f"; {why_not[id_]}" if why_not.get(id_) else "")
            annotated.fault("missing image", named[id_].filename or id_, why, of="image")
            continue
        name = os.path.basename(image_paths[id_])
        scene = Scene(image_paths[id_], name, splits.get(id_, here), [], paths[id_], _size(tree))
        for place, entry in enumerate(tree.iter("object"), 1):
            _add(annotated, scene, entry, place)
        annotated.scenes.append(scene)


class _Named(NamedTuple):
    """What an annotation says inside of its image's place."""

    folder: str
    filename: str


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _annotations(folder: str) -> str | None:
    """The folder named Annotations that a folder is or lies in."""
    while os.path.basename(folder):
        if os.path.basename(folder).lower() == "annotations":
            return folder
        folder = os.path.dirname(folder)
    return None


def _key(id_: str) -> Key:
    return (*key_of(f"{id_}.")[:-1], posixpath.basename(id_))


def _id(path: str) -> str:
    """A path without its ending, in the one spelling of all its forms."""
    return os.path.splitext(plain(path))[0]


class _Builder(ET.TreeBuilder):
    """Refuses a document type: it declares entities, a few of which can stand for a billion letters."""

    def doctype(self, *declared: object) -> None:
        raise ValueError("it declares a document type (DTD), which is not read")


def _tree(path: str) -> ET.Element:
    """Raises ValueError or ET.ParseError for a file that is no annotation."""
    if (size := os.path.getsize(path)) > MOST_BYTES:
        raise ValueError(f"{size:,} bytes, more than the {MOST_BYTES:,} that are read of one image")
    return ET.parse(path, ET.XMLParser(target=_Builder())).getroot()


def _splits(annotated: Annotated, base: str, ids: Collection[str]) -> dict[str, str]:
    """The split of each id, from ImageSets; trainval is used if there is no train. An id keeps its first split."""
    sets = os.path.join(base, "ImageSets", "Main")
    files = {name: os.path.join(sets, f"{name}.txt") for name in (*SETS, "trainval")}
    files = {name: path for name, path in files.items() if os.path.isfile(path)}
    if "train" not in files and "trainval" in files:
        files["train"] = files["trainval"]
    splits: dict[str, str] = {}
    keys = {id_: _key(id_) for id_ in ids}
    for name in (name for name in SETS if name in files):
        with open(files[name], encoding="utf-8-sig", errors="replace") as file:
            lines = dict.fromkeys(_id(f"{line.strip()}.") for line in file if line.strip())
        first = {line: _id(f"{line.split()[0]}.") for line in lines}
        listed = {first[line] if line not in ids and first[line] in ids else line for line in lines}  # also `name  1`
        matches = match_keys({id_: _key(id_) for id_ in listed}, keys)
        for line in sorted(listed, key=natural):
            if line not in matches.files:
                why = matches.why_not(line)
                told = f"named in the {name} split{why and f'; {why}'}"
                annotated.fault("missing annotation", f"{line}.xml", told, of="image")
            elif splits.setdefault(id_ := matches.files[line], name) != name:
                annotated.fault("duplicate image", id_, f"of {name} is in {splits[id_]} already", of="nothing")
    return splits


def _find_images(
    annotated: Annotated, named: Mapping[str, _Named], ids: Collection[str], images: Images
) -> tuple[dict[str, str], dict[str, str]]:
    """Images by the annotation's own path, which people keep right when they rename, or else by the name inside, unless
    that is the name of another annotation; and what speaks against those that have the name of one that has none."""
    keys = {path: (*key[:-1], os.path.splitext(key[-1])[0]) for path, key in images.keys.items()}
    matches = match_keys({id_: _key(id_) for id_ in named}, keys)
    for id_, paths in matches.several.items():
        for inside in (f"{named[id_].folder}/{named[id_].filename}", named[id_].filename):
            fitting = [path for path in paths if f"/{plain(path)}".endswith(f"/{plain(inside)}")]
            if len(fitting) == 1:
                matches.files[id_] = fitting[0]
                break
    others = {id_: posixpath.join(posixpath.dirname(id_), name.filename) for id_, name in named.items()
              if id_ not in matches.files and id_ not in matches.several and name.filename}  # fmt: skip
    others = {id_: name for id_, name in others.items() if _id(name) not in ids}
    by_name = images.match(others.values())
    annotated.remarks += [*matches.remarks("images are found"), *by_name.remarks("images are found")]
    files = matches.files | {id_: by_name.files[name] for id_, name in others.items() if name in by_name.files}
    return files, {id_: matches.why_not(id_) or by_name.why_not(others.get(id_, "")) for id_ in named}


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
