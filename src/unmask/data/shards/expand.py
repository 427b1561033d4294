"""Expands a place to its files: a brace range, a pattern, a folder, a single file; local or remote through fsspec."""

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from unmask.data.labels import is_hidden, is_image_name, natural
from unmask.data.names import SPLITS
from unmask.data.shards.remote import Patience, is_remote, reach
from unmask.errors import DataError, UserError, closest
from unmask.files import Json
from unmask.version import install_line

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ENDINGS = (*TARS, ".parquet")
MOST = 1_000_000  # shards
ASKED = 32  # shards at either end whose size is asked for one by one, where the store cannot list
GLANCE = 1000  # entries of a folder that are looked at to tell images from shards


@dataclass(frozen=True, slots=True)
class Shard:
    place: str
    size: int | None = None  # bytes; None where the store was not asked or does not say
    tag: str = ""  # changes with the content, if the store tells: an ETag

    @property
    def name(self) -> str:
        return self.place.rstrip("/").rsplit("/", 1)[-1]

    @property
    def split(self) -> str | None:
        """train, val or test, where the file's name says so (`train-000.tar`), else its folder's (`test/0.parquet`)."""
        *_, folder, name = ["", *self.place.split("/")]
        words = [*re.split(r"[-_.]", name), folder]
        return next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), None)


def names_shards(place: str) -> bool:
    """True if what `place` names is read as a stream of shards: anything remote, a brace range or pattern of shards, a
    parquet file, a folder of shards. A single local tar is no stream: it can be read in any order."""
    if is_remote(place) or place.startswith("hf:"):
        return True
    path = os.path.expanduser(place)
    if os.path.isdir(path):
        return _folder_of_shards(path)
    if os.path.exists(path):
        return path.lower().endswith(".parquet") and not _holds_signals(path)
    return path.lower().endswith(ENDINGS) and any(sign in path for sign in "{*?")


def expand(place: str, patience: Patience) -> list[Shard]:
    """The shards that a place names, in the order of their names. Raises UserError or DataError if there is none."""
    path = place if is_remote(place) else os.path.abspath(os.path.expanduser(place))
    names = _braces(path)
    if len(names) == 1 and not path.lower().endswith(ENDINGS):
        shards = _within(names[0], patience)
    elif any(sign in names[0] for sign in "*?["):
        shards = [shard for name in names for shard in _matching(name, patience)]
    else:
        shards = _sized(names, patience)
    if not shards:
        raise DataError(f"no shards in {place}: looked for names that end in {', '.join(ENDINGS)}")
    return sorted(shards, key=lambda shard: natural(shard.place))


def _braces(place: str) -> list[str]:
    if "{" not in place and "}" not in place:
        return [place]
    try:
        from braceexpand import braceexpand
    except ImportError as error:
        raise UserError(f"{place} needs a package that is not installed: {install_line('braceexpand')}") from error
    ranges = re.findall(r"\{(\d+)\.\.(\d+)", place)
    if math.prod(abs(int(last) - int(first)) + 1 for first, last in ranges) > MOST:  # it would fill the memory
        raise UserError(f"{place} names more than {MOST:,} shards")
    try:
        names = list(islice(braceexpand(place), MOST))
    except ValueError as error:  # its UnbalancedBracesError
        raise UserError(f"the braces of {place} do not match; write train-{{000000..000147}}.tar") from error
    if any("{" in name or "}" in name for name in names):
        raise UserError(f"{place} has braces that are no range or list; write {{000000..000147}} or {{a,b,c}}")
    return names


def _within(place: str, patience: Patience) -> list[Shard]:
    """All shards below a folder."""
    if not is_remote(place):
        entries = [os.path.join(root, name) for root, _, files in os.walk(place) for name in files]
        return [Shard(name, os.path.getsize(name)) for name in entries if _counts(name, place)]
    if place.startswith(("http://", "https://")):
        raise UserError(
            f"{place}: a web server does not say what it has; name the shards, e.g. {place.rstrip('/')}/{{00..09}}.tar"
            f" (they end in {', '.join(ENDINGS)})"
        )
    fs, path = reach(place, patience)
    entries = patience.get(lambda: fs.find(path, detail=True), place)
    if not entries:
        raise DataError(f"there is nothing at {place}; check the name of the bucket and the folder")
    return [_shard(_full(place, path, name), info) for name, info in entries.items() if _counts(name, path)]


def _matching(place: str, patience: Patience) -> list[Shard]:
    if place.startswith(("http://", "https://")):
        raise UserError(f"{place}: a web server does not say what it has; write a range, {{00..09}}, in place of *")
    fs, path = reach(place, patience)
    entries = patience.get(lambda: fs.glob(path, detail=True), place)
    root = place[: len(place) - len(path)] if place.endswith(path) else ""
    return [_shard(root + name, info) for name, info in entries.items() if name.lower().endswith(ENDINGS)]


def _sized(places: Sequence[str], patience: Patience) -> list[Shard]:
    """Places with what the store says of them: from a listing where it can list, else asked at either end."""
    infos = dict(pair for folder in {_folder(place) for place in places} for pair in _listed(folder, patience))
    if infos:
        missing = [place for place in places if place not in infos]
        if missing:
            near = closest(missing[0], [*islice(infos, 10_000)])
            raise DataError(f"{len(missing):,} of {len(places):,} shards are not there, e.g. {missing[0]}{near}")
        return [_shard(place, infos[place]) for place in places]
    ends = [*places[:ASKED], *places[max(ASKED, len(places) - ASKED) :]]

    def ask(place: str) -> Json:
        fs, path = reach(place, patience)
        return patience.get(lambda: fs.info(path), place)

    with ThreadPoolExecutor(8) as pool:
        facts = dict(zip(ends, pool.map(ask, ends)))
    return [_shard(place, facts.get(place, {})) for place in places]


def _listed(folder: str, patience: Patience) -> list[tuple[str, Json]]:
    """What lies in a folder; nothing where the store cannot or may not list."""
    if folder.startswith(("http://", "https://")) or "::" in folder:
        return []

    def look() -> list[Json]:
        fs, path = reach(folder, patience)
        return fs.ls(path, detail=True)

    try:
        entries = patience.get(look, folder)
    except DataError as error:
        if isinstance(error.__cause__, PermissionError):  # a bucket that lets files be read but not listed
            return []
        raise
    return [(f"{folder}/{info['name'].rstrip('/').rsplit('/', 1)[-1]}", info) for info in entries]


def _shard(place: str, info: Json) -> Shard:
    tag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash", "blob_id") if info.get(key)), "")
    return Shard(place, info.get("size"), tag)


def _full(place: str, path: str, name: str) -> str:
    """A name that a file system gave, with the protocol that it was asked with."""
    return place.rstrip("/") + name[len(path.rstrip("/")) :]


def _folder(place: str) -> str:
    return place.rsplit("/", 1)[0]


def _counts(name: str, below: str) -> bool:
    inside = name[len(below.rstrip("/")) :].lstrip("/")
    return name.lower().endswith(ENDINGS) and not any(is_hidden(part) for part in inside.split("/"))


def _folder_of_shards(path: str) -> bool:
    """Shards, and no images, among the first entries, level by level. Of Parquet files, the first tells what they
    hold."""
    level, shards, seen, signals = [path], False, 0, None
    while level:
        below = []
        for folder in level:
            try:
                entries = list(islice(os.scandir(folder), GLANCE))
            except OSError:
                continue
            for entry in entries:
                seen += 1
                if is_image_name(entry.name):
                    return False
                may_be = entry.name.lower().endswith(ENDINGS) and not is_hidden(entry.name)
                if may_be and entry.name.lower().endswith(".parquet"):
                    signals = _holds_signals(entry.path) if signals is None else signals
                    may_be = not signals
                shards = shards or may_be
                if entry.is_dir() and not is_hidden(entry.name):
                    below.append(entry.path)
            if seen > GLANCE:
                return shards
        level = below
    return shards


def _holds_signals(path: str) -> bool:
    """Whether a Parquet file holds numbers of sensors, and nothing that could be an image."""
    from unmask.data.codecs.series import holds_series  # here, since it brings pyarrow

    return holds_series(path)
