"""Tables in text, as instruments write them: the separator, the decimal mark, the header, where numbers begin.

Separators are tabs, semicolons, commas, bars or spaces; the one that makes most fields numbers or times is taken. With
a comma as separator, the decimal mark is a point; otherwise it is a comma where numbers with one are found, and none
with a point. Lines before the header (the name of a device, comments) are passed over, as are empty ones.
"""

import csv
import io
import re
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.csv

from unmask.data.codecs.image import BadImage
from unmask.errors import many

SEPARATORS = ("\t", ";", ",", "|", " ")
MISSING = (
    "",
    "NA",
    "N/A",
    "NaN",
    "nan",
    "NAN",
    "null",
    "NULL",
    "None",
    "-",
    "--",
    "?",
    "nd",
    "inf",
    "-inf",
    "Inf",
    "#N/A",
)
LOOKED_AT = 200  # lines from which the form of a table is told
MARKS = ("#", "%", "//")  # of comments
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
TIME = re.compile(
    r"\d{4}[-/]\d\d?[-/]\d\d?([ T]\d\d?:\d\d(:\d\d([.,]\d+)?)?)?(Z|[-+]\d\d:?\d\d)?|\d\d?:\d\d:\d\d([.,]\d+)?"
)
RATE = re.compile(r"(?:sampl\w*[ _-]*(?:rate|freq\w*)|\bfs\b|\brate\b)[^\d\n]{0,12}(\d+(?:\.\d+)?) *(?:hz)?\b", re.I)
CLOCK = re.compile(r"(\d\d?):(\d\d):(\d\d(?:[.,]\d+)?)")
RAGGED = 0.1  # share of rows of another length above which a text is no table


@dataclass
class Table:
    names: list[str]  # empty where there is no header
    columns: list[pa.ChunkedArray]
    notes: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)  # of a second line of the header
    rate: float | None = None  # Hz, where a line before the table states it


@dataclass(frozen=True)
class Form:
    """How a table in text is written."""

    separator: str
    width: int  # columns
    names: list[str]  # of these; empty where there is no header
    first: int  # lines before the first row of numbers, without empty ones and comments
    begins: int = 0  # characters before it


def read_table(data: bytes, form: Form | None = None) -> Table:
    """Columns as pyarrow reads them: numbers, times, text. form: of the whole table, where this is its header and some
    of its rows, which may not tell. Raises BadImage for what is no table."""
    text = _text(data)
    lines = [line for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if _counts(line)]
    if not kept:
        raise BadImage("empty file" if not lines else "comments only")
    form = form or _form(kept[:LOOKED_AT])
    separator, width, first = form.separator, form.width, form.first
    rows = [split_row(line, separator) for line in kept[:LOOKED_AT]]
    heads = _heads(rows[:first], width)
    notes = [f"{many(first - len(heads), 'line')} before the table passed over"] if first > len(heads) else []
    names, units = heads[0] if heads else [], heads[1] if len(heads) == 2 else []
    columns = [_times(column) for column in _columns(kept[first:], separator, width, rows[first:], notes)]
    if width > 1 and columns[-1].null_count == len(columns[-1]) and not any(names[-1:]):  # lines end in a separator
        columns, names, units = columns[:-1], names[:-1], units[:-1]
    said = RATE.search("\n".join(lines[: lines.index(kept[first])]))
    return Table(names, columns, notes, units, float(said[1]) if said and float(said[1]) > 0 else None)


def form_of(text: str, *, partial: bool) -> Form:
    """Of a text, or of the beginning of one (partial), whose last line may be cut. Raises BadImage for what is no
    table."""
    lines = re.split(r"(?<=\n)", text)  # as bytes of a file are read: other signs than this end no line there
    lines = lines[:-1] if partial and len(lines) > 1 else lines
    kept = [place for place, line in enumerate(lines) if _counts(line)]
    if not kept:
        raise BadImage("no rows of numbers")
    form = _form([lines[place].rstrip("\r\n") for place in kept[:LOOKED_AT]])
    return replace(form, begins=sum(map(len, lines[: kept[form.first]])))


def _counts(line: str) -> bool:
    """Whether it is neither empty nor a comment."""
    return bool(line.strip()) and not line.lstrip().startswith(MARKS)


def _heads(rows: list[list[str]], width: int) -> list[list[str]]:
    """Of the rows before the numbers, those right before them that name and explain the columns."""
    return [row for row in rows if len(row) == width][-2:]


def _form(lines: list[str]) -> Form:
    """By the first lines, without empty ones and comments."""
    separator = _separator(lines)
    rows = [split_row(line, separator) for line in lines]
    width = _usual([len(row) for row in rows[len(rows) // 2 :]])
    first = next((i for i, row in enumerate(rows) if len(row) == width and 2 * _told(row) >= width), None)
    if first is None:
        raise BadImage("no rows of numbers")
    if sum(_told(row) == len(row) for row in rows[:first]) > RAGGED * len(rows):
        raise BadImage("rows of different lengths")
    return Form(separator, width, (_heads(rows[:first], width) or [[]])[0], first)


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    if "\0" in text[:4096]:
        raise BadImage("not a table of numbers in text")
    return text


def split_row(line: str, separator: str) -> list[str]:
    """The fields of a line, without quotes."""
    if separator == " ":
        cells = line.split()
    elif '"' in line:  # what is quoted may hold separators
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    else:
        cells = line.split(separator)
    return [cell.strip().strip('"') for cell in cells]


def _told(row: list[str]) -> int:
    """How many fields are numbers, times or missing values; 0 where all are missing."""
    values = sum(NUMBER.fullmatch(cell) is not None or TIME.fullmatch(cell) is not None for cell in row)
    return values and values + sum(cell in MISSING for cell in row)


def _separator(lines: list[str]) -> str:
    """The one with most fields that are values, among those that give rows of one length. Tabs that do are no mere
    space, even if texts with spaces in them look like more values."""
    body, best = lines[len(lines) // 2 :], (0.0, ",")
    for separator in SEPARATORS:
        rows = [split_row(line, separator) for line in body]
        width = _usual([len(row) for row in rows])
        even = [row for row in rows if len(row) == width]
        if separator == " " and best[0] > 0 and best[1] == "\t":
            continue
        if width >= 2 and len(even) >= (1 - RAGGED) * len(rows):
            share = sum(_told(row) for row in even) / (width * len(even))
            best = max(best, (share, separator), key=lambda pair: pair[0])
    return best[1]


def _usual(counts: list[int]) -> int:
    return max(set(counts), key=counts.count)


def _columns(
    lines: list[str], separator: str, width: int, looked_at: list[list[str]], notes: list[str]
) -> list[pa.ChunkedArray]:
    cells = [cell for row in looked_at for cell in row]
    commas = separator != "," and any("," in c for c in cells if NUMBER.fullmatch(c))
    points = any("." in cell for cell in cells if NUMBER.fullmatch(cell))
    if separator == " ":
        lines = [";".join(line.split()) for line in lines]
    ragged = 0

    def skip(row: object) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO("\n".join(lines).encode()),
            pyarrow.csv.ReadOptions(column_names=[str(place) for place in range(width)], use_threads=False),
            pyarrow.csv.ParseOptions(delimiter=";" if separator == " " else separator, invalid_row_handler=skip),
            pyarrow.csv.ConvertOptions(
                null_values=list(MISSING), strings_can_be_null=True, decimal_point="," if commas and not points else "."
            ),
        )
    except pa.ArrowInvalid as error:
        raise BadImage(f"not a table of numbers ({str(error)[:100]})") from error
    if ragged > RAGGED * len(lines):
        raise BadImage(f"rows of different lengths: {ragged:,} of {len(lines):,} have not {width} fields")
    if ragged:
        notes.append(f"{many(ragged, 'row')} of another length left out")
    return table.columns


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of the day with parts of seconds, which pyarrow leaves as text."""
    cells = column.to_pylist() if pa.types.is_string(column.type) else []
    if not cells or not all(cell and CLOCK.fullmatch(cell) for cell in cells):
        return column
    parts = [CLOCK.fullmatch(cell) for cell in cells]
    seconds = [3600 * int(p[1]) + 60 * int(p[2]) + float(p[3].replace(",", ".")) for p in parts if p]
    return pa.chunked_array([pa.array([round(1e6 * second) for second in seconds], pa.time64("us"))])


def as_numbers(column: pa.ChunkedArray, name: str, notes: list[str]) -> pa.ChunkedArray:
    """Columns of truth values and of numbers with a few words in between as numbers; columns without values, too."""
    if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.uint8() if pa.types.is_boolean(column.type) else pa.float64())
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    numbers = [_number(cell) for cell in column.to_pylist()]
    num_words = sum(number is None and cell is not None for number, cell in zip(numbers, column.to_pylist()))
    if 2 * num_words > len(numbers) - column.null_count:
        return column.cast(pa.string())
    notes.append(f"{many(num_words, 'word')} among the numbers of {name!r} taken as missing")
    return pa.chunked_array([pa.array(numbers, pa.float64())])


def _number(cell: str | None) -> float | None:
    try:
        return None if cell is None else float(cell.replace(",", "."))
    except ValueError:
        return None
