"""Series: recordings of sensors (IMU, ECG, ...) as channels over time, from CSV, Parquet, NPY, NPZ and arrays.

Axes of arrays: t is time, c channels, n recordings. One axis is t. Of two, a last axis of at most 32 is c (t c), else a
first axis of at most 32 (c t), else they are n t: recordings of one channel. Of three, the first is n and the longer of
the others t. `layout` overrules. Parquet with lists in its cells holds one recording per row, a list per channel.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import what_else
from unmask.data.codecs.tables.clock import Clock, find_clock, is_number, resampled
from unmask.data.codecs.tables.delimited import as_numbers, read_table
from unmask.data.codecs.tables.npz import arrays_of
from unmask.data.codecs.tables.recordings import roles_of
from unmask.errors import UserError, many

MOST_CHANNELS = 32
LAYOUTS = ("t", "t c", "c t", "n t", "n t c", "n c t")
RATES = ("rate", "fs", "sampling_rate", "sample_rate", "samplerate", "sampling_frequency", "sr", "hz")  # names of rates
DATA = ("x", "data", "signal", "signals", "values", "samples", "series", "recording", "recordings")  # of arrays
TIMES = ("time", "times", "t", "timestamp", "timestamps")


@dataclass(frozen=True)
class Series:
    """One recording, whole."""

    values: Float32[Tensor, "c t"]  # finite
    rate: float | None  # Hz; None where nothing says it
    names: tuple[str, ...]  # of the channels; empty where nothing says them
    format: str  # "CSV", "Parquet", "NPY", "NPZ", "array"
    bits: int  # per value as stored
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int]:
        return (self.values.shape[1],)

    @property
    def channels(self) -> int:
        return self.values.shape[0]


@dataclass(frozen=True)
class Recordings:
    """What a file or array holds: one recording or several."""

    format: str
    count: int
    table: pq.ParquetFile | None = None  # one recording per row
    array: np.ndarray | None = None  # n t c, n c t, n t, t c, c t or t
    layout: str = ""
    rate: float | None = None
    seconds: np.ndarray | None = None  # times of all samples
    text: bytes = b""


def count_series(source: str | bytes | np.ndarray, *, layout: str | None = None) -> int:
    """How many recordings a file or array holds. Raises as `read_series`."""
    return _open(source, layout).count


def read_series(source: str | bytes | np.ndarray, row: int = 0, *, layout: str | None = None) -> Series:
    """A recording of a file (path or content) or array: the only one, or no. `row` of several.

    Of tables, a column of times gives the rate and is no channel; irregular samples are resampled, missing values
    bridged by straight lines, text left out: `notes` says so. Raises BadImage with the reason.
    """
    opened = _open(source, layout)
    if not 0 <= row < opened.count:
        raise BadImage(f"holds {many(opened.count, 'recording')}; no. {row} (from 0) was asked for")
    try:
        if opened.table is not None:
            return _row(opened.table, row)
        if opened.array is not None:
            return _from_array(opened, row)
        text = read_table(opened.text)
        return series_of_columns(text.names, text.units, text.columns, "CSV", text.notes, text.rate)
    except BadImage:
        raise
    except Exception as error:  # readers fed damaged files raise anything: SyntaxError, MemoryError, BadZipFile
        raise BadImage(f"truncated or damaged ({' '.join(str(error).split())[:100]})") from error


def holds_series(source: str | bytes) -> bool:
    """Whether a Parquet, NPY or NPZ file holds series, as far as its columns or axes tell: of a table, numbers or lists
    of numbers, and no text but what names, labels or dates a recording."""
    try:
        opened = _open(source, None)
    except BadImage:
        return False
    if opened.table is None:
        return opened.count > 0 and (opened.array is None or opened.array.dtype != np.uint8)
    schema = opened.table.schema_arrow
    told = {*roles_of(schema.names).names}
    kinds = [field.type for field in schema if field.name not in told and not pa.types.is_temporal(field.type)]
    return opened.count > 0 and bool(kinds) and all(is_number(_inner(kind)) for kind in kinds)


def _open(source: str | bytes | np.ndarray, layout: str | None) -> Recordings:
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout is one of {', '.join(LAYOUTS)}; got {layout!r}")
    if isinstance(source, np.ndarray):
        return _arrays({"": source}, "array", layout)
    try:
        if isinstance(source, str) and not os.path.isfile(source):
            raise BadImage("not a regular file" if os.path.lexists(source) else "there is no such file")
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as opened:
            head = opened.read(8)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        if not head:
            raise BadImage("empty file")
        if head.startswith(b"PAR1"):
            return _parquet(opened_parquet(source))
        if head.startswith(b"\x93NUMPY"):
            array = np.load(file, allow_pickle=False, mmap_mode="r" if isinstance(file, str) else None)
            return _arrays({"": array}, "NPY", layout)
        if head.startswith(b"PK\x03\x04"):
            return _arrays(arrays_of(source), "NPZ", layout)
        text = source if isinstance(source, bytes) else Path(source).read_bytes()
    except BadImage:
        raise
    except Exception as error:  # readers fed damaged files raise anything: SyntaxError, MemoryError, BadZipFile
        raise BadImage(f"truncated or damaged ({' '.join(str(error).split())[:100]})") from error
    if (other := what_else(text)) != "not an image":
        raise BadImage(other.replace("an image", "a recording", 1))
    return Recordings("CSV", 1, text=text)


def series_of_columns(
    names: list[str],
    units: list[str],
    columns: Sequence[pa.ChunkedArray],
    form: str,
    notes: list[str],
    rate: float | None = None,
    without: Sequence[str] = (),
) -> Series:
    """One recording, whose channels are the columns of numbers. without: names of columns that are none."""
    if without:
        places = [place for place, name in enumerate(names) if name not in without]
        units = [units[place] for place in places] if units else []
        names, columns = [names[place] for place in places], [columns[place] for place in places]
    columns = [as_numbers(column, names[place] if names else "", notes) for place, column in enumerate(columns)]
    clock, others = find_clock(names, units, columns, notes)
    places = [i for i, column in enumerate(columns) if i not in others and not pa.types.is_string(column.type)]
    if not places or not len(columns[0]):
        raise BadImage("no columns of numbers" if columns else "no columns")
    text = [i for i, column in enumerate(columns) if pa.types.is_string(column.type)]
    if text:
        told = ", ".join(repr(names[i]) if names else f"no. {i + 1}" for i in text[:3])
        notes.append(f"text left out: {told}{' ...' if len(text) > 3 else ''}")
    kept = [columns[place] for place in places]
    bits = max(column.type.bit_width for column in kept)
    values = np.stack([column.cast(pa.float64()).to_numpy() for column in kept])
    channels = tuple(names[place] for place in places) if names else ()
    return _finished(values, rate, clock, channels, form, bits, notes)


def _finished(
    values: np.ndarray,
    rate: float | None,
    clock: Clock | None,
    names: tuple[str, ...],
    form: str,
    bits: int,
    notes: list[str],
) -> Series:
    """c t, float64: missing values bridged, samples made even."""
    if not values.size:
        raise BadImage("no samples")
    values, missing = values.copy(), ~np.isfinite(values)
    if missing.all():
        raise BadImage("no finite value")
    for place, gaps in enumerate(missing):
        if gaps.any():
            present = np.flatnonzero(~gaps)
            values[place] = np.interp(np.arange(len(gaps)), present, values[place, present]) if len(present) else 0.0
    if missing.any():
        empty = int(missing.all(axis=1).sum())
        bridged = int(missing[~missing.all(axis=1)].sum())
        notes += [f"{many(bridged, 'missing value')} bridged by straight lines"] if bridged else []
        notes += [f"{many(empty, 'channel')} without values set to 0"] if empty else []
    if clock is not None:
        values, rate = resampled(clock, values, notes)
    with np.errstate(over="ignore"):
        tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    if not torch.isfinite(tensor).all():
        raise BadImage("values beyond the range of float32")
    return Series(tensor, rate, names, form, bits, tuple(notes))


def _parquet(table: pq.ParquetFile) -> Recordings:
    """Lists in its cells: one recording per row. Else one recording, whose channels are the columns."""
    rows = table.metadata.num_rows
    return Recordings("Parquet", rows if list_columns(table.schema_arrow) else min(1, rows), table=table)


def opened_parquet(source: str | bytes) -> pq.ParquetFile:
    """Raises BadImage with the reason."""
    try:
        return pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except Exception as error:
        raise BadImage(f"truncated or damaged ({' '.join(str(error).split())[:100]})") from error


def list_columns(schema: pa.Schema) -> list[str]:
    """Columns whose cells are lists of numbers."""
    return [field.name for field in schema if _is_list(field.type) and is_number(_inner(field.type))]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _inner(kind: pa.DataType) -> pa.DataType:
    return _inner(kind.value_type) if _is_list(kind) else kind


def _row(table: pq.ParquetFile, row: int) -> Series:
    lists = list_columns(table.schema_arrow)
    if not lists:
        columns = table.read()
        return series_of_columns(columns.column_names, [], columns.columns, "Parquet", [])
    group = 0
    while row >= table.metadata.row_group(group).num_rows:
        row -= table.metadata.row_group(group).num_rows
        group += 1
    scalars = [field.name for field in table.schema_arrow if field.name.lower() in RATES]
    cells = table.read_row_group(group, columns=[*lists, *scalars]).slice(row, 1).to_pydict()
    rate = next((float(cells[name][0]) for name in scalars if cells[name][0]), None)
    arrays = {name: np.array(cells[name][0] or [], np.float64) for name in lists}
    opened = _arrays(arrays, "Parquet", "t" if all(a.ndim == 1 for a in arrays.values()) else None, rate)
    if opened.count != 1:
        raise BadImage(f"a cell of shape {next(iter(arrays.values())).shape}, which is no recording")
    bits = max(_inner(table.schema_arrow.field(name).type).bit_width for name in lists)
    return _from_array(opened, 0, bits, tuple(name for name in lists if name.lower() not in TIMES))


def _arrays(arrays: dict[str, np.ndarray], form: str, layout: str | None, rate: float | None = None) -> Recordings:
    """The array of an archive that is the data, with its rate or times beside it."""
    sizes = {name: array.shape for name, array in arrays.items()}
    seconds = None
    for name, array in list(arrays.items()):
        if name.lower() in RATES and array.size == 1:
            rate = float(arrays.pop(name).reshape(()))
        elif name.lower() in TIMES and array.ndim == 1 and len(arrays) > 1:
            seconds = arrays.pop(name).astype(np.float64)
    chosen = [name for name in arrays if name.lower() in DATA] or list(arrays)
    if len(chosen) > 1 and len({arrays[name].shape for name in chosen}) == 1 and arrays[chosen[0]].ndim == 1:
        array, layout = np.stack([arrays[name] for name in chosen]), "c t"
    elif len(chosen) == 1:
        array = arrays[chosen[0]]
    else:
        told = ", ".join(f"{name} {shape}" for name, shape in sizes.items())
        raise BadImage(f"which array is the recording cannot be told: {told}; call it x or data")
    if array.dtype.kind not in "buif":
        raise BadImage(f"array of {array.dtype}, samples are numbers")
    layout = layout or _layout(array.shape)
    if array.ndim != len(layout.split()):
        raise BadImage(f"array of shape {array.shape}, expected {layout}")
    count = array.shape[0] if layout.startswith("n") else 1
    return Recordings(form, count, array=array, layout=layout, rate=rate, seconds=seconds)


def _layout(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return "t"
    if len(shape) == 2:
        return "t c" if shape[1] <= MOST_CHANNELS else "c t" if shape[0] <= MOST_CHANNELS else "n t"
    if len(shape) == 3:
        return "n t c" if shape[1] >= shape[2] else "n c t"
    raise BadImage(f"array of shape {shape}, a recording has one to three axes")


def _from_array(opened: Recordings, row: int, bits: int = 0, names: tuple[str, ...] = ()) -> Series:
    assert opened.array is not None
    array = opened.array[row] if opened.layout.startswith("n") else opened.array
    axes = opened.layout.removeprefix("n").strip()
    values = np.asarray(array[None] if axes == "t" else array.T if axes == "t c" else array, np.float64)
    bits = bits or (1 if opened.array.dtype == bool else 8 * opened.array.dtype.itemsize)
    clock = None
    if opened.seconds is not None:
        if len(opened.seconds) != values.shape[1]:
            raise BadImage(f"{len(opened.seconds):,} times for {values.shape[1]:,} samples")
        clock = Clock("time", opened.seconds - opened.seconds[0])
    return _finished(values, opened.rate, clock, names if len(names) == len(values) else (), opened.format, bits, [])
