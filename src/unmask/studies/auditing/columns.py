"""Which group each image belongs to: columns of the data's own labels.csv, or of a table beside it."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unmask.data.labels import some
from unmask.data.names import Matches, key_of, match_names
from unmask.data.source import Source
from unmask.errors import UserError, closest, closest_place

PATHS = ("path", "file", "filename", "image", "name")
NO_GROUPS = ("label", "labels", "class", "classes", "split", *PATHS)
FEW, MOST = 2, 20  # different values that a column has to be compared without being asked for
Rows = list[dict[str, str]]


def group_columns(source: Source, tables: Sequence[Path], others: Sequence[Source] = ()) -> list[dict[str, str]]:
    """For every image of a source the values of its columns; those of the tables are added to its own.

    others: further data that the tables may speak of. Raises UserError for a table that is missing, has no column of
    paths or no other, or names an image that is in none of the data, or an image twice.
    """
    columns = [dict(item.columns) for item in source.items]
    place = {item.name: number for number, item in enumerate(source.items)}
    told: dict[tuple[int, str], Path] = {}  # image and column -> the table that says it
    for table in tables:
        rows, key = _read(table)
        names = [row[key] for row in rows]
        matches = _matches(names, source)
        _require_known(table, names, [(source, matches), *((other, _matches(names, other)) for other in others)])
        for row in (row for row in rows if row[key] in matches.files):
            number = place[matches.files[row[key]]]
            for name, text in row.items():
                if name.lower() in NO_GROUPS:
                    continue
                if (number, name) in told:
                    first = told[number, name]
                    where = "twice" if first == table else f"as {first} does"
                    raise UserError(
                        f"--groups {table} names {source.items[number].name} {where}: one row for each image, and one"
                        f" table for each column ({name})"
                    )
                told[number, name] = table
                columns[number][name] = text.strip()
    return columns


def choose_columns(columns: Sequence[dict[str, str]], chosen: Sequence[str]) -> list[str]:
    """The chosen columns, or all with 2 to 20 different values; one dict per test image.

    Raises UserError for a column that does not exist or that makes no groups.
    """
    names = list(dict.fromkeys(name for row in columns for name in row))
    values = {name: {row[name] for row in columns if row.get(name)} for name in names}
    for name in chosen:
        if name not in values:
            listed = f" Columns: {', '.join(names)}" if names else " labels.csv has no further columns"
            raise UserError(f"no column {name!r}{closest(name, names)}{listed}")
        if len(values[name]) < FEW:
            only = ", ".join(values[name]) or "none"
            raise UserError(f"the column {name} tells no groups apart: its values on the test images are {only}")
        if len(values[name]) > len(columns) / 2:
            raise UserError(
                f"the column {name} has {len(values[name]):,} different values on {len(columns):,} test images: make"
                " bands of them first, such as 40-60"
            )
    return list(dict.fromkeys(chosen)) or [name for name in names if FEW <= len(values[name]) <= MOST]


def _matches(names: Sequence[str], source: Source) -> Matches:
    return match_names(names, {item.name: key_of(item.name) for item in source.items})


def _require_known(table: Path, names: Sequence[str], matched: Sequence[tuple[Source, Matches]]) -> None:
    """Raises UserError for names that stand there twice, and for those that are in none of the data."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"--groups {table} has more than one row for {some(twice)}: one row for each image")
    foreign = [name for name in names if not any(name in matches.files for _, matches in matched)]
    if not foreign:
        return
    where = " or ".join(source.where for source, _ in matched)
    if len(foreign) == len(names):
        raise UserError(f"--groups {table} names no image of {where}, e.g. {foreign[0] or 'a row without a path'}")
    shown = some([name or "a row without a path" for name in foreign])
    why = next((reason for name in foreign for _, matches in matched if (reason := matches.why_not(name))), "")
    raise UserError(
        f"--groups {table} names {len(foreign):,} of {len(names):,} images that are not in {where}:"
        f" {shown}{f' (one {why})' if why else ''}. Correct their paths, or take these rows out"
    )


def _read(table: Path) -> tuple[Rows, str]:
    """The rows, and the column of paths."""
    if not table.is_file():
        raise UserError(f"--groups {table}: there is no such file{closest_place(table)}")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, restval="", delimiter=max(",;\t", key=first.count))
            heading = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = heading
            rows = [{name: value or "" for name, value in row.items() if name} for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"--groups {table} is no CSV file: {error}") from error
    twice = [name for name, count in Counter(heading).items() if count > 1]
    if twice:
        raise UserError(f"--groups {table} has more than one column {', '.join(twice)}")
    key = next((name for name in heading if name.lower() in PATHS), None)
    if key is None or not any(name.lower() not in NO_GROUPS for name in heading):
        raise UserError(
            f"--groups {table}: its columns are {', '.join(heading) or 'none'}; it needs one of {', '.join(PATHS)} and"
            " one or more for groups, such as site"
        )
    if not rows:
        raise UserError(f"--groups {table} has a heading and no rows: one for each image is wanted")
    return rows, key
