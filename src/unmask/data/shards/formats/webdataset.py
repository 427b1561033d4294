"""WebDataset: tar files in which members that share a name up to a dot make up a sample.

The layout that large sets are published in: `0001.jpg` (or `0001.wav`), `0001.cls`, `0001.json`, `0001.txt`. Aizman
et al. 2019, "High Performance I/O For Large Scale Deep Learning". Read with the standard library's tarfile as it comes,
packed or not.
"""

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

from unmask.data.captions.table import text_columns
from unmask.data.labels import is_hidden, printable
from unmask.data.limits import Bomb, ShortHeaders, leads_out, unpacked
from unmask.data.shards.expand import TARS, Shard
from unmask.data.shards.remote import Patience, open_shard
from unmask.data.shards.stream import Sample, Stream
from unmask.data.shards.wanted import IMAGES, LABELS, TEXTS, Wanted, is_file
from unmask.files import parse_json

__all__ = ["WebDataset"]

MOST_TEXT = 1 << 20  # bytes of a member that can be no sample; longer ones are passed over
MOST_BYTES = 1 << 30  # of one that can
OUTSIDE = "(outside)"  # in place of the members of a sample whose name leads out of the archive
_DAMAGE = (tarfile.TarError, Bomb, lzma.LZMAError, zlib.error, EOFError)
MOST_STEMS = 16  # names up to their last dot that one sample may have
Members = dict[str, bytes | None]  # what follows the key and a dot -> content; None: not of use


@dataclass(frozen=True, slots=True)
class _Member:
    stem: str  # folder and name up to the last dot
    ending: str  # what follows it
    content: bytes | None  # None: not of use
    end: int  # bytes into the shard behind it


class WebDataset(Stream):
    """The sample is the member of the wanted kind, an image by its extension; `cls` or a key of the `json` is the
    label."""

    def __init__(self, where: str, shards: list[Shard], patience: Patience | None = None):
        super().__init__(where, shards, patience)
        self.counts = _index(shards, self.patience)

    @classmethod
    def accepts(cls, place: str) -> bool:
        return place.lower().endswith(TARS)

    def count(self, shard: int) -> int | None:
        return self.counts.get(self.shards[shard].name)

    def samples(self, shard: int, first: int = 0) -> Iterator[Sample]:
        key = ""
        with open_shard(self.shards[shard].place, self.patience) as file:
            try:
                for number, (key, members, end) in enumerate(_groups(file, first, self.wanted.may_be)):
                    if number >= first:
                        yield _sample(key, members, end, self.wanted)
            except _DAMAGE as error:
                behind = f"behind {key}" if key else "at its beginning"
                yield Sample("(damaged)", None, problem=f"the shard is damaged {behind} ({error}); the rest is lost")

    def files(self) -> Iterator[tuple[str, bytes]]:
        with open_shard(self.shards[0].place, self.patience) as file, suppress(*_DAMAGE):
            for key, members, _ in _groups(file, 0, is_file):
                for ending, content in members.items():
                    if content and is_file(ending):
                        yield f"{key}.{ending}", content


def _groups(file: BufferedReader, unread: int, may_be: Callable[[str], bool]) -> Iterator[tuple[str, Members, int]]:
    """Samples as key, members and the bytes up to their end; the content of the first `unread` is passed over. may_be:
    whether a member may be a sample, by its name."""
    held: list[_Member] = []  # of one sample, or of several whose names have dots
    number, begin = 0, ""
    dotted = False  # too many names share what comes before their first dot for one sample
    with tarfile.open(fileobj=unpacked(file), mode="r|", tarinfo=ShortHeaders) as tar:
        for entry in tar:
            tar.members = []  # type: ignore[attr-defined]  # else it keeps one entry for every member it ever saw
            folder, name = posixpath.split(entry.name.removeprefix("./"))
            outside = leads_out(entry.name)
            hidden = any(is_hidden(part) for part in [*folder.split("/"), name] if part != ".")
            if not entry.isreg() or (hidden and not outside):
                continue
            stem, ending = _parted(name)
            stem = posixpath.join(folder, stem)
            before, begin = begin, posixpath.join(folder, name.partition(".")[0])
            if outside:
                stem, ending, begin = entry.name, OUTSIDE, entry.name
            stems = {member.stem for member in held}
            done: list[_Member] = []
            if begin != before or any((member.stem, member.ending) == (stem, ending) for member in held):
                done, held = held, []
            elif len(stems) >= MOST_STEMS and stem not in stems:
                dotted, last = True, _root(held[-1].stem, stems)  # the last sample may go on
                done = [member for member in held if _root(member.stem, stems) != last]
                held = [member for member in held if _root(member.stem, stems) == last]
            for sample in _divided(done, dotted, may_be):
                yield sample
                number += 1
            dotted = dotted and begin == before
            # Which sample this belongs to shows later; it is number + stems - 1 at the most.
            wanted = number + len({stem, *(member.stem for member in held)}) > unread
            wanted = wanted and entry.size <= (MOST_BYTES if may_be(name) else MOST_TEXT)
            wanted = wanted and not entry.issparse() and not outside
            content = tar.extractfile(entry) if wanted else None
            held.append(_Member(stem, ending, content.read() if content else None, file.tell()))
    yield from _divided(held, dotted, may_be)


def _parted(name: str) -> tuple[str, str]:
    """A name without its ending, and that: `nii.gz` is one."""
    stem, dot, ending = name.rpartition(".")
    if dot and ending.lower() == "gz" and "." in stem:
        stem, _, inner = stem.rpartition(".")
        ending = f"{inner}.{ending}"
    return (stem, ending.lower()) if dot else (name, "")


def _root(stem: str, stems: Iterable[str]) -> str:
    """The shortest of `stems` that a name extends after a dot, or itself: 0001.mask belongs to 0001."""
    return min((other for other in stems if stem.startswith(other + ".")), key=len, default=stem)


def _divided(held: list[_Member], dotted: bool, may_be: Callable[[str], bool]) -> list[tuple[str, Members, int]]:
    """Samples: names that share a stem, and those that extend it. Where nothing has the shortest stem (0001.left.jpg,
    0001.right.jpg; clip.0001.jpg, clip.0002.jpg), each stem is a sample of its own, unless one has no image or is
    called image beside others (0001.image.png, 0001.mask.png); and alike of samples of other kinds."""
    if any(member.ending == OUTSIDE for member in held):
        return [(member.stem, {member.ending: member.content}, member.end) for member in held]
    stems = {member.stem for member in held}
    roots = {stem: _root(stem, stems) for stem in stems}
    pictured = {roots[member.stem] for member in held if may_be(f"{member.stem}.{member.ending}")}
    named = any(root.rpartition(".")[2].lower() in IMAGES for root in pictured)
    if not dotted and (named or len(set(roots.values())) > len(pictured)):
        folder, name = posixpath.split(held[0].stem)
        roots = dict.fromkeys(stems, posixpath.join(folder, name.partition(".")[0]))
    samples: dict[str, list[_Member]] = {}
    for member in held:
        samples.setdefault(roots[member.stem], []).append(member)
    return [
        (key, {f"{m.stem}.{m.ending}"[len(key) + 1 :]: m.content for m in members}, members[-1].end)
        for key, members in samples.items()
    ]


def _sample(key: str, members: Members, end: int, wanted: Wanted) -> Sample:
    endings, problem = wanted.among(key, members)
    best = endings[0] if endings else None
    content: Any = _parsed(members.get("json"))
    facts = {str(k): v for k, v in content.items()} if isinstance(content, dict) else {}
    label = next((_text(members[name]).strip() for name in LABELS if members.get(name) is not None), None)
    if label is None:
        told = next((facts[name] for name in LABELS if name in facts), None)
        label = None if told is None else str(told)
    columns = text_columns(facts)
    columns |= {name: _text(members[name]) for name in TEXTS if members.get(name) is not None}
    if OUTSIDE in members:
        problem = "its name leads out of the archive"
    elif best and members[best] is None:
        problem = f"more than {MOST_BYTES:,} bytes, or a sparse file"
    unused = tuple(map(printable, endings[1:]))
    return Sample(printable(key), members[best] if best else None, label, columns, problem or None, end, unused)


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")


def _parsed(content: bytes | None) -> Any:
    try:
        return parse_json(content) if content else None
    except ValueError:  # a broken json takes nothing from the image
        return None


def _index(shards: list[Shard], patience: Patience) -> dict[str, int]:
    """Samples by shard name from what publishers lay beside them: wids' index.json, or a sizes.json."""
    folder, counts = shards[0].place.rsplit("/", 1)[0], {}
    for name in ("index.json", "sizes.json"):
        try:
            with open_shard(f"{folder}/{name}", Patience(tries=1, silence=patience.silence)) as file:
                content = parse_json(file.read(64 << 20))
        except ValueError:  # not there, or not one of these: it only saves an estimate
            continue
        rows = content.get("shardlist", content) if isinstance(content, dict) else content
        pairs = rows.items() if isinstance(rows, dict) else ((r.get("url"), r.get("nsamples")) for r in rows)
        counts |= {str(url).rsplit("/", 1)[-1]: int(count) for url, count in pairs if isinstance(count, int)}
    return counts
