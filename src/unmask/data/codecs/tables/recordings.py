"""Several recordings in one table: columns that name the recording, its label and its split, and the rows of each.

A table is gone through once, row by row; afterwards a recording is read alone, by where its rows lie in the file.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Cut, Division
from unmask.data.codecs.tables.clock import words_of
from unmask.data.codecs.tables.delimited import Form, form_of, split_row
from unmask.data.names import SPLITS

RECORDINGS = ("recording", "record", "session", "subject", "trial", "segment", "window", "sequence", "uid")
NUMBERING = {"id", "ids", "no", "nr", "num", "number", "name", "index"}
LABELS = ("label", "class", "category", "activity", "target")
SPLIT = ("split", "subset")
HEAD = 1 << 16  # bytes of a text in which its header lies
UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}  # by the first bytes of a text
BOM = 2  # these
BYTES = "latin-1"  # of other texts: a character for each byte, whatever the bytes mean
Runs = list[tuple[int, int]]  # first and last but one, of bytes or rows


@dataclass(frozen=True)
class Roles:
    """Columns of a table that are no channels."""

    recordings: tuple[str, ...] = ()  # that name the recording, together
    label: str | None = None
    split: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.recordings, *filter(None, (self.label, self.split)))

    @property
    def remarks(self) -> list[str]:
        """Where labels and splits are from."""
        told = (("label", self.label), ("split", self.split))
        return [f"the {what} of a recording is taken from {_columns([column])}" for what, column in told if column]

    @staticmethod
    def split_of(text: str | None) -> str | None:
        """train, val or test, where a cell means one of them."""
        return SPLITS.get((text or "").strip().lower())


def roles_of(names: Sequence[str], recording: str | None = None) -> Roles:
    """By the names of columns. recording: the column that was asked for; "": none. Raises BadImage where it lacks."""
    if recording and recording not in names:
        raise BadImage(f"has no column {recording!r}, which is to name the recording; it has {', '.join(names[:8])}")
    naming = tuple(name for name in names if _names_recordings(name)) if recording is None else ()
    by_word = {name.strip().lower(): name for name in reversed(names)}
    label, split = (next((by_word[word] for word in words if word in by_word), None) for words in (LABELS, SPLIT))
    chosen = (recording,) if recording else naming
    return Roles(chosen, *(None if name in chosen else name for name in (label, split)))


def _names_recordings(name: str) -> bool:
    words = words_of(name)
    bare = [word for word in words if word not in NUMBERING]
    return words == ["id"] or (len(bare) == 1 and bare[0] in RECORDINGS)


def recordings_of_text(source: str | bytes, recording: str | None = None) -> Division:
    """The recordings in a table of text; none where no column tells them apart. A place is the bytes of the header, and
    of each run of rows. Raises BadImage and OSError."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        form, code, begins = _beginning(file)
        names = form.names
        if code == BYTES:
            names = [name.encode(BYTES).decode("utf-8-sig", "replace") for name in names]
        roles = roles_of(names, recording)
        if not roles.names:
            return Division()
        rows, columns = _Rows(roles), [names.index(name) for name in roles.names]
        start, separator = begins, None if form.separator == " " else form.separator.encode()
        file.seek(start)
        for line, length in _lines(file, code):
            cells = line.split(separator)
            if b'"' in line:  # what is quoted may hold separators
                cells = [cell.encode(BYTES) for cell in split_row(line.decode(BYTES), form.separator)]
            whole = len(cells) == len(names) and bool(line.strip())
            rows.add(tuple(cells[i].strip() for i in columns) if whole else None, start, start + length)
            start += length
    readable = [[cell.decode("utf-8", "replace") for cell in key] for key in rows.runs]
    return rows.division((0, begins), readable)


def form_in(source: str | bytes) -> Form:
    """How a table of text is written. Raises BadImage and OSError."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        return _beginning(file)[0]


def _beginning(file: io.BufferedReader | io.BytesIO) -> tuple[Form, str, int]:
    """How a table is written, its encoding, and the bytes before its first row."""
    head = file.read(HEAD)
    code, mark = (UTF16[head[:BOM]], BOM) if head[:BOM] in UTF16 else (BYTES, 0)
    text = head[mark:].decode(code, "ignore")
    form = form_of(text, partial=len(head) == HEAD)
    return form, code, mark + len(text[: form.begins].encode(code))


def _lines(file: io.BufferedReader | io.BytesIO, code: str) -> Iterator[tuple[bytes, int]]:
    """The lines from here on, with the number of bytes that each takes in the file; those of UTF-16 as UTF-8. Raises
    BadImage where one is cut within a character."""
    if code == BYTES:
        yield from ((line, len(line)) for line in file)
        return
    text = io.TextIOWrapper(file, encoding=code, errors="surrogatepass", newline="\n")
    try:
        for line in text:
            yield line.encode(errors="replace"), len(line.encode(code, "surrogatepass"))
    except UnicodeDecodeError as error:
        raise BadImage("truncated or damaged (it ends within a character)") from error
    finally:
        text.detach()  # the file is closed by who opened it


def text_of(source: str | bytes, place: Sequence[int]) -> bytes:
    """The bytes at a place: the header, and the rows of one recording."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        parts = []
        for first, end in _pairs(place):
            file.seek(first)
            parts.append(file.read(end - first))
    end = "\n".encode(UTF16.get(parts[0][:BOM], BYTES))
    return b"".join(part if part.endswith(end) else part + end for part in parts)


def recordings_of_parquet(table: pq.ParquetFile, recording: str | None = None) -> Division:
    """The recordings in the rows of a table; none where no column tells them apart. A place is runs of rows."""
    roles = roles_of(table.schema_arrow.names, recording)
    if not roles.names:
        return Division()
    rows, row = _Rows(roles), 0
    for group in range(table.metadata.num_row_groups):
        columns = table.read_row_group(group, columns=list(roles.names))
        for key in zip(*(map(_cell, columns[name].to_pylist()) for name in roles.names)):
            rows.add(key, row, row + 1)
            row += 1
    return rows.division((), [list(key) for key in rows.runs])


def rows_of(table: pq.ParquetFile, place: Sequence[int]) -> pa.Table:
    """Those rows of a table, of which no more is read than the groups that they lie in."""
    wanted = np.concatenate([np.arange(first, end) for first, end in _pairs(place)])
    parts, first = [], 0
    for group in range(table.metadata.num_row_groups):
        end = first + table.metadata.row_group(group).num_rows
        inside = wanted[(wanted >= first) & (wanted < end)] - first
        if len(inside):
            parts.append(table.read_row_group(group).take(pa.array(inside)))
        first = end
    return pa.concat_tables(parts)


class _Rows:
    """The runs of rows of each recording, in the order in which these begin."""

    def __init__(self, roles: Roles):
        self.roles, self.count = roles, 0
        self.runs: dict[tuple[Any, ...], Runs] = {}  # by what the columns with a role say in a row
        self.last: tuple[Any, ...] | None = None

    def add(self, key: tuple[Any, ...] | None, first: int, end: int) -> None:
        """key: None where a row says nothing: it belongs to the one before."""
        self.count += key is not None
        key = self.last if key is None else key
        if key is None:
            return
        runs = self.runs.setdefault(key, [])
        if runs and runs[-1][1] == first:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((first, end))
        self.last = key

    def division(self, head: tuple[int, ...], readable: list[list[str]]) -> Division:
        """The recordings. readable: the keys of `runs` as text. A column that says something new in most rows counts
        them, and names no recordings."""
        roles, spread = self.roles, range(len(self.roles.recordings))
        naming = [i for i in spread if 2 * len({key[i] for key in readable}) <= max(2, self.count)]
        by_name: dict[tuple[str, ...], list[tuple[list[str], Runs]]] = {}
        for key, runs in zip(readable, self.runs.values()):
            by_name.setdefault(tuple(key[i] for i in naming), []).append((key, runs))
        places = {name: place for place, name in enumerate(roles.names)}
        cuts, changing = [], 0
        for name, entries in by_name.items():
            runs = _joined(run for _, own in entries for run in own)
            said = {column: {key[place].strip() for key, _ in entries} for column, place in places.items()}
            label, split = (_alike(said.get(column or "", set())) for column in (roles.label, roles.split))
            changing += len(said.get(roles.label or "", ())) > 1
            columns = dict(zip((roles.recordings[i] for i in naming), name))
            place = (*head, *(bound for run in runs for bound in run))
            cuts.append(
                Cut(
                    place,
                    "/".join(map(_plain, name)) if len(by_name) > 1 else "",
                    label,
                    roles.split_of(split),
                    columns,
                )
            )
        told_apart = [f"recordings are told apart by {_columns(roles.recordings[i] for i in naming)}"]
        remarks = told_apart * (len(by_name) > 1) + roles.remarks
        if changing:
            remarks.append(
                f"recordings whose label changes from row to row have none, in {_columns([str(roles.label)])}"
            )
        return Division(tuple(cuts), tuple(remarks))


def _alike(values: set[str]) -> str | None:
    """What all rows of a recording say; None where they differ or say nothing."""
    return next(iter(values)) or None if len(values) == 1 else None


def _joined(runs: Iterable[tuple[int, int]]) -> Runs:
    joined: Runs = []
    for first, end in sorted(runs):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined


def _pairs(place: Sequence[int]) -> list[tuple[int, int]]:
    return [pair for number, pair in enumerate(pairwise(place)) if number % 2 == 0]


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _plain(text: str) -> str:
    """Of a cell, what a name may hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "-"


def _columns(names: Iterable[str]) -> str:
    listed = [repr(_plain(name)) for name in names]
    return f"the column{'s' * (len(listed) > 1)} {' and '.join(listed)}"
