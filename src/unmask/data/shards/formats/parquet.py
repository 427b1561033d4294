"""Hugging Face data sets as parquet files: the image is a column of encoded bytes, found by what the file declares.

The Hub stores sets so; each file says in its schema which column is an `Image` and what the classes are called.
"""

import io
from collections.abc import Iterator

import pyarrow
import pyarrow.parquet as pq

from unmask.bounded import parse_json
from unmask.data.labels import printable
from unmask.data.shards.expand import Shard
from unmask.data.shards.remote import Patience, explained, open_shard
from unmask.data.shards.stream import Sample, Stream
from unmask.errors import DataError
from unmask.files import Json

__all__ = ["Parquet"]

IMAGES = ("image", "img", "image", "photo", "jpg", "png", "webp", "bytes")
LABELS = ("label", "labels", "class", "cls", "category", "target", "fine_label")
ROWS = 64  # decoded from parquet at a time: what is held in memory beyond a column's pages


class Parquet(Stream):
    """Counts are in every file's last bytes, so that whole files and row groups are skipped without being read."""

    exact = True

    def __init__(self, where: str, shards: list[Shard], patience: Patience | None = None):
        super().__init__(where, shards, patience)
        with open_shard(shards[0].place, self.patience) as raw, _file(raw, shards[0].place) as file:
            schema = file.schema_arrow
        features = _features(schema)
        self.image = _image_column(schema, features, shards[0].place)
        self.label, self.classes = _label_column(schema, features)
        simple = (pyarrow.types.is_string, pyarrow.types.is_integer, pyarrow.types.is_floating)
        rest = [f.name for f in schema if any(is_it(f.type) for is_it in simple)]
        self.others = [name for name in rest if name not in (self.image, self.label)]

    @classmethod
    def accepts(cls, place: str) -> bool:
        return place.lower().endswith(".parquet")

    def count(self, shard: int) -> int | None:
        place = self.shards[shard].place
        with open_shard(place, self.patience) as raw, _file(raw, place) as file:
            return file.metadata.num_rows

    def samples(self, shard: int, first: int = 0) -> Iterator[Sample]:
        place, number = self.shards[shard].place, 0
        columns = [self.image, *([self.label] if self.label else []), *self.others]
        with open_shard(place, self.patience) as raw:
            try:
                with _file(raw, place) as file:
                    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                    wanted = []
                    for group, rows in enumerate(groups):
                        if number + rows <= first and not wanted:
                            number += rows
                        else:
                            wanted.append(group)
                    for batch in file.iter_batches(ROWS, row_groups=wanted, columns=columns) if wanted else ():
                        for row in batch.slice(max(0, first - number)).to_pylist():
                            yield self._sample(max(number, first), row)
                            number = max(number, first) + 1
            except (pyarrow.ArrowException, OSError) as error:
                text = str(error).split("\n")[0]
                yield Sample("(damaged)", None, problem=f"the shard is damaged behind row {number:,} ({text})")

    def _sample(self, number: int, row: Json) -> Sample:
        image, label = row[self.image], row.get(self.label) if self.label else None
        data = image.get("bytes") if isinstance(image, dict) else image
        problem = None
        if data is None:
            path = image.get("path") if isinstance(image, dict) else None
            problem = f"the file holds only a path, {path}" if path else "no image in this row"
        if label is not None and self.classes:
            label = self.classes[label] if 0 <= label < len(self.classes) else None  # the Hub's -1: not known
        columns = {name: str(row[name]) for name in self.others if row[name] is not None}
        return Sample(f"row {number}", data, None if label is None else printable(str(label)), columns, problem)


def _file(raw: io.BufferedReader, place: str) -> pq.ParquetFile:
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


def _image_column(schema: pyarrow.Schema, features: Json, place: str) -> str:
    declared = [name for name, what in features.items() if isinstance(what, dict) and what.get("_type") == "Image"]
    types = {field.name: field.type for field in schema}
    structs = [
        n
        for n, t in types.items()
        if pyarrow.types.is_struct(t) and "bytes" in [t.field(i).name for i in range(t.num_fields)]
    ]
    plain = [n for n, t in types.items() if pyarrow.types.is_binary(t) or pyarrow.types.is_large_binary(t)]
    usual = [name for name in plain if name.lower() in IMAGES]
    found = declared or structs or usual or (plain if len(plain) == 1 else [])
    if not found:
        shown = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise DataError(f"{place} has no column of images (a struct with bytes, or bytes); its columns: {shown}")
    return min(found, key=lambda name: IMAGES.index(name.lower()) if name.lower() in IMAGES else len(IMAGES))


def _label_column(schema: pyarrow.Schema, features: Json) -> tuple[str | None, list[str] | None]:
    for name, what in features.items():
        if isinstance(what, dict) and what.get("_type") == "ClassLabel" and what.get("names"):
            return name, list(what["names"])
    types = {field.name.lower(): field for field in schema}
    known = [types[name] for name in LABELS if name in types]
    usable = [f.name for f in known if pyarrow.types.is_integer(f.type) or pyarrow.types.is_string(f.type)]
    return (usable[0], None) if usable else (None, None)
