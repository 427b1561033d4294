"""Which kind of data a place holds: the one that is asked for, or the one that most of its files are of.

Files are told apart by their first bytes. Names decide in two cases only: of files with an image's ending the first few
are opened, and the others are what most of these with the same ending are, so that a million files need not be opened;
and where bytes cannot tell.
"""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable

from unmask.data.codecs.scenes.signs import Head
from unmask.data.codecs.signature import other_kind, sniff
from unmask.data.labels import CAPTIONS, PAIRS, ROBOFLOW_TABLE, TABLE, is_image_name
from unmask.data.modalities.joint.unpaired import unpaired
from unmask.data.modality import IMAGE, Modality, kinds, make_modality
from unmask.errors import UserError, many
from unmask.registry import parse

OPENED = 200  # files with an image's ending whose first bytes are looked at
SEVERAL = "multimodal"  # its samples consist of files of the other kinds


class Sorting:
    """Sorts the files of a place by kind."""

    def __init__(self, wanted: str | None):
        """wanted: the text of a modality; None for the one that most files are of."""
        self.wanted, self.parts = wanted, kinds()
        self.images_last = {name: self.parts[name] for name in sorted(self.parts, key=lambda name: name == IMAGE)}
        self.name = None if wanted is None else parse(wanted)[0]
        if self.name is not None and self.name not in self.parts:
            self.parts[self.name] = type(make_modality(wanted or ""))  # from outside; raises if nobody knows it
        self.files: dict[str, list[str]] = {}  # by the name of their kind
        self.others: Counter[str] = Counter()  # what else lies there, by a kind's word, or as `signature` calls it
        self.unclear: defaultdict[str, list[tuple[str, str | None]]] = defaultdict(list)  # by the kind that their
        # endings promise, where their content is of none; and what they are counted as in `others`
        self.ignored, self.opened = 0, 0
        self.endings: defaultdict[str, Counter[str]] = defaultdict(Counter)  # what the opened files of each are

    def put(self, path: str, head: Callable[[], Head]) -> None:
        """Takes note of a file; head: reads its first `HEAD` bytes."""
        table = posixpath.basename(path) in (TABLE, ROBOFLOW_TABLE, PAIRS, CAPTIONS)
        self.ignored += table
        name = None if table else self._kind(path, head)
        if name is not None:
            self.files.setdefault(name, []).append(path)

    def _kind(self, path: str, head: Callable[[], Head]) -> str | None:
        by_name, ending = is_image_name(path), posixpath.splitext(path)[1].lower()
        if by_name and self.name == IMAGE:
            return IMAGE
        if by_name and self.name is None:
            self.opened += 1
            if self.opened > OPENED:
                return self.endings[ending].most_common(1)[0][0] if self.endings[ending] else IMAGE
        start = head()
        if self.name is not None and self.parts[self.name].claims_if_wanted(path, start):
            return self.name
        plain = by_name and sniff(start[:32]) is not None and not start.scene
        claimed = next((name for name, part in self.images_last.items() if part.claims(path, start)), None)
        claimed = IMAGE if plain else claimed
        unread = other_kind(path, start)
        if claimed is None or (claimed == IMAGE and sniff(start[:32]) is None):
            for name, part in self.parts.items():
                if self.name in (None, name, SEVERAL) and path.lower().endswith(part.endings):
                    self.unclear[name].append((path, None if claimed else unread))
        if claimed is not None and self.name in (None, claimed):
            self.endings[ending][claimed] += 1
            return claimed
        self.ignored += 1
        if unread is not None:
            self.others[unread if claimed is None else self.parts[claimed].word] += 1
        return None

    def _take_unclear(self, name: str) -> None:
        """Counts files that are called as this kind's are, and cannot be recognised, among its own: bad ones."""
        images = set(self.files.get(IMAGE, ()))
        taken = self.unclear.pop(name, [])
        moved = images.intersection(path for path, _ in taken)
        if moved:  # called as images are, too
            self.files[IMAGE] = [path for path in self.files[IMAGE] if path not in moved]
        self.ignored -= len(taken) - len(moved)
        self.others = self.others - Counter(unread for _, unread in taken if unread)
        self.files.setdefault(name, []).extend(path for path, _ in taken)

    def choose(self, where: str, root: str | None = None) -> tuple[Modality, list[str]]:
        """The kind of data, and its files. root: the folder that they lie in, None elsewhere. Raises UserError where
        two kinds have equally many."""
        named = {kind: [path for path, _ in unclear] for kind, unclear in self.unclear.items()}
        for name, part in self.parts.items():
            files = {kind: [*self.files.get(kind, ()), *named.get(kind, ())] for kind in {**self.files, **named}}
            text = part.together(files, root, self.wanted) if root and self.name in (None, name) else None
            if text is not None:
                for kind in named:
                    self._take_unclear(kind)
                self.files = {name: [path for paths in self.files.values() for path in paths]}
                return make_modality(text), self.files[name]
        counts = Counter({name: len(paths) for name, paths in (self.files or named).items()})
        strong = Counter({name: 2 * count - self.parts[name].weak for name, count in counts.items()})
        first, *rest = strong.most_common() or [(self.name or IMAGE, 0)]
        if rest and rest[0][1] == first[1]:
            tied = [name for name, count in strong.items() if count == first[1]]
            listed = " and ".join(f"{self.parts[name].word}s" for name in tied)
            flags = " or ".join(f"--modality {name}" for name in tied)
            raise UserError(
                f"{where} holds as many {listed}, {counts[first[0]]:,} each: say which are meant with {flags}"
            )
        self._take_unclear(first[0])
        self.ignored += sum(len(self.files.get(name, ())) for name, _ in rest)
        modality = make_modality(self.wanted or first[0])
        return modality, self.files.get(first[0], [])

    def remarks(self, modality: Modality) -> list[str]:
        """What other kinds of data there are and are left out, and folders that look like parts of samples."""
        left = {name: paths for name, paths in self.files.items() if not isinstance(modality, self.parts[name])}
        apart = unpaired([path for paths in self.files.values() for path in paths]) if self.wanted is None else []
        several = isinstance(modality, self.parts[SEVERAL])
        return [
            f"left out: {many(len(paths), self.parts[name].word)}, since most files are {modality.word}s;"
            f" --modality {name} takes them"
            for name, paths in left.items()
        ] + ([] if several else apart)
