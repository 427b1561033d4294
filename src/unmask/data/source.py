"""Where samples come from: a named list of items, read one at a time. Parts in `data/` know one kind of place each."""

import bisect
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from unmask import registry
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Cut, Division, Piece
from unmask.data.modality import IMAGE, Modality, Raw, kinds, make_modality
from unmask.data.places import archives_in, held, prefixes, unread, why_not
from unmask.data.regular_files import head_of, read_regular
from unmask.errors import DataError, UserError, many
from unmask.runtime.progress import doing

PARTS = "source"
LOOKED = 50  # samples that a modality may look at to settle its options
MANY_OTHERS = 0.05  # files of kinds that are not read, as a share of the images, from which that is said
SEPARATOR = "|"  # between the labels of one image


@dataclass(frozen=True, slots=True)
class Item:
    name: str  # unique within its source, printable
    label: str | None = None  # in a multi-label source the names joined by |, "" for none of the classes
    split: str | None = None  # "train", "val" or "test"
    columns: dict[str, str] = field(default_factory=dict, hash=False)  # what else labels.csv says, e.g. site or sex


class Source(ABC):
    """A place with images. Parts set the fields; reading is safe from several threads and processes, and a source can
    be pickled: open files belong to one process and are reopened in another."""

    where: str  # as a person would name it
    items: list[Item]  # in an order that depends on the names only
    ignored: int  # files passed over because they are no images
    other_kinds: Counter[str]  # of those: the words of kinds that are read elsewhere, and kinds named in `signature`
    remarks: list[str]  # what a person should know, e.g. about rows of labels.csv that match nothing
    plural: bool  # labels come from where an image may have several, or none
    multi_label: bool  # plural, and some image does
    packed: str | None = None  # what a pack made of its images: "jpeg", "raw" or "original"
    modality: Modality  # what its samples are
    sorts: bool = False  # `__init__` takes the kind of samples that are wanted, None for the one that most are of

    def __init__(self, path: str, kind: str | None = IMAGE):
        """kind: the text of a modality."""
        self.where, self.items, self.ignored, self.remarks = path, [], 0, []
        self.other_kinds = Counter()
        self.plural = self.multi_label = False
        self.modality = make_modality(kind or IMAGE)

    @classmethod
    @abstractmethod
    def accepts(cls, path: str) -> bool:
        """True if this part can open `path`; the file may still be damaged."""

    @abstractmethod
    def read(self, index: int) -> bytes | np.ndarray:
        """A file's bytes, or an array, as `decode` takes them. Raises OSError or BadImage."""

    def path(self, index: int) -> str | tuple[str, ...] | None:
        """Where the file of a sample lies, or its files; None where it has none of its own on this disk."""
        return None

    def raw(self, index: int) -> Raw:
        """What the modality decodes: a file's path, if it reads parts of files, or what `read` gives."""
        path = self.path(index) if self.modality.by_path else None
        return self.read(index) if path is None else path

    def pixels(self, index: int) -> Shaped[Tensor, "c h w"] | None:
        """An image that lies there as pixels, as `decode` would give it, without a copy; None where it must be read.
        Raises BadImage or OSError."""
        return None

    def companion(self, name: str, index: int | None = None) -> np.ndarray | None:
        """What else a file of many samples holds under a name: of the file, or of a sample; None where it has none."""
        return None

    def stamp(self, index: int) -> str | None:
        """A stamp that changes with an image's file, without reading it; None if only its content can tell."""
        return None

    def classes(self, index: int) -> list[str] | None:
        """The classes of an image: one, or any number in a multi-label source; None if unlabelled."""
        label = self.items[index].label
        if label is None or not self.multi_label:
            return None if label is None else [label]
        return label.split(SEPARATOR) if label else []


class Files(Source):
    """Image files that are already known, for example from annotations that name them."""

    def __init__(self, where: str, items: Sequence[Item], paths: Sequence[str]):
        super().__init__(where)
        self.items, self.paths = list(items), list(paths)

    @classmethod
    def accepts(cls, path: str) -> bool:
        return False

    def read(self, index: int) -> bytes:
        return read_regular(self.paths[index])

    def path(self, index: int) -> str:
        return self.paths[index]


class Several(Source):
    """Several sources one after the other."""

    def __init__(self, sources: Sequence[Source]):
        super().__init__(", ".join(source.where for source in sources))
        self.sources = list(sources)
        self.starts = [0, *accumulate(len(source.items) for source in sources)]
        for prefix, source in zip(prefixes([source.where for source in sources]), sources):
            alone = os.path.isfile(source.where) and [i.name for i in source.items] == [Path(source.where).name]
            self.items += [replace(i, name=prefix if alone else f"{prefix}/{i.name}") for i in source.items]
            self.ignored += source.ignored
            self.other_kinds += source.other_kinds
            self.remarks += [f"{prefix}: {remark}" for remark in source.remarks]
        self.plural = any(source.plural for source in sources)
        self.multi_label = any(source.multi_label for source in sources)
        self.modality = _one_modality(sources)
        kinds = {source.packed for source in sources}
        self.packed = kinds.pop() if len(kinds) == 1 else None
        singular = [s.where for s in sources if not s.plural and any(item.label is not None for item in s.items)]
        if self.multi_label and singular:
            several = next(source.where for source in sources if source.multi_label)
            raise DataError(
                f"{singular[0]} has one label per image, {several} several: use them apart, or give both a"
                " labels.csv with a column labels"
            )

    @classmethod
    def accepts(cls, path: str) -> bool:
        return False

    def read(self, index: int) -> bytes | np.ndarray:
        which = bisect.bisect_right(self.starts, index) - 1
        return self.sources[which].read(index - self.starts[which])

    def path(self, index: int) -> str | tuple[str, ...] | None:
        which = bisect.bisect_right(self.starts, index) - 1
        return self.sources[which].path(index - self.starts[which])

    def raw(self, index: int) -> Raw:
        which = bisect.bisect_right(self.starts, index) - 1
        return self.sources[which].raw(index - self.starts[which])

    def pixels(self, index: int) -> Tensor | None:
        which = bisect.bisect_right(self.starts, index) - 1
        return self.sources[which].pixels(index - self.starts[which])

    def stamp(self, index: int) -> str | None:
        which = bisect.bisect_right(self.starts, index) - 1
        return self.sources[which].stamp(index - self.starts[which])


class Divided(Source):
    """The pieces of what lies in another source, such as windows of scenes; what has none is there as a whole."""

    def __init__(self, source: Source, divisions: Sequence[Division]):
        """divisions: of each item in `source`."""
        super().__init__(source.where)
        self.source, self.modality, self.packed = source, source.modality, source.packed
        self.places: list[tuple[int, tuple[int, ...]]] = []  # index in `source`, and place; () for the whole
        self.ignored, self.other_kinds, self.remarks = source.ignored, source.other_kinds, source.remarks
        self.plural, self.multi_label = source.plural, source.multi_label
        for index, (item, division) in enumerate(zip(source.items, divisions)):
            for cut in division.cuts or [Cut((), "")]:
                self.places.append((index, cut.place))
                name, columns = f"{item.name}@{cut.name}" if cut.name else item.name, item.columns | dict(cut.columns)
                self.items.append(Item(name, cut.label or item.label, cut.split or item.split, columns))

    @classmethod
    def accepts(cls, path: str) -> bool:
        return False

    def read(self, index: int) -> bytes | np.ndarray:
        return self.source.read(self.places[index][0])

    def path(self, index: int) -> str | tuple[str, ...] | None:
        return self.source.path(self.places[index][0])

    def raw(self, index: int) -> Raw:
        whole, place = super().raw(index), self.places[index][1]
        return Piece(whole, place) if place and not isinstance(whole, tuple | Piece) else whole

    def stamp(self, index: int) -> str | None:
        whole, place = self.places[index]
        stamp = self.source.stamp(whole)
        return None if stamp is None else f"{stamp} {place}"


Images = str | Path | Sequence[Any] | np.ndarray | Tensor  # what `predict` of the tasks' models takes


def open_source(data: str | Path | Sequence[str | Path], modality: str | None = IMAGE) -> Source:
    """The samples at one place, or at several one after the other: whatever a part of `unmask.data.sources` accepts.

    modality: the text of the kind of samples that are wanted; None for the one that most files are of. Raises UserError
    if a place does not exist or nobody knows its kind, or where files of two kinds are equally many, DataError if there
    is no such sample in it.
    """
    places = [data] if isinstance(data, (str, Path)) else list(data)
    if not places:
        raise UserError("no data given: name a folder, an archive, a list of files, or an .npz file")
    doing("looking for images")
    sources = [_open(_text(place), modality) for place in places]
    return sources[0] if len(sources) == 1 else Several(sources)


def why(error: BadImage | OSError) -> str:
    """The reason why an image cannot be used, for messages."""
    return f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)


def has_several(labels: Iterable[str | None]) -> bool:
    """True if some image has several labels, or none, so that one label per image is not enough."""
    return any(label is not None and (not label or SEPARATOR in label) for label in labels)


def _text(place: str | Path) -> str:
    """A Path is always a place on disk, even one called demo."""
    text = os.fspath(place)
    return text if isinstance(place, str) or os.path.isabs(text) else os.path.join(os.curdir, text)


def _one_modality(sources: Sequence[Source]) -> Modality:
    """What the samples of all sources are. Raises UserError where they differ."""
    by_text = {source.modality.text: source for source in sources}
    if len(by_text) > 1:
        what = ", ".join(f"{source.where} {source.modality.word}s" for source in by_text.values())
        raise UserError(f"these hold different kinds of data: {what}; take one kind, or name it with --modality")
    return sources[0].modality


def _open(path: str, modality: str | None) -> Source:
    parts = {name: registry.find(PARTS, name) for name in registry.names(PARTS)}
    part = next((part for part in parts.values() if part.accepts(path)), None)
    if part is None:
        raise UserError(why_not(path, head_of(path), _words(), list(parts)))
    source = part(path, modality) if part.sorts else part(path)
    if not source.items:
        what = _contents(source) + archives_in(path, parts["archive"].accepts)
        raise DataError(f"no {source.modality.word}s in {path}: {what}")
    if source.items and not source.packed:
        step = max(1, len(source.items) // LOOKED)
        source.modality = source.modality.settled([partial(source.raw, i) for i in range(0, len(source.items), step)])
        source = _divided(source) if source.modality.divides else source
    if not part.sorts and modality is not None and source.modality.text != modality:
        raise UserError(f"{path} holds {source.modality.word}s, and {make_modality(modality).word}s are wanted")
    if sum(source.other_kinds.values()) > MANY_OTHERS * len(source.items):
        left = held(source.other_kinds, _words())
        told = [f"left out: {left}" if left else "", unread(source.other_kinds, _words())]
        source.remarks += filter(None, told)
    return source


def _divided(source: Source) -> Source:
    """The pieces of its samples, if any has some; with remarks on how they were found."""
    divisions = [source.modality.pieces(source.raw(i)) for i in range(len(source.items))]
    if not any(division.cuts for division in divisions):
        return source
    divided = [len(division.cuts) for division in divisions if division.cuts]
    if max(divided) > 1:
        many_pieces = f"{source.modality.piece}s, {sum(divided):,} in all"
        source.remarks.append(f"{many(len(divided), 'file')} of {len(divisions):,} read by {many_pieces}")
    source.remarks += dict.fromkeys(remark for division in divisions for remark in division.remarks)
    return Divided(source, divisions)


def _words() -> list[str]:
    """What the kinds of samples are called."""
    return [part.word for part in kinds().values()]


def _contents(source: Source) -> str:
    remarks, word = "".join(f"; {remark}" for remark in source.remarks), source.modality.word
    if source.other_kinds:
        other = held(source.other_kinds, _words())
        told = [f"it holds {other}" if other else "", unread(source.other_kinds, _words())]
        return "; ".join(filter(None, told)) + remarks
    if source.ignored == 1:
        return f"the one file there is no {word}" + remarks
    return (f"{source.ignored:,} files there are no {word}s" if source.ignored else "it is empty") + remarks
