"""WebDataset: tar files in which members that share a name up to its first dot make up a sample.

The layout that large sets are published in: `0001.jpg`, `0001.cls`, `0001.json`, `0001.txt`. Aizman et al. 2019, "High
Performance I/O For Large Scale Deep Learning". Read with the standard library's tarfile as it comes, packed or not.
"""

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from unmask.bounded import Bomb, ShortHeaders, leads_out, parse_json, unpacked
from unmask.data.labels import is_hidden, is_image_name, printable
from unmask.data.shards.expand import TARS, Shard
from unmask.data.shards.remote import Patience, open_shard
from unmask.data.shards.stream import Sample, Stream

__all__ = ["WebDataset"]

LABELS = ("cls", "label", "class", "category", "target")  # members, and keys of the json
TEXTS = ("txt", "text", "caption")
MOST_TEXT = 1 << 20  # bytes of a member that is no image; longer ones are passed over
MOST_IMAGE = 1 << 30  # bytes of one
OUTSIDE = "(outside)"  # in place of the members of a sample whose name leads out of the archive
_DAMAGE = (tarfile.TarError, Bomb, lzma.LZMAError, zlib.error, EOFError)
Members = dict[str, bytes | None]  # what follows the first dot -> content; None: not of use


class WebDataset(Stream):
    """The image is the member with an image's extension; `cls` or a key of the `json` is the label."""

    def __init__(self, where: str, shards: list[Shard], patience: Patience | None = None):
        super().__init__(where, shards, patience)
        self.known = _index(shards, self.patience)

    @classmethod
    def accepts(cls, place: str) -> bool:
        return place.lower().endswith(TARS)

    def count(self, shard: int) -> int | None:
        return self.known.get(self.shards[shard].name)

    def samples(self, shard: int, first: int = 0) -> Iterator[Sample]:
        number, key = 0, ""
        with open_shard(self.shards[shard].place, self.patience) as file:
            try:
                for key, members in _groups(file, first):
                    number += 1
                    if number > first:
                        sample = _sample(key, members)
                        sample.end = file.tell()
                        yield sample
            except _DAMAGE as error:
                behind = f"behind {key}" if key else "at its beginning"
                yield Sample("(damaged)", None, problem=f"the shard is damaged {behind} ({error}); the rest is lost")


def _groups(file: BufferedReader, unread: int) -> Iterator[tuple[str, Members]]:
    """Samples by key; the content of the first `unread` is passed over."""
    current, members, number = None, Members(), 0
    with tarfile.open(fileobj=unpacked(file), mode="r|", tarinfo=ShortHeaders) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # else it keeps one entry for every member it ever saw
            folder, name = posixpath.split(member.name.removeprefix("./"))
            outside = member.isreg() and leads_out(member.name)
            if not member.isreg() or (
                not outside and any(is_hidden(part) for part in [*folder.split("/"), name] if part != ".")
            ):
                continue
            stem, _, ending = name.partition(".")
            key, ending = posixpath.join(folder, stem), ending.lower()
            if outside:
                key, ending = member.name, OUTSIDE
            if current is not None and (key != current or ending in members):
                yield current, members
                members, number = Members(), number + 1
            current = key
            most = MOST_IMAGE if is_image_name(name) else MOST_TEXT
            wanted = number >= unread and member.size <= most and not member.issparse() and ending != OUTSIDE
            content = tar.extractfile(member) if wanted else None
            members[ending] = content.read() if content else None
    if current is not None:
        yield current, members


def _sample(key: str, members: Members) -> Sample:
    images = [ending for ending in members if is_image_name("x." + ending)]
    best = min(images, key=lambda ending: ending.count("."), default=None)  # `jpg` before `mask.png`
    content: Any = _parsed(members.get("json"))
    facts = {str(k): v for k, v in content.items()} if isinstance(content, dict) else {}
    label = next((_text(members[name]).strip() for name in LABELS if members.get(name) is not None), None)
    if label is None:
        told = next((facts[name] for name in LABELS if name in facts), None)
        label = None if told is None else str(told)
    columns = {name: str(value) for name, value in facts.items() if isinstance(value, (str, int, float))}
    columns |= {name: _text(members[name]) for name in TEXTS if members.get(name) is not None}
    problem = None if best else f"no image among its members: {', '.join(members)}"
    if OUTSIDE in members:
        problem = "its name leads out of the archive"
    elif best and members[best] is None:
        problem = f"an image of more than {MOST_IMAGE:,} bytes, or a sparse file"
    return Sample(printable(key), members[best] if best else None, label, columns, problem)


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")


def _parsed(content: bytes | None) -> Any:
    try:
        return parse_json(content) if content else None
    except ValueError:  # a broken json takes nothing from the image
        return None


def _index(shards: list[Shard], patience: Patience) -> dict[str, int]:
    """Samples by shard name from what publishers lay beside them: wids' index.json, or a sizes.json."""
    folder, known = shards[0].place.rsplit("/", 1)[0], {}
    for name in ("index.json", "sizes.json"):
        try:
            with open_shard(f"{folder}/{name}", Patience(tries=1, silence=patience.silence)) as file:
                content = parse_json(file.read(64 << 20))
        except ValueError:  # not there, or not one of these: it only saves an estimate
            continue
        rows = content.get("shardlist", content) if isinstance(content, dict) else content
        pairs = rows.items() if isinstance(rows, dict) else ((r.get("url"), r.get("nsamples")) for r in rows)
        known |= {str(url).rsplit("/", 1)[-1]: int(count) for url, count in pairs if isinstance(count, int)}
    return known
