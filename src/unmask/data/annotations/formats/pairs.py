"""An image and a mask of the same name, in the folders that people have.

train/ + trainannot/ (CamVid, SegNet), images/ + masks/ with or without splits inside, train/images + train/masks,
JPEGImages/ + SegmentationClass/ (Pascal VOC, with its ImageSets), a.jpg + a_mask.png or a.png side by side.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unmask import registry
from unmask.data.annotations.form import Form
from unmask.data.annotations.legend import Legend, find_legend
from unmask.data.annotations.maps import Maps, described, images_below, split_of_folders
from unmask.data.annotations.mask_files import read_truth
from unmask.data.annotations.objects import Scene
from unmask.data.labels import printable, split_of
from unmask.data.source import read_regular
from unmask.errors import DataError

__all__ = ["Pairs"]

IMAGES = {"image", "images", "img", "imgs", "jpegimages", "picture", "pictures", "photo", "photos", "rgb", "input"}
IMAGES |= {"inputs"}
_WORD = (
    r"masks?|labels?|annot|annotations?|gt|groundtruth|ground_truth|seg|segs|segmentations?|segmentationclass|targets?"
)
_FOLDER = re.compile(rf"(?:(.*?)[._-])?(?:{_WORD})|(.+?)(?:annot|annotations|masks|labels)")
_NAME = re.compile(r"(.+)[._-](?:mask|masks|l|gt|label|labels|seg|segmentation|annotation|truth|groundtruth)", re.I)
_CITYSCAPES = re.compile(r"(.+)_(?:leftImg8bit|gt(?:Fine|Coarse)_label(?:Train)?Ids)")
_LOSSY = (".jpg", ".jpeg")
Key = tuple[str, ...]


class Pairs(Form):
    form = "pairs"

    @staticmethod
    def holds_maps(place: Path) -> bool:
        told = described(place)
        if told:
            return any(split.masks is not None and split.annotations is None for split in told)
        return (
            place.is_dir()
            and not registry.find("annotations", "yolo").find(str(place))
            and bool(_sides(images_below(place))[1])
        )

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        return PairedMaps(place, images, legend)


@dataclass
class Matched:
    """What one pair of folders gave."""

    scenes: list[Scene] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)  # name, reason


class PairedMaps(Maps):
    def __init__(self, place: Path, images: Path | None, legend: Legend | None):
        root = place if place.is_dir() else place.parent
        super().__init__("pairs", place, legend or find_legend(root) or Legend())
        told = [split for split in described(place) if split.masks is not None]
        if told:
            matched = [_folders(images or split.images, split.masks, split.split) for split in told]
        elif images is not None:
            matched = [_folders(images, root, None)]
        else:
            paths = images_below(root)
            shown, truths = _sides(paths)
            _by_key([path for path in paths if _in_truth_folder(path)])
            matched = [_matched(root, root, shown, truths)]
        self.scenes = [scene for part in matched for scene in part.scenes]
        self.lost = [pair for part in matched for pair in part.lost]
        if not self.scenes:
            counts = f"{len(self.lost):,} images and masks"
            raise DataError(f"no image in {place} has a mask of its name: {counts} without partner")
        _leave_out_empty_splits(self)
        _keep_listed(self, root)

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        assert scene.mask is not None
        return read_truth(read_regular(scene.mask), self.legend)


def _folders(images: Path | None, masks: Path | None, split: str | None) -> Matched:
    """Two folders that are named: one of images, one of masks."""
    assert masks is not None
    if images is None or not images.is_dir() or not masks.is_dir():
        raise DataError(f"images in {images}, masks in {masks}: there is no such folder")
    shown = {_key(path): path for path in images_below(images)}
    matched = _matched(images, masks, shown, _by_key(images_below(masks)))
    if split is not None:
        for scene in matched.scenes:
            scene.name, scene.split = f"{split}/{scene.name}", split
    return matched


def _sides(paths: list[str]) -> tuple[dict[Key, str], dict[Key, str]]:
    """Images and masks by what they have in common: folders without those that only say which it is, and the stem."""
    truths = {_key(path): path for path in paths if _in_truth_folder(path)}
    rest = [path for path in paths if not _in_truth_folder(path)]
    groups: dict[Key, list[str]] = {}
    for path in rest:
        groups.setdefault(_key(path), []).append(path)
    if not truths:  # side by side
        for key, same in list(groups.items()):
            match = _NAME.fullmatch(key[-1])
            if match and (*key[:-1], match[1]) in groups:
                truths[(*key[:-1], match[1])] = groups.pop(key)[0]
            elif len(same) == 2 and sum(path.lower().endswith(_LOSSY) for path in same) == 1:
                lossy = next(path for path in same if path.lower().endswith(_LOSSY))
                truths[key] = next(path for path in same if path != lossy)
                groups[key] = [lossy]
    return {key: same[0] for key, same in groups.items()}, truths


def _key(path: str) -> Key:
    *folders, name = path.split("/")
    kept = []
    for folder in folders:
        match = _FOLDER.fullmatch(folder.lower())
        left = (match[1] or match[2] or "") if match else "" if folder.lower() in IMAGES else folder
        stem = re.sub(r"[._-]?(images?|imgs?)$", "", left.lower()) if left else ""
        kept += [split_of(left, whole=True) or stem or left] if left else []
    stem = name.rsplit(".", 1)[0]
    city = _CITYSCAPES.fullmatch(stem)
    return (*kept, city[1] if city else stem)


def _by_key(masks: list[str]) -> dict[Key, str]:
    """Raises DataError where two masks are for one image: which is meant cannot be known."""
    found: dict[Key, str] = {}
    for path in masks:
        other = found.setdefault(_key(path), path)
        if other != path:
            raise DataError(
                f"{printable(other)} and {printable(path)} are masks of one image: keep the one that is meant"
            )
    return found


def _in_truth_folder(path: str) -> bool:
    return any(_FOLDER.fullmatch(folder.lower()) for folder in path.split("/")[:-1])


def _matched(of_shown: Path, of_truths: Path, shown: dict[Key, str], truths: dict[Key, str]) -> Matched:
    truths = {_match(key, shown): path for key, path in truths.items()}
    by_stem = Counter(key[-1] for key in truths)
    alone = {key[-1]: key for key in truths if by_stem[key[-1]] == 1 and key not in shown}
    once = Counter(key[-1] for key in shown)
    matched, used = Matched(), set()
    for key, path in shown.items():
        other = key if key in truths else alone.get(key[-1]) if once[key[-1]] == 1 else None
        if other is None:
            matched.lost.append((printable(path), "has no mask"))
            continue
        used.add(other)
        split = split_of_folders(key[:-1]) or split_of_folders(other[:-1])
        mask = str(of_truths / truths[other])
        matched.scenes.append(Scene(str(of_shown / path), printable(path), split, mask=mask))
    matched.lost += [(printable(path), "is a mask without an image") for key, path in truths.items() if key not in used]
    return matched


def _match(key: Key, shown: dict[Key, str]) -> Key:
    """A mask's name may say that it is one: a_mask.png goes with a.jpg."""
    match = _NAME.fullmatch(key[-1])
    return (*key[:-1], match[1]) if key not in shown and match else key


def _leave_out_empty_splits(maps: Maps) -> None:
    """A split that has images and not one mask is kept back by whoever made the data, and is no mistake."""
    have = {scene.split for scene in maps.scenes}
    splits = [split_of_folders(name.split("/")[:-1]) if why == "has no mask" else None for name, why in maps.lost]
    lacking = Counter(split for split in splits if split is not None and split not in have)
    for split, count in lacking.items():
        maps.remarks.append(f"the {count:,} images of the {split} split have no masks at all: it is left out")
    maps.lost = [pair for pair, split in zip(maps.lost, splits) if split not in lacking]


def _keep_listed(maps: Maps, root: Path) -> None:
    """Pascal VOC says in text files which of its images are segmented, and in which split."""
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val", "test")}
    splits = {
        stem: split
        for split, file in lists.items()
        if file.is_file()
        for stem in file.read_text(encoding="utf-8").split()
    }
    if splits:
        maps.scenes = [scene for scene in maps.scenes if Path(scene.name).stem in splits]
        for scene in maps.scenes:
            scene.split = splits[Path(scene.name).stem]
        maps.lost = [(name, why) for name, why in maps.lost if Path(name).stem in splits]
