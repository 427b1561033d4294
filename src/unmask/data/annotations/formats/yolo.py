"""YOLO's text files: a YAML names classes and splits, labels/ mirrors images/, a line is one object in shares of the
image: `class centre-x centre-y width height`, or `class x y x y x y ...` for a polygon.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unmask.data.annotations.form import Form
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.maps import Maps, described
from unmask.data.annotations.objects import Annotated, Instance, Scene, number, walk
from unmask.data.annotations.rasterize import Rasterised
from unmask.data.labels import SPLITS, is_image_name, natural, some
from unmask.errors import DataError, UserError

__all__ = ["Yolo"]
HOW = "it needs names (a list, or number: name) and train"


class Yolo(Form):
    form, takes = "yolo", "YOLO (a .yaml with names and train, labels/*.txt)"

    @staticmethod
    def find(root: str) -> list[str]:
        """YAML files with names and train, at the root; else one folder deep."""
        ends = (".yaml", ".yml")
        if os.path.isfile(root):
            return [root] if root.lower().endswith(ends) else []
        for depth in (0, 1):
            paths = list(walk(root, lambda name: name.lower().endswith(ends), depth))
            if found := [path for path in paths if _fits(path)]:
                return found
        return []

    @staticmethod
    def read(root: str, files: Sequence[str], images: str | None) -> Annotated:
        """Raises UserError for several files of which one must be chosen, DataError for one that says too little."""
        if len(files) > 1:
            raise UserError(f"{some(list(files), 3)} may each be meant: name one of them with --on")
        found, file = Annotated("yolo", [], [], []), files[0]
        try:
            content = _open(file)
            names = _names(content)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"{file} cannot be used: {' '.join(str(error).split())}; {HOW}") from error
        found.ids, found.classes = sorted(names), [names[id_] for id_ in sorted(names)]
        for key, split in SPLITS.items():
            for entry in _entries(content.get(key)):
                _split(found, file, content, entry, split, names, images)
        if not found.scenes or (content.get("train") and not any(scene.split == "train" for scene in found.scenes)):
            image_files = "training images" if found.scenes else "images"
            raise DataError(f"{file} leads to no {image_files}{_why(found)}; name their folder with --images")
        return found

    @staticmethod
    def holds_maps(place: Path) -> bool:
        return not described(place) and bool(Yolo.find(str(place)))

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        annotated = Yolo.read(str(place), Yolo.find(str(place)), None if images is None else str(images))
        return Rasterised("yolo", place, [annotated], legend)


def _why(found: Annotated) -> str:
    return f" ({found.faults[0].kind}: {found.faults[0].file})" if found.faults else ""


def _fits(path: str) -> bool:
    try:
        content = _open(path)
    except (OSError, ValueError, yaml.YAMLError):
        with open(path, "rb") as file:
            return b"names" in file.read()  # a broken one must be named, not passed over
    return bool({"names", "nc"} & content.keys()) and any(isinstance(content.get(k), str | list) for k in SPLITS)


def _open(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8-sig") as file:
        content = yaml.safe_load(file)
    if not isinstance(content, dict):
        raise ValueError("it holds no names")
    return content


def _names(content: dict[str, Any]) -> dict[int, str]:
    names = content.get("names")
    if names is None and content.get("nc"):
        names = [str(i) for i in range(int(content["nc"]))]
    if not isinstance(names, dict | list | type(None)):
        raise ValueError(f"its names are {names!r}, neither a list nor numbers with names")
    pairs = list(names.items()) if isinstance(names, dict) else list(enumerate(names or ()))
    found = {int(id_): str(name).strip() for id_, name in pairs if name is not None}
    if len(found) < len(pairs):
        raise ValueError("one of its names is empty")
    if not found or len(set(found.values())) < len(found):
        raise ValueError("its names are missing, or two classes share one")
    return found


def _entries(value: object) -> list[str]:
    entries = value if isinstance(value, list) else [value] if value else []
    return [str(entry).replace("\\", "/") for entry in entries]


def _split(
    found: Annotated, file: str, content: dict[str, Any], entry: str, split: str, names: dict[int, str],
    images: str | None,
) -> None:  # fmt: skip
    folder = os.path.dirname(os.path.abspath(file))
    path = os.path.join(folder, str(content.get("path") or ""))
    roots = [images, path, folder, os.path.dirname(folder)]
    tries = [os.path.normpath(os.path.join(root, entry)) for root in roots if root]
    if entry.startswith("../"):  # Roboflow writes ../train/images where the folder is beside the file
        tries.append(os.path.normpath(os.path.join(path, entry[3:])))
    place = next((p for p in tries if os.path.exists(p)), "")
    if not place and images and os.path.isdir(images):
        place = os.path.join(images, os.path.basename(entry)) if os.path.isdir(images) else ""
        place = place if os.path.isdir(place) else images
    if not place:
        found.fault("missing folder", entry, f"the {split} split of {file}", of="file")
        return
    own = [os.path.normpath(os.path.join(root, entry)) for root in (path, folder)]
    if place not in own:
        found.remarks.append(f"{own[0]} is not there: the {split} images are taken from {place}")
    if os.path.isfile(place):
        with open(place, encoding="utf-8-sig", errors="replace") as lines:
            listed_ = [line.strip().replace("\\", "/") for line in lines if line.strip() and not line.startswith("#")]
        below = [os.path.dirname(place), path, folder]
        image_files = [(_first(below, line), line, [own[0]]) for line in dict.fromkeys(listed_)]
    else:
        paths = sorted(walk(place, is_image_name), key=natural)
        image_files = [(p, os.path.relpath(p, place), [*own, place]) for p in paths]
    for image, name, folders in image_files:
        if image is None or not os.path.isfile(image):
            found.fault("missing image", name, f"named in {place}", of="image")
            continue
        inside = name if os.path.isdir(place) else None
        label = _label_file(image, inside, folders)
        scene = Scene(image, os.path.basename(image), split, [], label or image, relative=True)
        found.scenes.append(scene)
        if label is None:
            found.fault("no label file", image, "counts as empty", of="nothing")
        else:
            _read(found, scene, label, names)


def _first(folders: list[str], name: str) -> str | None:
    return next((p for f in folders if os.path.isfile(p := os.path.normpath(os.path.join(f, name)))), None)


def _label_file(image: str, inside: str | None, folders: list[str]) -> str | None:
    """labels/ mirrors images/: the last folder named images in the image's path, or in the one the YAML names."""
    stems = [image] if inside is None else [os.path.join(folder, inside) for folder in folders]
    for stem in map(os.path.abspath, [*stems, image]):
        stem = os.path.splitext(stem)[0] + ".txt"
        before, found, after = stem.rpartition(f"{os.sep}images{os.sep}")
        for path in ([f"{before}{os.sep}labels{os.sep}{after}"] if found else []) + [stem]:
            if os.path.isfile(path):
                return path
    return None


def _read(found: Annotated, scene: Scene, label: str, names: dict[int, str]) -> None:
    try:
        with open(label, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found.fault("unreadable file", label, str(error), of="image")
        found.scenes.pop()  # it came last
        return
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            id_, *values = (number(v) for v in line.split())
            if id_ != int(id_):
                raise ValueError("the class is no whole number")
            if int(id_) not in names:
                found.fault("unknown class", label, f"line {place}: class {int(id_)}")
                continue
            scene.instances.append(_instance(names[int(id_)], values))
        except ValueError as error:
            found.fault("unreadable line", label, f"line {place}: {error}")


def _instance(name: str, values: list[float]) -> Instance:
    if len(values) == 4:
        x, y, width, height = values
        return Instance(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers behind the class: a box has 4, a polygon 6 or more in pairs")
    xs, ys = values[0::2], values[1::2]
    return Instance(name, (min(xs), min(ys), max(xs), max(ys)), (tuple(values),))
