"""Images, clouds of points or signals in NumPy files: .npz with MedMNIST's keys or other usual ones, or one .npy, which
is never loaded whole."""

import math
import os
import threading
from collections.abc import Iterable, Mapping

import numpy as np

from unmask.data.labels import class_name, joined, printable
from unmask.data.limits import require_modest_zip
from unmask.data.modality import IMAGE, Modality, kinds, make_modality
from unmask.data.names import SPLITS
from unmask.data.regular_files import head_of, read_part, read_regular
from unmask.data.source import SEPARATOR, Item, Source, has_several
from unmask.errors import DataError, UserError
from unmask.registry import parse

__all__ = ["Arrays"]

_LABELS = ("labels", "label", "y", "targets", "target")
_NAMES = ("classes", "label_names")  # of the columns of a matrix of labels
_UNDERSTOOD = (
    "images and labels (also x, data; y, targets), each alone or with train, val or test before or behind, as in"
    " train_images, train_labels, x_test, y_test; or arr_0. Clouds of points: points"
)


class Arrays(Source):
    """Items are the first axis: n h w, n h w c, or n c h w (see `decode`); clouds are n points c, x y z first; signals
    are n t, n c t or n t c. A file of signals without labels and splits is one item, which the modality divides.

    Labels are shaped n or n 1; or n k, of 0 and 1, where an image may have any number of k labels.
    """

    sorts = True

    def __init__(self, path: str, kind: str | None = IMAGE):
        super().__init__(path, kind)
        self.file = os.path.abspath(os.path.expanduser(path))
        self.loaded: dict[str, np.ndarray] | None = None
        self.lock = threading.Lock()
        arrays = self._load()
        self.modality = _kind(arrays, kind, self.file)
        if kind is not None and not kinds()[parse(kind)[0]].keys:
            raise UserError(f"{path} holds {self.modality.word}s, and {make_modality(kind).word}s are wanted")
        npz = self.file.lower().endswith(".npz")
        self.whole = self.modality.divides and not (npz and _has_labels_or_splits(arrays))
        if self.whole:  # the modality tells the samples in it apart
            self.items, self.loaded = [Item(printable(os.path.basename(self.file)))], None
            return
        images, labels = _roles(arrays, path, self.modality, kind is not None) if npz else ({None: ""}, {})
        self.places: list[tuple[str, int]] = []
        for split, key in sorted(images.items(), key=lambda pair: ["train", "val", "test", None].index(pair[0])):
            self._add(key, arrays[key], split, labels.get(split), arrays)
        self.multi_label = self.plural and has_several(item.label for item in self.items)

    @classmethod
    def accepts(cls, path: str) -> bool:
        path = os.path.expanduser(path)
        return path.lower().endswith((".npz", ".npy")) and os.path.isfile(path)

    def path(self, index: int) -> str | None:
        return self.file if self.whole else None

    def read(self, index: int) -> bytes | np.ndarray:
        if self.whole:
            return read_regular(self.file)
        key, position = self.places[index]
        array = self._load()[key]
        if not isinstance(array, np.memmap):
            return self.modality.row(array, position)
        size = math.prod(array.shape[1:]) * array.itemsize
        with open(self.file, "rb") as file:
            content = read_part(file.fileno(), array.offset + position * size, size)
        return np.frombuffer(content, array.dtype).reshape(array.shape[1:])

    def companion(self, name: str, index: int | None = None) -> np.ndarray | None:
        """The array of this name; or of the sample's split, the sample's row. Raises DataError where it has another
        number of rows."""
        arrays = self._load()
        if index is None:
            return arrays.get(name)
        key, position = self.places[index]
        words = key.lower().split("_")
        split = {SPLITS[word] for word in words if word in SPLITS}
        wanted = [
            other for other in arrays
            if [w for w in other.lower().split("_") if w not in SPLITS] == name.split("_")
            and {SPLITS[w] for w in other.lower().split("_") if w in SPLITS} == split
        ]  # fmt: skip
        if not wanted:
            return None
        if len(arrays[wanted[0]]) != len(arrays[key]):
            counts = f"{wanted[0]} has {len(arrays[wanted[0]]):,} entries, {key} has {len(arrays[key]):,}"
            raise DataError(f"{self.where}: {counts}")
        return arrays[wanted[0]][position]

    def __getstate__(self) -> Mapping[str, object]:
        return {k: v for k, v in vars(self).items() if k != "lock"} | {"loaded": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, lock=threading.Lock())

    def _add(self, key: str, array: np.ndarray, split: str | None, label_key: str | None, arrays: dict) -> None:
        _check_shape(array, f"{key or 'the array'} in {self.where}", self.modality)
        labels: Iterable[str | None] = [None] * len(array)
        if label_key is not None:
            given = arrays[label_key]
            if len(given) != len(array):
                raise DataError(f"{self.where}: {label_key} has {len(given):,} entries, {key} has {len(array):,}")
            unknown = _unknown(given)
            if given.size == len(given):
                flat = zip(given.reshape(-1).tolist(), unknown.reshape(-1).tolist())
                labels = _by_name([None if missing else _label(value) for value, missing in flat], arrays)
            elif _is_membership(given, unknown):
                self.plural, names = True, self._names(given.shape[1], arrays)
                rows = zip(given, np.logical_or.reduce(unknown, axis=1).tolist())
                labels = [None if missing else joined(names[k] for k in np.flatnonzero(row)) for row, missing in rows]
            else:
                self.remarks.append(
                    f"{label_key} has shape {given.shape}, neither one label per image nor 0 and 1 for each of"
                    " several, and is not used"
                )
            if unknown.any():
                count = int(unknown.reshape(len(given), -1).any(axis=1).sum())
                self.remarks.append(f"{label_key}: {count:,} of {len(given):,} entries are NaN, -1 or empty: no label")
        width = len(str(max(len(array) - 1, 0)))
        prefix = f"{key}/" if key else ""
        self.items += [Item(f"{prefix}{i:0{width}d}", label, split) for i, label in enumerate(labels)]
        self.places += [(key, i) for i in range(len(array))]

    def _names(self, number: int, arrays: dict) -> list[str]:
        """Of the columns of a matrix of labels: what the file calls them, or their numbers."""
        key = next((key for key in _NAMES if key in arrays), None)
        if key is None:
            return [str(i) for i in range(number)]
        names = [_label(value).strip() for value in arrays[key].reshape(-1).tolist()]
        if len(names) != number or len(set(names)) != number or any(not n or SEPARATOR in n for n in names):
            raise DataError(
                f"{self.where}: {key} must name the {number} columns of the labels, each differently and without"
                f" {SEPARATOR}; it holds {len(names)}: {', '.join(names[:5])}"
            )
        return names

    def _load(self) -> dict[str, np.ndarray]:
        """The arrays; loaded once, shared with forked processes, loaded again where this object was sent to."""
        if self.loaded is None:
            with self.lock:
                if self.loaded is None:
                    self.loaded = self._read_file()
        return self.loaded

    def _read_file(self) -> dict[str, np.ndarray]:
        try:
            if self.file.lower().endswith(".npy"):
                mapped = np.load(self.file, mmap_mode="r", allow_pickle=False)  # for its shape; `read` copies
                return {"": mapped if mapped.flags.c_contiguous else np.array(mapped)}  # Fortran's rows lie scattered
            require_modest_zip(self.file)
            with np.load(self.file, allow_pickle=False) as file:
                if not isinstance(file, np.lib.npyio.NpzFile):
                    raise DataError(f"{self.where} is named .npz but holds a single array: name it .npy")
                return {key: file[key] for key in file.files}
        except DataError:
            raise
        except MemoryError as error:
            raise DataError(f"{self.where} needs more memory than there is ({error})") from error
        except ValueError as error:
            if "pickle" in str(error).lower() or "object" in str(error).lower():
                raise DataError(
                    f"{self.where} holds Python objects, which could run a program when loaded, or is no NumPy file:"
                    " save plain arrays of numbers"
                ) from error
            raise DataError(f"{self.where} is damaged ({error})") from error
        except Exception as error:  # of a damaged header, NumPy raises anything
            raise DataError(f"{self.where} is damaged or cannot be read ({error or type(error).__name__})") from error


def _kind(arrays: dict[str, np.ndarray], kind: str | None, path: str) -> Modality:
    """The kind that is wanted, or the one that claims the file or that most keys speak of, images first."""
    if kind is not None:
        return make_modality(kind if kinds()[parse(kind)[0]].keys else IMAGE)
    arrays_too = {name: part for name, part in kinds().items() if part.divides and part.keys}
    claimed = [name for name, part in arrays_too.items() if part.claims(path, head_of(path))]
    if claimed:
        return make_modality(claimed[0])
    bare = {"_".join(word for word in key.lower().split("_") if word not in SPLITS) for key in arrays}
    return make_modality(max(kinds(), key=lambda name: len(bare & {*kinds()[name].keys})))


def _has_labels_or_splits(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the names of arrays speak of labels, or of train, val and test."""
    splits = any(word in SPLITS for key in arrays for word in key.lower().split("_"))
    return splits or any(array.ndim and key.lower() in _LABELS for key, array in arrays.items())


def _roles(
    arrays: dict[str, np.ndarray], path: str, modality: Modality, wanted: bool
) -> tuple[dict[str | None, str], dict[str | None, str]]:
    """Split -> key of the samples, and of the labels. wanted: this kind was asked for, so that names of images do."""
    names = (*modality.keys, *(kinds()[IMAGE].keys if wanted else ()))
    images: dict[str | None, str] = {}
    labels: dict[str | None, str] = {}
    for key in arrays:
        words = key.lower().split("_")
        split = next((SPLITS[word] for word in words if word in SPLITS), None)
        rest = [word for word in words if word not in SPLITS]
        kind = images if rest in [[w] for w in names] else labels if rest in [[w] for w in _LABELS] else None
        if kind is not None and split in kind:
            raise UserError(f"{path}: both {kind[split]} and {key} could be meant; keep one of them")
        if kind is not None:
            kind[split] = key
    if not images and "arr_0" in arrays:
        images[None] = "arr_0"
    if not images:
        keys = ", ".join(f"{printable(key)} {array.shape}" for key, array in arrays.items()) or "none"
        raise UserError(f"{path}: no key says where the images are. Keys found: {keys}. Understood: {_UNDERSTOOD}")
    return images, labels


def _by_name(labels: list[str | None], arrays: dict[str, np.ndarray]) -> list[str | None]:
    """Numbers of classes as the names that the file has for them, if it has one for each."""
    names = next((arrays[key] for key in _NAMES if key in arrays and arrays[key].dtype.kind in "US"), None)
    numbers = [int(label) for label in labels if label is not None and label.isdigit()]
    if names is None or names.ndim != 1 or len(numbers) < sum(label is not None for label in labels):
        return labels
    if not numbers or max(numbers) >= len(names) or len({*names.tolist()}) < len(names):
        return labels
    return [None if label is None else _label(names[int(label)]) for label in labels]


def _check_shape(array: np.ndarray, what: str, modality: Modality) -> None:
    if modality.text.partition("(")[0] != IMAGE:
        if array.ndim not in modality.array_axes:
            axes = " or ".join(map(str, modality.array_axes))
            raise DataError(f"{what} has shape {array.shape}; {modality.word}s are an array of {axes} axes")
        return
    if array.ndim not in (3, 4):
        raise DataError(f"{what} has shape {array.shape}; images are n h w, n h w c or n c h w")
    if array.ndim == 3 and array.shape[2] <= 4 < min(array.shape[:2]):
        raise DataError(f"{what} has shape {array.shape}, which looks like one image; images are n h w or n h w c")


def _unknown(labels: np.ndarray) -> np.ndarray:
    """Where an array of labels says that nothing is known: NaN, empty text, -1 beside other classes than 1 alone."""
    if labels.dtype.kind in "SU":
        return np.char.strip(labels) == labels.dtype.type()
    if labels.dtype.kind not in "if":
        return np.zeros(labels.shape, dtype=bool)
    missing = np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(labels.shape, dtype=bool)
    signs = set(np.unique(labels[~missing]).tolist()) == {-1, 1}  # two classes, as for support vector machines
    return missing if signs else missing | (labels == -1)


def _is_membership(labels: np.ndarray, unknown: np.ndarray) -> bool:
    """A matrix n k of 0 and 1, k above 1, where it is known."""
    values = labels[~unknown]
    return (
        labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "buif" and bool(np.isin(values, (0, 1)).all())
    )


def _label(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return class_name(int(value) if isinstance(value, float) and value.is_integer() else value)
