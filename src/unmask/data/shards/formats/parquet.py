"""Hugging Face data sets as parquet files: the sample is a column of encoded bytes, found by what the file declares.

The Hub stores sets so; each file says in its schema which column is an `Image` (or `Audio` ...) and what the classes
are called.
"""

import io
import math
from collections.abc import Iterator

import pyarrow
import pyarrow.parquet as pq

from unmask.data.labels import joined, printable
from unmask.data.limits import Bomb
from unmask.data.shards.expand import Shard
from unmask.data.shards.parquet_pages import PageGuard
from unmask.data.shards.remote import Patience, explained, open_shard
from unmask.data.shards.stream import Sample, Stream
from unmask.data.shards.wanted import DECLARED, Wanted
from unmask.errors import DataError
from unmask.files import Json, parse_json

__all__ = ["Parquet"]

IMAGES = ("image", "img", "image", "photo", "jpg", "png", "webp", "bytes")
LABELS = ("label", "labels", "class", "cls", "category", "target", "fine_label")
ROWS = 8  # decoded from parquet at a time: a value that a page holds once may be that of many rows
BITS = 64  # rows per byte of a file at the most: those that a damaged row group claims are told one by one


class Parquet(Stream):
    """Counts are in every file's last bytes, so that whole files and row groups are skipped without being read."""

    exact = True

    def __init__(self, where: str, shards: list[Shard], patience: Patience | None = None):
        super().__init__(where, shards, patience)
        with open_shard(shards[0].place, self.patience) as raw, _file(raw, shards[0].place) as file:
            schema = file.schema_arrow
        features = _features(schema)
        self.declared = {
            DECLARED[what["_type"]]: name
            for name, what in reversed(features.items())
            if isinstance(what, dict) and what.get("_type") in DECLARED and name in schema.names
        }  # the column of each kind, the first that is declared
        self.content = _content_column(schema, [*self.declared.values()][::-1], shards[0].place)
        self.label, self.classes = _label_column(schema, features)
        self.plural = self.label is not None and _is_list(schema.field(self.label).type)
        self.others = [f.name for f in schema if _is_simple(f.type) and f.name not in (self.content, self.label)]
        if self.label is None and (left := [f for f in schema if f.name.lower() in LABELS and f.name != self.content]):
            self.remarks.append(
                f"the column {left[0].name} ({left[0].type}) is not used: a label is a text or a number"
            )

    @classmethod
    def accepts(cls, place: str) -> bool:
        return place.lower().endswith(".parquet")

    def take(self, wanted: Wanted) -> None:
        super().take(wanted)
        self.content = self.declared.get(wanted.modality.text.partition("(")[0], self.content)

    def count(self, shard: int) -> int | None:
        place = self.shards[shard].place
        with open_shard(place, self.patience) as raw, _file(raw, place) as file:
            return file.metadata.num_rows

    def samples(self, shard: int, first: int = 0) -> Iterator[Sample]:
        place, begin = self.shards[shard].place, 0
        columns = [self.content, *([self.label] if self.label else []), *self.others]
        with open_shard(place, self.patience) as raw:
            try:
                guard = PageGuard(raw)
                with _file(guard, place) as file:
                    for group in range(file.num_row_groups):
                        end = begin + file.metadata.row_group(group).num_rows
                        if end - begin > BITS * guard.size:
                            raise OSError(f"row group {group} claims to have {end - begin:,} rows")
                        if end > first:
                            yield from self._rows(file, guard, group, range(begin, end), columns, first)
                        begin = end
            except (pyarrow.ArrowException, OSError) as error:
                yield Sample("(damaged)", None, problem=f"the shard is damaged ({_line(error)})")

    def _rows(
        self, file: pq.ParquetFile, guard: PageGuard, group: int, numbers: range, columns: list[str], first: int
    ) -> Iterator[Sample]:
        """Those of one row group from row `first` of the shard on; rows that damage makes unreadable say so, each in
        its place, so that all others keep theirs."""
        begin, number = numbers.start, max(numbers.start, first)
        problem = f"row group {group} of the shard has fewer rows than it says"
        try:
            guard.watch(file, group, columns)
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns, use_threads=False):
                guard.hand_out(batch.nbytes)
                for row in batch.slice(max(0, first - begin)).to_pylist():
                    yield self._sample(number, row)
                    number += 1
                begin += batch.num_rows
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError, Bomb) as error:
            problem = f"row group {group} of the shard is damaged ({_line(error)})"
        for lost in range(number, numbers.stop):
            yield Sample(f"row {lost}", None, problem=problem)

    def _sample(self, number: int, row: Json) -> Sample:
        content, label = row.get(self.content), row.get(self.label) if self.label else None
        data = content.get("bytes") if isinstance(content, dict) else content
        path, problem = content.get("path") if isinstance(content, dict) else None, None
        if data is None:
            problem = f"the file holds only a path, {path}" if path else f"no {self.modality.word} in this row"
        columns = {name: str(row[name]) for name in self.others if row.get(name) is not None}
        if isinstance(label, list):
            label = joined(self._label(each) or "" for each in label)
        else:
            label = self._label(label)
        return Sample(f"row {number}", data, label, columns, problem, file=str(path or ""))

    def _label(self, label: object) -> str | None:
        if isinstance(label, int) and self.classes:
            return self.classes[label] if 0 <= label < len(self.classes) else None  # the Hub's -1: not known
        return _text(label)


def _text(label: object) -> str | None:
    """A label in words; None where nothing is known: a missing value, an empty text, NaN."""
    if isinstance(label, float):  # whole numbers that pandas made floats because some were missing
        label = None if math.isnan(label) else int(label) if label.is_integer() else label
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    return None if label is None else printable(str(label).strip()) or None


def _line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _is(kind: pyarrow.DataType, *names: str) -> bool:
    """True for one of these types; pyarrow before 16 does not know them all."""
    return any(getattr(pyarrow.types, f"is_{name}", lambda _: False)(kind) for name in names)


def _is_simple(kind: pyarrow.DataType) -> bool:
    """True for texts, numbers, dates and truth values, in whatever way they are stored."""
    if _is(kind, "dictionary"):
        return _is_simple(kind.value_type)
    return _is(kind, "string", "large_string", "string_view", "integer", "floating", "boolean", "decimal", "temporal")


def _is_bytes(kind: pyarrow.DataType) -> bool:
    if _is(kind, "dictionary"):
        return _is_bytes(kind.value_type)
    return _is(kind, "binary", "large_binary", "binary_view", "fixed_size_binary")


def _is_list(kind: pyarrow.DataType) -> bool:
    return _is(kind, "list", "large_list", "fixed_size_list", "list_view", "large_list_view")


def _is_label(kind: pyarrow.DataType) -> bool:
    """True also for lists: several labels per image."""
    inner = kind.value_type if _is_list(kind) else kind
    return _is_simple(inner) or _is_bytes(inner)


def _file(raw: io.BufferedReader | PageGuard, place: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(raw, pre_buffer=False, buffer_size=1 << 20)  # pages as they come, not a whole row group
    except (pyarrow.ArrowException, OSError) as error:
        raise explained(OSError(f"damaged, or no parquet file ({str(error).splitlines()[0]})"), place) from error


def _features(schema: pyarrow.Schema) -> Json:
    """What `datasets` wrote about the columns."""
    try:
        return parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}


def _content_column(schema: pyarrow.Schema, declared: list[str], place: str) -> str:
    """declared: columns that the file says hold images or the like."""
    types = {field.name: field.type for field in schema}
    structs = [
        n for n, t in types.items() if _is(t, "struct") and "bytes" in [t.field(i).name for i in range(t.num_fields)]
    ]
    plain = [name for name, kind in types.items() if _is_bytes(kind)]
    usual = [name for name in plain if name.lower() in IMAGES]
    candidates = declared or structs or usual or (plain if len(plain) == 1 else [])
    if not candidates:
        shown = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        what = "images or other files (a struct with bytes, or bytes)"
        raise DataError(f"{place} has no column of {what}; its columns: {shown}")
    return min(candidates, key=lambda name: IMAGES.index(name.lower()) if name.lower() in IMAGES else len(IMAGES))


def _label_column(schema: pyarrow.Schema, features: Json) -> tuple[str | None, list[str] | None]:
    for name, what in features.items():
        inner = what[0] if isinstance(what, list) and what else what  # a list of one: several labels per image
        inner = inner.get("feature", inner) if isinstance(inner, dict) else inner
        if (
            isinstance(inner, dict)
            and inner.get("_type") == "ClassLabel"
            and inner.get("names")
            and name in schema.names
        ):
            return name, list(inner["names"])
    columns = {field.name.lower(): field for field in schema}
    usable = [columns[name] for name in LABELS if name in columns and _is_label(columns[name].type)]
    return (usable[0].name, None) if usable else (None, None)
