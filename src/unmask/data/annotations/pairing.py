"""Which mask belongs to which image, by their folders and names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from unmask.data.annotations.maps import split_of_folders
from unmask.data.labels import printable
from unmask.data.names import IMAGE_FOLDERS, Key, plain, split_of
from unmask.errors import DataError

_WORD = (
    r"masks?|labels?|annot|annotations?|gt|groundtruth|ground_truth|seg|segs|segmentations?|segmentationclass|targets?"
)
_FOLDER = re.compile(rf"(?:(.*?)[._-])?(?:{_WORD})|(.+?)(?:annot|annotations|masks|labels)")
_NAME = re.compile(r"(.+)[._-](?:mask|masks|l|gt|label|labels|seg|segmentation|annotation|truth|groundtruth)", re.I)
_CITYSCAPES = re.compile(r"(.+)_(?:leftImg8bit|gt(?:Fine|Coarse)_label(?:Train)?Ids)")
_LOSSY = (".jpg", ".jpeg")
Keys = dict[str, Key]  # path -> what it has in common with its partner


def sides(paths: Sequence[str], remarks: list[str]) -> tuple[Keys, Keys]:
    """Images and masks by what they have in common: folders without those that only say which it is, and the stem.
    Folders that hold neither are said."""
    keys = keys_of(paths)
    masks = {path: key for path, key in keys.items() if in_truth_folder(path)}
    rest = {path: key for path, key in keys.items() if path not in masks}
    if not masks:
        return _side_by_side(rest)
    named = {path: key for path, key in rest.items() if IMAGE_FOLDERS & set(path.lower().split("/")[:-1])}
    wanted = set(masks.values()) | {without_suffix(key, rest.values()) for key in masks.values()}
    if named:
        wanted -= set(named.values())
        images = {path: key for path, key in rest.items() if path in named or key in wanted}
    else:
        paired = {path.split("/")[0] for path, key in rest.items() if key in wanted}
        images = {
            path: key for path, key in rest.items()
            if not paired or path.split("/")[0] in paired or "/" not in path or split_of_folders(path.split("/")[:-1])
        }  # fmt: skip
    beside = Counter(path.rpartition("/")[0] or "." for path in rest if path not in images)
    remarks += [not_read(folder, "neither images nor masks", count) for folder, count in beside.items()]
    return images, masks


def not_read(folder: str, why: str, count: int) -> str:
    return f"{printable(folder)}/ is not read: {why} ({count:,} files)"


def _side_by_side(keys: Keys) -> tuple[Keys, Keys]:
    groups: dict[Key, list[str]] = defaultdict(list)
    masks: Keys = {}
    for path, key in keys.items():
        groups[key].append(path)
    for key, same in list(groups.items()):
        match = _NAME.fullmatch(key[-1])
        if match and (*key[:-1], match[1]) in groups:
            masks |= dict.fromkeys(groups.pop(key), (*key[:-1], match[1]))
        elif len(same) == 2 and sum(path.lower().endswith(_LOSSY) for path in same) == 1:
            lossy = next(path for path in same if path.lower().endswith(_LOSSY))
            masks[next(path for path in same if path != lossy)] = key
            groups[key] = [lossy]
    return {path: key for key, same in groups.items() for path in same}, masks


def keys_of(paths: Iterable[str]) -> Keys:
    return {path: key_of_pair(path) for path in paths}


def key_of_pair(path: str) -> Key:
    *folders, name = plain(path).split("/")
    kept = []
    for folder in folders:
        match = _FOLDER.fullmatch(folder.lower())
        left = (match[1] or match[2] or "") if match else "" if folder.lower() in IMAGE_FOLDERS else folder
        stem = re.sub(r"[._-]?(images?|imgs?)$", "", left.lower()) if left else ""
        kept += [split_of(left, whole=True) or stem or left] if left else []
    stem = name.removesuffix(".gz").rsplit(".", 1)[0]
    city = _CITYSCAPES.fullmatch(stem)
    return (*kept, city[1] if city else stem)


def without_suffix(key: Key, images: Iterable[Key]) -> Key:
    """A mask's name may say that it is one: a_mask.png goes with a.jpg."""
    match = _NAME.fullmatch(key[-1])
    return (*key[:-1], match[1]) if match and key not in images else key


def one_for_each(partners: Mapping[str, str], if_two: str) -> dict[str, str]:
    """Each sample's file of truth, from the sample of each such file. Raises DataError for two of one sample, of which
    `if_two` says what to do."""
    truths: dict[str, str] = {}
    for truth, sample in partners.items():
        if sample in truths:
            raise DataError(f"{printable(truths[sample])} and {printable(truth)} {if_two}")
        truths[sample] = truth
    return truths


def truth_folder(path: str) -> str | None:
    """The outermost folder of masks that a path lies in."""
    folders = path.split("/")[:-1]
    depth = next((i for i, folder in enumerate(folders, 1) if _FOLDER.fullmatch(folder.lower())), None)
    return None if depth is None else "/".join(folders[:depth])


def in_truth_folder(path: str) -> bool:
    return truth_folder(path) is not None


def folders_apart(alone: Iterable[str], matched: Iterable[str]) -> dict[str, int]:
    """Folders of masks of which none has an image, where others' have: something else is kept there."""
    used = {truth_folder(path) for path in matched}
    folders = Counter(folder for path in alone if (folder := truth_folder(path)) not in used and folder is not None)
    return dict(folders) if used - {None} else {}
