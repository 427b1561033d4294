"""Whether a place that should hold images is there: known before anything is imported that could open it."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from unmask.data.codecs.signature import other_kind
from unmask.errors import UserError, closest, many

NAMED = ("demo",)  # data sets that come with the package
PATTERN = "{*?["  # signs of names that stand for several
TABLES = ". Tables are read with the folder that they lie in: pairs.csv, labels.csv, captions.csv"
ENDING = re.compile(r"\.[A-Za-z]\w{1,4}$")  # of a file's name


def elsewhere(place: str) -> bool:
    """True for what is not on this disk under exactly this name: remote, a range or pattern of names, a named set."""
    return place in NAMED or "://" in place or place.startswith("hf:") or any(sign in place for sign in PATTERN)


def are_words(text: str) -> bool:
    """True for what is no place: it is not there, and does not look like a path."""
    looks_so = elsewhere(text) or any(sign in text for sign in ("/", os.sep)) or ENDING.search(text)
    return not looks_so and not os.path.lexists(os.path.expanduser(text))


def require_place(place: str) -> None:
    """Raises UserError, with the nearest name, for a path that leads nowhere."""
    if not elsewhere(place) and not os.path.lexists(os.path.expanduser(place)):
        raise UserError(nowhere(place))


def nowhere(place: str) -> str:
    """What to say of a path that leads nowhere."""
    folder, name = os.path.split(os.path.normpath(os.path.expanduser(place)))
    if not os.path.isdir(folder or os.curdir):
        return f"{place} does not exist, nor does the folder {folder}"
    return f"{place} does not exist{closest(name, [*sorted(os.listdir(folder or os.curdir)), *NAMED])}"


def prefixes(places: list[str]) -> list[str]:
    """The last part of each path; where two are alike, numbered in the order given."""
    names = [os.path.basename(os.path.abspath(place)) or "data" for place in places]
    counts, seen = Counter(names), Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(f"{name}#{seen[name]}" if counts[name] > 1 else name)
    return result


def archives_in(place: str, accepts: Callable[[str], bool]) -> str:
    """A remark on the archives in a folder, which are not opened unless they are named."""
    if not os.path.isdir(place):
        return ""
    archives = [path for path in map(partial(os.path.join, place), sorted(os.listdir(place))) if accepts(path)]
    return f"; {many(len(archives), 'archive')} in it can be read where named: {archives[0]}" if archives else ""


def why_not(place: str, head: bytes, words: Sequence[str], parts: Sequence[str]) -> str:
    """What to say of a place that nothing opens. head: the first bytes of a file; words: what the kinds of samples are
    called; parts: the kinds of sources."""
    if not os.path.exists(place):
        return nowhere(place)
    if os.path.isfile(place) and (kind := other_kind(place, head)):
        return f"{place} is no image: {unread(Counter([kind]), words)}"
    return (
        f"{place} is no kind of data that unmask knows: give a folder, an archive (.zip, .tar, .tar.gz), a text file"
        f" with one path per line (.txt), arrays (.npz, .npy), or a pack. Kinds of source: {', '.join(parts)}"
        + (TABLES if place.lower().endswith((".csv", ".tsv")) else "")
    )


def held(files: Counter[str], words: Sequence[str]) -> str:
    """What lies there of kinds that are read elsewhere, for people: 3 recordings and 1 clip."""
    return " and ".join(many(count, kind) for kind, count in files.most_common() if kind in words)


def unread(files: Counter[str], words: Sequence[str]) -> str:
    """What lies there of kinds that are never read, for people; empty where there is none."""
    strange = Counter({kind: count for kind, count in files.items() if kind not in words})
    if not strange:
        return ""
    listed = ", ".join(f"{many(count, 'file')} of {kind}" for kind, count in strange.most_common(3))
    *others, last = [f"{word}s" for word in words]
    return f"{listed} cannot be read; what can: {', '.join(others)} and {last}"
