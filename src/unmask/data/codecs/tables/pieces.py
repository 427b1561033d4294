"""The recordings in a file that holds several, found once and read one at a time: rows of tables, and of arrays."""

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Cut, Division
from unmask.data.codecs.series import Series, count_series, list_columns, opened_parquet, read_series, series_of_columns
from unmask.data.codecs.tables.delimited import read_table
from unmask.data.codecs.tables.recordings import (
    Roles,
    form_in,
    recordings_of_parquet,
    recordings_of_text,
    roles_of,
    rows_of,
    text_of,
)
from unmask.data.regular_files import head_of

ARRAYS = (b"\x93NUMPY", b"PK\x03\x04")


def pieces_of(source: str | bytes | np.ndarray, recording: str | None = None) -> Division:
    """Where the recordings of a file (path or content) or array lie, with labels and splits where a table says them;
    none for what is one as a whole. recording: the column that names them; "": there is none; None: found by its name.
    Raises BadImage with the reason, and OSError."""
    if not isinstance(source, np.ndarray):
        head = _head(source)
        if head.startswith(b"PAR1"):
            table = opened_parquet(source)
            return _in_cells(table) if list_columns(table.schema_arrow) else recordings_of_parquet(table, recording)
        if not head.startswith(ARRAYS):
            return recordings_of_text(source, recording)
    count = count_series(source)
    return Division(tuple(Cut((row,), name) for row, name in _numbered(count))) if count > 1 else Division()


def read_piece(source: str | bytes | np.ndarray, place: Sequence[int], recording: str | None = None) -> Series:
    """The recording that lies at a place of `pieces_of`; columns with another role are no channels. Raises BadImage
    with the reason."""
    head = b"" if isinstance(source, np.ndarray) else _head(source)
    if isinstance(source, np.ndarray) or head.startswith(ARRAYS):
        return read_series(source, place[0])
    try:
        if not head.startswith(b"PAR1"):
            text = read_table(text_of(source, place), form_in(source))
            without = roles_of(text.names, recording).names
            return series_of_columns(text.names, text.units, text.columns, "CSV", text.notes, text.rate, without)
        table = opened_parquet(source)
        if list_columns(table.schema_arrow):
            return read_series(source, place[0])
        rows = rows_of(table, place)
        without = roles_of(rows.column_names, recording).names
        return series_of_columns(rows.column_names, [], rows.columns, "Parquet", [], None, without)
    except BadImage:
        raise
    except Exception as error:  # readers fed damaged files raise anything
        raise BadImage(f"truncated or damaged ({' '.join(str(error).split())[:100]})") from error


def _in_cells(table: pq.ParquetFile) -> Division:
    """A recording in each row, whose other cells may say its label and its split."""
    names = [name for name in table.schema_arrow.names if name not in list_columns(table.schema_arrow)]
    roles = roles_of(names)
    if table.metadata.num_rows == 1 and not roles.names:
        return Division()
    columns = table.read(columns=list(roles.names)).to_pydict() if roles.names else {}
    cuts = []
    for row, name in _numbered(table.metadata.num_rows):
        told = {column: "" if cells[row] is None else str(cells[row]) for column, cells in columns.items()}
        cuts.append(_cut_of_row(row, name, told, roles))
    return Division(tuple(cuts), tuple(roles.remarks))


def _cut_of_row(row: int, name: str, told: dict[str, str], roles: Roles) -> Cut:
    label, split = (told.get(column or "") for column in (roles.label, roles.split))
    columns = {column: told[column] for column in roles.recordings}
    return Cut((row,), name, label or None, roles.split_of(split), columns)


def _numbered(count: int) -> list[tuple[int, str]]:
    width = len(str(max(0, count - 1)))
    return [(row, f"{row:0{width}d}") for row in range(count)]


def _head(source: str | bytes) -> bytes:
    return source[:8] if isinstance(source, bytes) else head_of(source)[:8]
