"""An image and a mask of the same name, in the folders that people have.

train/ + trainannot/ (CamVid, SegNet), images/ + masks/ with or without splits inside, train/images + train/masks,
JPEGImages/ + SegmentationClass/ (Pascal VOC, with its ImageSets), a.jpg + a_mask.png or a.png side by side.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from unmask.data.annotations.legend import Legend, find_legend
from unmask.data.annotations.mask_files import read_truth
from unmask.data.annotations.semantic import Found, Scene, Scenes, described, images_below, split_of
from unmask.data.labels import printable
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


class Pairs(Scenes):
    def __init__(self, place: Path, images: Path | None = None, legend: Legend | None = None):
        root = place if place.is_dir() else place.parent
        self.where, self.legend = str(place), legend or find_legend(root) or Legend()
        told = [split for split in described(place)[0] if split.masks is not None]
        if told:
            found = [self._folders(images or split.images, split.masks, split.split) for split in told]
        elif images is not None:
            found = [self._folders(images, root, None)]
        else:
            paths = images_below(root)
            shown, truths = _sides(paths)
            _by_key([path for path in paths if _in_truth_folder(path)])
            found = [_paired(root, root, shown, truths)]
        scenes = [scene for each in found for scene in each.scenes]
        if not scenes:
            counts = f"{sum(len(each.lost) for each in found):,} images and masks"
            raise DataError(f"no image in {place} has a mask of its name: {counts} without partner")
        self.found = _without_empty_splits(
            Found(scenes, [x for each in found for x in each.lost], [x for each in found for x in each.remarks])
        )
        _only_listed(self.found, root)

    @classmethod
    def accepts(cls, place: Path) -> bool:
        told = described(place)[0]
        if any(split.masks is not None and split.annotations is None for split in told):
            return True
        return place.is_dir() and not told and bool(_sides(images_below(place))[1])

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        return read_truth(read_regular(scene.truth), self.legend)

    @staticmethod
    def _folders(images: Path | None, masks: Path | None, split: str | None) -> Found:
        """Two folders that are told: one of images, one of masks."""
        assert masks is not None
        if images is None or not images.is_dir() or not masks.is_dir():
            raise DataError(f"images in {images}, masks in {masks}: there is no such folder")
        shown = {_key(path): path for path in images_below(images)}
        truths = _by_key(images_below(masks))
        found = _paired(images, masks, shown, truths)
        if split is not None:
            found.scenes = [Scene(f"{split}/{s.name}", s.image, s.truth, split) for s in found.scenes]
        return found


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
        kept += [split_of([left]) or stem or left] if left else []
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


def _paired(of_shown: Path, of_truths: Path, shown: dict[Key, str], truths: dict[Key, str]) -> Found:
    truths = {_match(key, shown): path for key, path in truths.items()}
    by_stem = Counter(key[-1] for key in truths)
    alone = {key[-1]: key for key in truths if by_stem[key[-1]] == 1 and key not in shown}
    once = Counter(key[-1] for key in shown)
    found, used = Found([]), set()
    for key, path in shown.items():
        other = key if key in truths else alone.get(key[-1]) if once[key[-1]] == 1 else None
        if other is None:
            found.lost.append((printable(path), "has no mask"))
            continue
        used.add(other)
        split = split_of(key[:-1]) or split_of(other[:-1])
        found.scenes.append(Scene(printable(path), str(of_shown / path), str(of_truths / truths[other]), split))
    found.lost += [(printable(path), "is a mask without an image") for key, path in truths.items() if key not in used]
    return found


def _match(key: Key, shown: dict[Key, str]) -> Key:
    """A mask's name may say that it is one: a_mask.png goes with a.jpg."""
    match = _NAME.fullmatch(key[-1])
    return (*key[:-1], match[1]) if key not in shown and match else key


def _without_empty_splits(found: Found) -> Found:
    """A split that has images and not one mask is kept back by whoever made the data, and is no mistake."""
    have = {scene.split for scene in found.scenes}
    lacking = Counter(
        split
        for name, reason in found.lost
        if reason == "has no mask" and (split := split_of(name.split("/")[:-1])) not in have and split is not None
    )
    for split, count in lacking.items():
        found.remarks.append(f"the {count:,} images of the {split} split have no masks at all: it is left out")
    found.lost = [
        (name, reason)
        for name, reason in found.lost
        if not (reason == "has no mask" and split_of(name.split("/")[:-1]) in lacking)
    ]
    return found


def _only_listed(found: Found, root: Path) -> None:
    """Pascal VOC says in text files which of its images are segmented, and in which split."""
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val", "test")}
    told = {
        stem: split
        for split, file in lists.items()
        if file.is_file()
        for stem in file.read_text(encoding="utf-8").split()
    }
    if told:
        stems = {scene.name: Path(scene.name).stem for scene in found.scenes}
        found.scenes = [
            Scene(s.name, s.image, s.truth, told[stems[s.name]]) for s in found.scenes if stems[s.name] in told
        ]
        found.lost = [(name, why) for name, why in found.lost if Path(name).stem in told]
