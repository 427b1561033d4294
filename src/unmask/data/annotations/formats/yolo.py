"""YOLO's text files: a YAML names classes and splits, labels/ mirrors images/, a line is one object in shares of the
image: `class centre-x centre-y width height`, or `class x y x y x y ...` for a polygon. With kpt_shape in the YAML,
keypoints stand behind the box, and are not read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unmask.data.annotations.form import Form
from unmask.data.annotations.legend import Legend, parse_yaml
from unmask.data.annotations.maps import Maps, described
from unmask.data.annotations.objects import Annotated, Images, Instance, Scene, number, walk
from unmask.data.annotations.rasterize import Rasterised
from unmask.data.labels import class_name, is_image_name, natural, some
from unmask.data.names import SPLITS, as_spelled
from unmask.errors import DataError, UserError
from unmask.files import Json

__all__ = ["Yolo"]
MOST_CLASSES = 1_000_000
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
            if fitting := [path for path in paths if _fits(path)]:
                return fitting
        return []

    @staticmethod
    def read(root: str, files: Sequence[str], images: str | None) -> Annotated:
        """Raises UserError for several files of which one must be chosen, DataError for one that says too little."""
        if len(files) > 1:
            raise UserError(f"{some(list(files), 3)} may each be meant: name one of them with --on")
        annotated, file = Annotated("yolo", [], [], []), files[0]
        try:
            content = _open(file)
            lines = _Lines(_names(content), _numbers_of_keypoints(content))
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be used: {' '.join(str(error).split())}; {HOW}") from error
        annotated.ids, annotated.classes = sorted(lines.names), [lines.names[id_] for id_ in sorted(lines.names)]
        for key, split in SPLITS.items():
            for entry in _entries(content.get(key)):
                _split(annotated, file, content, entry, split, lines, images)
        trained_on = any(scene.split == "train" for scene in annotated.scenes)
        if not annotated.scenes or (content.get("train") and not trained_on):
            image_files = "training images" if annotated.scenes else "images"
            raise DataError(f"{file} leads to no {image_files}{_why(annotated)}; name their folder with --images")
        if lines.keypoints:
            annotated.remarks.append("lines hold keypoints (kpt_shape), which are not learnt: their boxes are")
        elif content.get("task") != "segment" and _may_be_keypoints(lines.long):
            raise DataError(
                f"the lines of {file} may be boxes with keypoints or outlines: write kpt_shape into it, e.g. kpt_shape:"
                " [17, 3], or for outlines task: segment"
            )
        return annotated

    @staticmethod
    def holds_maps(place: Path) -> bool:
        return not described(place) and bool(Yolo.find(str(place)))

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        annotated = Yolo.read(str(place), Yolo.find(str(place)), None if images is None else str(images))
        return Rasterised("yolo", place, annotated, legend)


def _why(annotated: Annotated) -> str:
    return f" ({annotated.faults[0].kind}: {annotated.faults[0].file})" if annotated.faults else ""


def _fits(path: str) -> bool:
    try:
        content = _open(path)
    except (OSError, ValueError):
        with open(path, "rb") as file:
            return b"names" in file.read()  # a broken one must be named, not passed over
    return bool({"names", "nc"} & content.keys()) and any(isinstance(content.get(k), str | list) for k in SPLITS)


def _open(path: str) -> Json:
    with open(path, encoding="utf-8-sig") as file:
        content = parse_yaml(file.read())
    if not isinstance(content, dict):
        raise ValueError("it holds no names")
    return content


def _names(content: Json) -> dict[int, str]:
    names = content.get("names")
    if names is None and content.get("nc"):
        if not 0 < int(content["nc"]) <= MOST_CLASSES:
            raise ValueError(f"nc is {content['nc']!r}: 1 to {MOST_CLASSES:,} classes are read")
        names = [str(i) for i in range(int(content["nc"]))]
    if not isinstance(names, dict | list | type(None)):
        raise ValueError(f"its names are {names!r}, neither a list nor numbers with names")
    pairs = list(names.items()) if isinstance(names, dict) else list(enumerate(names or ()))
    class_names = {int(id_): class_name(name) for id_, name in pairs if name is not None}
    if len(class_names) < len(pairs):
        raise ValueError("one of its names is empty")
    if not class_names or len(set(class_names.values())) < len(class_names):
        raise ValueError("its names are missing, or two classes share one")
    return class_names


@dataclass
class _Lines:
    """What lines hold: the names of classes, and how many numbers of keypoints stand behind a box, if any do."""

    names: dict[int, str]
    keypoints: int = 0
    long: list[list[float]] = field(default_factory=list)  # lines with more numbers than a box has


def _numbers_of_keypoints(content: Json) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in (2, 3) or not isinstance(shape[0], int):
        raise ValueError(f"its kpt_shape is {shape!r}, not [number of keypoints, 2 or 3]")
    return shape[0] * shape[1]


def _may_be_keypoints(lines: list[list[float]]) -> bool:
    """Whether lines that nothing says are keypoints may be: all alike long, and visibilities of 0, 1 and 2 stand where
    they would; or without these, all that would be keypoints lie in what would be their box."""
    if not lines or len({len(values) for values in lines}) > 1:
        return False
    many, size = len(lines) >= 10, len(lines[0]) - 4
    if size % 3 == 0:
        visibilities = {v for values in lines for v in values[6::3]}
        if visibilities <= {0, 1, 2} and (many or 2 in visibilities):
            return True
    return many and size % 2 == 0 and all(map(_lie_in_box, lines))


def _lie_in_box(values: list[float]) -> bool:
    (x, y, width, height), points = values[:4], list(zip(values[4::2], values[5::2]))
    if x - width / 2 < -0.01 or y - height / 2 < -0.01 or x + width / 2 > 1.01 or y + height / 2 > 1.01:
        return False
    return all(abs(a - x) <= width / 2 + 0.01 and abs(b - y) <= height / 2 + 0.01 for a, b in points if a or b)


def _entries(value: object) -> list[str]:
    entries = value if isinstance(value, list) else [value] if value else []
    return [str(entry).replace("\\", "/") for entry in entries]


def _split(
    annotated: Annotated, file: str, content: Json, entry: str, split: str, lines: _Lines,
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
        annotated.fault("missing folder", entry, f"the {split} split of {file}", of="file")
        return
    own = [os.path.normpath(os.path.join(root, entry)) for root in (path, folder)]
    if place not in own:
        annotated.remarks.append(f"{own[0]} is not there: the {split} images are taken from {place}")
    if os.path.isfile(place):
        with open(place, encoding="utf-8-sig", errors="replace") as file_:
            listed_ = [line.strip().replace("\\", "/") for line in file_ if line.strip() and not line.startswith("#")]
        below = [os.path.dirname(place), path, folder]
        listed = {line: _first(below, line) for line in dict.fromkeys(listed_)}
        rest = Images([path, folder]).match([line for line, image in listed.items() if image is None], [split])
        annotated.remarks += rest.remarks(f"images of {entry} are found")
        image_files = [(image or rest.files.get(line), line, [own[0]]) for line, image in listed.items()]
    else:
        paths = sorted(walk(place, is_image_name), key=natural)
        image_files = [(p, os.path.relpath(p, place), [*own, place]) for p in paths]
    used: set[str] = set()
    for image, name, folders in image_files:
        if image is None or not os.path.isfile(image):
            annotated.fault("missing image", name, f"named in {place}", of="image")
            continue
        inside = name if os.path.isdir(place) else None
        label = _label_file(image, inside, folders)
        used.add(label or "")
        scene = Scene(image, os.path.basename(image), split, [], label or image, relative=True)
        annotated.scenes.append(scene)
        if label is None:
            annotated.fault("no label file", image, "counts as empty", of="nothing")
        else:
            _read(annotated, scene, label, lines)
    if os.path.isdir(place):
        _say_unused(annotated, place, used)


def _say_unused(annotated: Annotated, place: str, used: set[str]) -> None:
    """Label files that mirror a folder of images, and belong to none of them."""
    before, images, after = f"{os.path.abspath(place)}{os.sep}".rpartition(f"{os.sep}images{os.sep}")
    if images:
        labels = os.path.join(before, "labels", after)
        for path in walk(labels, lambda name: name.lower().endswith(".txt")):
            if path not in used and os.path.basename(path) not in ("classes.txt", "labels.txt"):
                annotated.fault("label file without image", path, "is not used", of="nothing")


def _first(folders: list[str], name: str) -> str | None:
    paths = (as_spelled(os.path.normpath(os.path.join(folder, name))) for folder in folders)
    return next(filter(None, paths), None)


def _label_file(image: str, inside: str | None, folders: list[str]) -> str | None:
    """labels/ mirrors images/: the last folder named images in the image's path, or in the one the YAML names."""
    stems = [image] if inside is None else [os.path.join(folder, inside) for folder in folders]
    for stem in map(os.path.abspath, [*stems, image]):
        stem = os.path.splitext(stem)[0] + ".txt"
        before, separator, after = stem.rpartition(f"{os.sep}images{os.sep}")
        for path in ([f"{before}{os.sep}labels{os.sep}{after}"] if separator else []) + [stem]:
            if label := as_spelled(path):
                return label
    return None


def _read(annotated: Annotated, scene: Scene, label: str, lines: _Lines) -> None:
    try:
        with open(label, encoding="utf-8-sig") as file:
            rows = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        annotated.fault("unreadable file", label, str(error), of="image")
        annotated.scenes.pop()  # it came last
        return
    for place, line in enumerate(rows, 1):
        if not line.strip():
            continue
        try:
            id_, *values = (number(v) for v in line.split())
            if id_ != int(id_):
                raise ValueError("the class is no whole number")
            if len(values) > 4:
                lines.long.append(values)
            if int(id_) not in lines.names:
                annotated.fault("unknown class", label, f"line {place}: class {int(id_)}")
                continue
            scene.instances.append(_instance(lines.names[int(id_)], values, lines.keypoints))
        except ValueError as error:
            annotated.fault("unreadable line", label, f"line {place}: {error}")


def _instance(name: str, values: list[float], keypoints: int) -> Instance:
    if keypoints:
        if len(values) not in (4, 4 + keypoints):
            raise ValueError(f"{len(values)} numbers behind the class: a box has 4, with keypoints {4 + keypoints}")
        values = values[:4]
    if len(values) == 4:
        x, y, width, height = values
        return Instance(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers behind the class: a box has 4, a polygon 6 or more in pairs")
    xs, ys = values[0::2], values[1::2]
    return Instance(name, (min(xs), min(ys), max(xs), max(ys)), (tuple(values),))
