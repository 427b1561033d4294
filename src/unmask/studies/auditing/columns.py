"""Which group each image belongs to: columns of the data's own labels.csv, or of a table beside it."""

import csv
from collections.abc import Sequence
from pathlib import Path

from unmask.data.names import key_of, match_names
from unmask.data.source import Source
from unmask.errors import UserError, closest_place

PATHS = ("path", "file", "filename", "image", "name")
NO_GROUPS = ("label", "labels", "class", "classes", "split", *PATHS)


def group_columns(source: Source, tables: Sequence[Path]) -> list[dict[str, str]]:
    """For every image of a source the values of its columns; those of the tables are added to its own.

    Raises UserError for a table that is missing, has no column of paths, no other column, or no image of the source.
    """
    columns = [dict(item.columns) for item in source.items]
    place = {item.name: number for number, item in enumerate(source.items)}
    for table in tables:
        rows, key = _read(table)
        matches = match_names([row[key] for row in rows], {name: key_of(name) for name in place})
        if not matches.files:
            raise UserError(f"{table} names no image of {source.where}, e.g. {rows[0][key] if rows else 'it is empty'}")
        for row in rows:
            if row[key] in matches.files:
                values = {name: text.strip() for name, text in row.items() if name and name.lower() not in NO_GROUPS}
                columns[place[matches.files[row[key]]]] |= values
    return columns


def _read(table: Path) -> tuple[list[dict[str, str]], str]:
    if not table.is_file():
        raise UserError(f"--groups {table}: there is no such file{closest_place(table)}")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            heading = list(reader.fieldnames or ())
            rows = [{name: value or "" for name, value in row.items() if isinstance(name, str)} for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"--groups {table} is no CSV file: {error}") from error
    key = next((name for name in heading if name.lower() in PATHS), None)
    if key is None or not any(name.lower() not in NO_GROUPS for name in heading):
        raise UserError(
            f"--groups {table}: its columns are {', '.join(heading) or 'none'}; it needs one of {', '.join(PATHS)} and"
            " one or more for groups, such as site"
        )
    return rows, key
