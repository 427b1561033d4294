"""Pairs of an image and a mask of the same name, in the usual folder layouts.

train/ + trainannot/ (CamVid, SegNet), images/ + masks/ with or without splits inside, train/images + train/masks,
JPEGImages/ + SegmentationClass/ (Pascal VOC, with its ImageSets), a.jpg + a_mask.png or a.png side by side, and masks
in a folder for each class: images/a.jpg + masks/cat/a.png.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from unmask import registry
from unmask.data.annotations.form import Form
from unmask.data.annotations.legend import NO_CLASS, Legend, find_legend, joined, renumbered
from unmask.data.annotations.maps import Maps, described, images_below, split_of_folders
from unmask.data.annotations.mask_files import read_truth
from unmask.data.annotations.objects import Scene
from unmask.data.annotations.pairing import (
    Keys,
    folders_apart,
    in_truth_folder,
    key_of_pair,
    keys_of,
    not_read,
    one_for_each,
    sides,
    truth_folder,
    without_suffix,
)
from unmask.data.codecs.image import BadImage
from unmask.data.labels import class_name, natural, printable, some
from unmask.data.names import SPLITS, Key, match_keys, plain, split_of
from unmask.data.regular_files import read_regular
from unmask.errors import DataError

__all__ = ["Pairs"]


class Pairs(Form):
    form = "pairs"

    @staticmethod
    def holds_maps(place: Path) -> bool:
        told = described(place)
        if told:
            return any(split.masks is not None and split.annotations is None for split in told)
        if not place.is_dir() or registry.find("annotations", "yolo").find(str(place)):
            return False
        panoptic = [folder for folder in registry.find("annotations", "panoptic").png_folders(place) if folder != place]
        truths = sides(images_below(place), [])[1]
        return any(not panoptic or not set((place / path).parents) & set(panoptic) for path in truths)

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        return PairedMaps(place, images, legend)


class PairedMaps(Maps):
    def __init__(self, place: Path, images: Path | None, legend: Legend | None):
        root = place if place.is_dir() else place.parent
        super().__init__("pairs", place, legend or Legend())
        told = [split for split in described(place) if split.masks is not None]
        for split in told:
            self._add_folders(images or split.images, split.masks, split.split)
        if not told and images is not None:
            self._add_folders(images, root, None)
        elif not told:
            self._add(root, root, *sides(self.below(root), self.remarks))
        if not self.scenes:
            counts = f"{len(self.lost):,} images and masks"
            first = "".join(f"; {name} {reason}" for name, reason in self.lost[:1])
            raise DataError(f"no image in {place} has a mask of its name: {counts} without partner{first}")
        _leave_out_empty_splits(self)
        _keep_listed(self, root)
        self._read_legends(root, legend)

    def below(self, root: Path) -> list[str]:
        """Files of images and masks, by their paths relative to `root`."""
        return images_below(root)

    def truth(self, scene: Scene, size: tuple[int, ...]) -> np.ndarray:
        if scene.class_masks:
            return _drawn(scene.class_masks, NO_CLASS if 0 in self.class_numbers.values() else 0)
        assert scene.mask is not None
        legend = self.legends.get(Path(scene.mask).parent) or self.legend
        truth = read_truth(read_regular(scene.mask), legend, self.nodata)
        for note in truth.notes:
            self.notes[note].add(scene.name)
        return renumbered(truth.numbers, legend, self.legend)

    def _add_folders(self, images: Path | None, masks: Path | None, split: str | None) -> None:
        """Two folders that are named: one of images, one of masks, which may hold that of the images."""
        if images is None or masks is None or not images.is_dir() or not masks.is_dir():
            raise DataError(f"images in {images}, masks in {masks}: there is no such folder")
        paths = self.below(masks)
        if masks.resolve() in images.resolve().parents:
            inside = images.resolve()
            paths = [path for path in paths if inside not in (masks / path).resolve().parents]
            if truths := [path for path in paths if in_truth_folder(path)]:
                beside = Counter(path.rpartition("/")[0] or "." for path in set(paths) - set(truths))
                self.remarks += [not_read(folder, "no folder of masks", n) for folder, n in sorted(beside.items())]
                paths = truths
        first = len(self.scenes)
        self._add(images, masks, keys_of(self.below(images)), keys_of(paths))
        if split is not None:
            for scene in self.scenes[first:]:
                scene.name, scene.split = f"{split}/{scene.name}", split

    def _add(self, of_images: Path, of_masks: Path, images: Keys, masks: Keys) -> None:
        by_key = {key: path for path, key in images.items()}
        masks = {path: without_suffix(key, by_key) for path, key in masks.items()}
        by_class = _class_masks(by_key, masks)
        if by_class and _show_one_class_each(of_masks, by_class):
            self._add_class_masks(of_images, of_masks, images, by_class)
            used = {path for paths in by_class.values() for path in paths.values()}
            self.lost += [(printable(path), "is in no folder of a class") for path in masks if path not in used]
            return
        matches = match_keys(masks, images)
        self.remarks += matches.remarks("masks are found")
        mask_of = one_for_each(matches.files, "are masks of one image: keep the one that is meant")
        for image, key in images.items():
            if image not in mask_of:
                self.lost.append((printable(image), "has no mask"))
                continue
            split = split_of_folders(key[:-1]) or split_of_folders(masks[mask_of[image]][:-1])
            self.scenes.append(
                Scene(str(of_images / image), printable(image), split, mask=str(of_masks / mask_of[image]))
            )
        alone = [path for path in masks if path not in matches.files]
        beside = folders_apart(alone, matches.files)
        self.remarks += [not_read(folder, "no mask there has an image", count) for folder, count in beside.items()]
        for path in alone:
            if truth_folder(path) not in beside:
                why = matches.why_not(path)
                self.lost.append((printable(path), f"is a mask without an image{why and f' ({why})'}"))

    def _add_class_masks(
        self, of_images: Path, of_masks: Path, images: Keys, by_class: Mapping[str, Mapping[str, str]]
    ) -> None:
        names = sorted({name for paths in by_class.values() for name in paths}, key=natural)
        if all(name.isdecimal() for name in names):
            self.class_numbers = {name: int(name) for name in names}
        else:
            ground = [name for name in names if name.lower() == "background"]
            others = [name for name in names if name not in ground]
            self.class_numbers = dict.fromkeys(ground, 0) | {name: i for i, name in enumerate(others, 1)}
        self.remarks.append(
            f"masks lie in a folder for each class: {some(names)}; of those that overlap the smaller counts"
        )
        for image, key in images.items():
            if image not in by_class:
                self.lost.append((printable(image), "has no mask"))
                continue
            paths = {self.class_numbers[name]: str(of_masks / path) for name, path in by_class[image].items()}
            split = split_of_folders(key[:-1])
            self.scenes.append(Scene(str(of_images / image), printable(image), split, class_masks=paths))

    def _read_legends(self, root: Path, legend: Legend | None) -> None:
        """A file that names the classes may lie at the root, or in a split's own folder and number them anew."""
        self.legends: dict[Path, Legend] = {}
        if self.scenes and self.scenes[0].class_masks:
            ground = {} if 0 in self.class_numbers.values() else {0: "background"}
            self.legend = Legend(ground | {number: name for name, number in self.class_numbers.items()}, {}, self.where)
        elif legend is None:
            for folder in dict.fromkeys(Path(str(scene.mask)).parent for scene in self.scenes):
                if nearest := _nearest_legend(folder, root):
                    self.legends[folder] = nearest
            self.legend = joined(list(self.legends.values()) or [Legend()], self.remarks)


def _class_masks(images: Mapping[Key, str], masks: Keys) -> dict[str, dict[str, str]]:
    """Masks of each image by class, where they lie in a folder for each class; nothing where they do not."""
    by_image: dict[str, dict[str, str]] = defaultdict(dict)
    if any(key in images for key in masks.values()):
        return {}
    for path, key in masks.items():
        for place in (len(key) - 2, 0):
            image = images.get((*key[:place], *key[place + 1 :])) if len(key) > 1 else None
            if image is not None and key[place] not in SPLITS:
                folder = next((f for f in path.split("/") if key[place] == plain(f).lower()), key[place])
                by_image[image][class_name(folder)] = path
                break
    return dict(by_image) if len({name for paths in by_image.values() for name in paths}) > 1 else {}


def _show_one_class_each(root: Path, by_image: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether masks in several folders can be of one class each: an image has several, or the first of every folder has
    no more than two numbers."""
    if any(len(paths) > 1 for paths in by_image.values()):
        return True
    firsts = {name: path for paths in by_image.values() for name, path in paths.items()}
    return all(_shows_one_class(root / path) for path in firsts.values())


def _shows_one_class(mask: Path) -> bool:
    try:
        return len(np.unique(read_truth(read_regular(str(mask)), Legend()).numbers)) <= 2
    except (BadImage, OSError):
        return True


def _drawn(paths: Mapping[int, str], ground: int) -> np.ndarray:
    """The map of masks that show one class each. Raises BadImage where their sizes differ."""
    shapes = {number: read_truth(read_regular(path), Legend()).numbers for number, path in paths.items()}
    size = next(iter(shapes.values())).shape
    numbers = np.full(size, ground, dtype=np.int32)
    areas = {number: values > max(0, int(values.max()) // 2) for number, values in shapes.items()}
    for number, area in sorted(areas.items(), key=lambda pair: -int(pair[1].sum())):
        if area.shape != size:
            raise BadImage(f"has masks of {size[0]} x {size[1]} and {area.shape[0]} x {area.shape[1]}")
        numbers[area] = number
    return numbers


def _nearest_legend(folder: Path, root: Path) -> Legend | None:
    places = [folder, *folder.parents]
    places = places[: places.index(root) + 1] if root in places else [folder, folder.parent, root]
    return next((legend for place in places if (legend := find_legend(place))), None)


def _leave_out_empty_splits(maps: Maps) -> None:
    """A split that has images and not one mask is kept back by whoever made the data, and is no mistake."""
    splits_with_masks = {scene.split for scene in maps.scenes}
    splits = [split_of_folders(name.split("/")[:-1]) if why == "has no mask" else None for name, why in maps.lost]
    lacking = Counter(split for split in splits if split is not None and split not in splits_with_masks)
    for split, count in lacking.items():
        maps.remarks.append(f"the {count:,} images of the {split} split have no masks at all: it is left out")
    maps.lost = [pair for pair, split in zip(maps.lost, splits) if split not in lacking]


def _keep_listed(maps: Maps, root: Path) -> None:
    """Pascal VOC says in text files which of its images are segmented, and in which split; CVAT has a default.txt."""
    files = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
    by_split = {file: split_of(file.stem, whole=True) for file in files}
    if any(by_split.values()):
        files = [file for file in files if by_split[file]]
    splits: dict[str, str | None] = {}
    for file in sorted(files, key=lambda file: ("train", "val", "test", None).index(by_split[file])):
        for line in file.read_text(encoding="utf-8-sig").splitlines():
            if line.strip():
                splits.setdefault(line.strip(), by_split[file])
    if not splits:
        return
    scenes, lost = {scene.name: scene for scene in maps.scenes}, dict(maps.lost)
    matches = match_keys({id_: key_of_pair(f"{id_}.") for id_ in splits}, keys_of([*scenes, *lost]))
    listed = {name: splits[id_] for id_, name in matches.files.items()}
    left_out = [name for name in scenes if name not in listed]
    if left_out:
        maps.remarks.append(f"{len(left_out):,} images are in no list of ImageSets/Segmentation and are left out")
    maps.scenes = [replace(scene, split=listed[name]) for name, scene in scenes.items() if name in listed]
    maps.lost = [(name, why) for name, why in maps.lost if name in listed]
    maps.lost += [
        (id_, "is in a list of ImageSets/Segmentation and is not there") for id_ in splits if id_ not in matches.files
    ]
    if not maps.scenes:
        raise DataError(f"no image that the lists in {root / 'ImageSets' / 'Segmentation'} name is there")
