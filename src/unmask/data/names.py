"""One rule for names: which file a name means that stands in a table, a list or a .json.

The whole path counts: as it is written; then but for Unicode form, separators and the case of the ending; then but for
folders that only say what lies in them (images, train). Where one side has folders that the other lacks, the file name
decides if it is the only one on both sides; a name with folders never, once another is found by its whole path. Folders
that differ never match: siteB/1.jpg is not siteA/1.jpg.
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from unmask.errors import many

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS |= {"test": "test", "testing": "test"}
IMAGE_FOLDERS = {"image", "images", "img", "imgs", "jpegimages", "picture", "pictures", "photo", "photos", "rgb"}
IMAGE_FOLDERS |= {"input", "inputs"}
MASK_FOLDERS = {"mask", "masks", "segmentation", "segmentations", "semseg", "annotation", "annotations", "labels"}
SAME, TAIL = 2, 1  # how well two keys agree: but for a split that one lacks; one is the end of the other
Key = tuple[str, ...]


@dataclass
class Matches:
    """Which file each name means, and why some mean none."""

    files: dict[str, str] = field(default_factory=dict)  # name -> file
    loose: list[str] = field(default_factory=list)  # names of these that have folders the file lacks, or the reverse
    several: dict[str, list[str]] = field(default_factory=dict)  # name -> files that it may mean
    elsewhere: dict[str, str] = field(default_factory=dict)  # name -> a file of its file name in another folder

    def why_not(self, name: str) -> str:
        """Of a name that means no file: what speaks against those of its file name; "" where there are none."""
        if name in self.several:
            files = self.several[name]
            return f"may be {', '.join(files[:2])}{f' or {len(files) - 2} more' if len(files) > 2 else ''}"
        return f"{self.elsewhere[name]} has its name, but lies elsewhere" if name in self.elsewhere else ""

    def remarks(self, what: str) -> list[str]:
        """A line on what was matched though folders are lacking on one side."""
        if not self.loose:
            return []
        name, more = self.loose[0], ", ..." if len(self.loose) > 1 else ""
        return [f"{len(self.loose):,} {what} by the file name alone: {name} is taken for {self.files[name]}{more}"]


def split_of(name: str, whole: bool = False) -> str | None:
    """The split that a file or folder name speaks of: instances_train2017.json is of train. whole: it must say nothing
    else, but for a year: train2017."""
    if whole and not re.fullmatch(r"[a-z]+(19|20)?[0-9]{0,2}", name.lower()):
        return None
    return next((SPLITS[word] for word in re.findall(r"[^\W\d_]+", name.lower()) if word in SPLITS), None)


def plain(path: str) -> str:
    """What all spellings of one path share: composed letters, forward slashes, a small ending."""
    path = posixpath.normpath(unicodedata.normalize("NFC", path).replace("\\", "/")) if path else ""
    stem, dot, ending = path.rpartition(".")
    return f"{stem}.{ending.lower()}" if dot and "/" not in ending else path


def key_of(path: str) -> Key:
    """A path's folders, without those that only say that images lie in them, and its last part."""
    *folders, name = [part for part in plain(path).split("/") if part not in ("", "..")] or [""]
    return (*(split_of(f, whole=True) or f for f in folders if f.lower() not in IMAGE_FOLDERS), name)


def as_spelled(path: str) -> str | None:
    """The file at a path, also where its name or a folder's differs in Unicode form, separators or case of ending."""
    if os.path.isfile(path):
        return path
    folder, name = os.path.split(path.replace("\\", "/"))
    if not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = _folder_as_spelled(folder) or ""
    try:
        names = _listing(folder, os.stat(folder).st_mtime_ns).get(plain(name), [])
    except OSError:
        return None
    paths = [os.path.join(folder, other) for other in names if os.path.isfile(os.path.join(folder, other))]
    return paths[0] if len(paths) == 1 else None


def match_names(
    names: Iterable[str], files: Mapping[str, Key], bases: Sequence[str] = ("",), prefer: Sequence[str] = (),
    matched: Mapping[str, str] | None = None,
) -> Matches:  # fmt: skip
    """Which file each name means. files: each with its key; bases: what whole paths begin with, the first that fits
    counts; prefer: of several files, those in the folder that is named first here; matched: names with their files."""
    by_plain: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_plain[plain(file)].append(file)
    whole = dict(matched or {})
    left: dict[str, Key] = {}
    for name in [name for name in dict.fromkeys(names) if name not in whole]:
        for base in bases:
            same = by_plain.get(plain(base + name), []) if name else []
            if base + name in files or len(same) == 1:
                whole[name] = base + name if base + name in files else same[0]
                break
        else:
            left[name] = key_of(name)
    return match_keys(left, files, whole, prefer)


def match_keys(
    names: Mapping[str, Key], files: Mapping[str, Key], whole: Mapping[str, str] | None = None,
    prefer: Sequence[str] = (),
) -> Matches:  # fmt: skip
    """The same by keys. whole: names that are found already, by their whole path."""
    by_last: dict[str, list[str]] = defaultdict(list)
    for file, key in files.items():
        by_last[key[-1]].append(file)
    matches = Matches(dict(whole or {}))
    for name, key in names.items():
        same = [file for file in by_last.get(key[-1], ()) if _agreement(key, files[file]) == SAME]
        _settle(matches, name, _preferred(key, files, same, prefer))
    paths_agree = any(len(key_of(name)) > 1 for name in matches.files)
    taken = set(matches.files.values())
    tails: dict[str, list[str]] = {}
    for name, key in names.items():
        if name not in matches.files and name not in matches.several:
            alike = by_last.get(key[-1], [])
            ends = [f for f in alike if _agreement(key, files[f]) and not (paths_agree and len(key) > len(files[f]))]
            tails[name] = _preferred(key, files, ends, prefer)
            if alike and not ends:
                matches.elsewhere[name] = alike[0]
    wanted = Counter(file for name in {names[name]: name for name in tails}.values() for file in tails[name])
    for name, candidates in tails.items():
        if len(candidates) == 1 and (wanted[candidates[0]] > 1 or candidates[0] in taken):
            matches.elsewhere[name] = candidates[0]
            continue
        _settle(matches, name, candidates)
        if name in matches.files:
            matches.loose.append(name)
    return matches


def _settle(matches: Matches, name: str, candidates: Sequence[str]) -> None:
    if len(candidates) == 1:
        matches.files[name] = candidates[0]
    elif candidates:
        matches.several[name] = list(candidates)


def _agreement(name: Key, file: Key) -> int:
    """SAME, TAIL, or 0 where folders differ."""
    if name == file:
        return SAME
    splits = [[part for part in key[:-1] if part in SPLITS] for key in (name, file)]
    if all(splits) and splits[0] != splits[1]:
        return 0
    if [part for part in name if part not in SPLITS] == [part for part in file if part not in SPLITS]:
        return SAME
    short, long = sorted((name, file), key=len)
    return TAIL if long[-len(short) :] == short else 0


def _preferred(key: Key, files: Mapping[str, Key], candidates: Sequence[str], prefer: Sequence[str]) -> list[str]:
    """Of several files the one with exactly this key, or those in a folder that is preferred; each real file once."""
    if len(candidates) < 2:
        return list(candidates)
    if exact := [file for file in candidates if files[file] == key]:
        candidates = exact
    for folder in prefer:
        if inside := [file for file in candidates if f"/{folder}/" in f"/{file}"]:
            candidates = inside
            break
    return list({os.path.realpath(file): file for file in reversed(candidates)}.values())[::-1]


def _folder_as_spelled(path: str) -> str | None:
    parent, name = os.path.split(path)
    if not os.path.isdir(parent):
        parent = _folder_as_spelled(parent) or "" if os.path.dirname(parent) != parent else ""
    try:
        names = _listing(parent, os.stat(parent).st_mtime_ns).get(plain(name), [])
    except OSError:
        return None
    return os.path.join(parent, names[0]) if len(names) == 1 else None


@lru_cache(maxsize=1024)
def _listing(folder: str, changed: int) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for name in os.listdir(folder):
        names[plain(name)].append(name)
    return dict(names)


def masks_taken_for_images(paths: Iterable[str]) -> list[str]:
    """A remark where a folder of masks lies beside one of images, by names of folders and equal names of files: all
    files are images to a source of images."""
    images, masks = (_below(paths, folders) for folders in (IMAGE_FOLDERS, MASK_FOLDERS))
    alike = masks.keys() & images.keys()
    if not masks or 2 * len(alike) < len(masks):
        return []
    example = min(alike)
    told = f"{many(len(masks), 'mask')} beside images of the same names are taken for images, such as {masks[example]}"
    return [f"{told} beside {images[example]}; give the folder of the images alone, or --modality multimodal for both"]


def _below(paths: Iterable[str], folders: set[str]) -> dict[str, str]:
    """Of the paths with one of these folders: what is left without it and the ending -> the path."""
    found = {}
    for path in paths:
        parts = path.split("/")
        place = next((number for number, part in enumerate(parts[:-1]) if part.lower() in folders), None)
        if place is not None:
            found["/".join([*parts[:place], *parts[place + 1 : -1], parts[-1].rpartition(".")[0]])] = path
    return found
