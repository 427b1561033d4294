"""Points as a table, one column for each thing that is known of them: text (XYZ, TXT, PTS) and NumPy arrays."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage

POINTS = ("points", "xyz", "pos", "positions", "coords", "vertices", "arr_0")  # keys of an .npz, in this order
GROUPS = {"colours": ("red", "green", "blue"), "normals": ("nx", "ny", "nz")}
GROUP_KEYS = {"colors": "colours", "colour": "colours", "color": "colours", "rgb": "colours", "normal": "normals"}
FEW = 64  # different whole numbers in a last column without a name that make it labels
FACES = ("faces", "triangles")
MAX_BYTES = 1 << 32  # of an array in an .npz


@dataclass(frozen=True, slots=True)
class Table:
    """What a reader found: n values by name; x, y, z are among them."""

    columns: dict[str, np.ndarray]
    format: str
    bits: int  # per coordinate as stored
    faces: np.ndarray | None = None  # m 3, indices of points
    notes: tuple[str, ...] = ()


def table_of_text(data: bytes) -> Table:
    """Lines of numbers between blanks, commas or semicolons. Names of columns in the first line, also behind # or //, a
    number of points there (PTS), and comments are understood."""
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").replace("\0", "\ufffd").splitlines()]
    rows = [line for line in lines if line and not line.startswith(("#", "//"))]
    if rows and len(rows[0].split()) == 1 and rows[0].isdigit():
        rows = rows[1:]
    if not rows:
        raise BadImage("no points")
    separator = next((mark for mark in ",;" if mark in rows[0]), None)
    names: list[str] = []
    first = next(n for n, line in enumerate(lines) if line == rows[0])
    comments = [line.lstrip("#/ ") for line in lines[:first] if line]
    if not all(map(_is_number, _split(rows[0], separator))):
        names, rows = _split(rows[0], separator), rows[1:]
    elif comments:
        names = _split(comments[-1], separator if separator and separator in comments[-1] else None)
    if not rows or not all(map(_is_number, _split(rows[0], separator))):
        raise BadImage("not points: its lines are no numbers")
    try:
        values = np.loadtxt(rows, np.float64, delimiter=separator, comments=None, ndmin=2)
    except ValueError as error:
        raise BadImage("damaged: its lines have different numbers of columns, or more than numbers") from error
    names = [name.strip("\"' ").lower() for name in names]
    return _named(values, names if {"x", "y", "z"} <= {*names} else [], "XYZ", 64)


def table_of_array(array: np.ndarray) -> Table:
    """n 3 or more columns (3 n, where that alone can be meant), or a structured array with fields x, y and z."""
    bits = 8 * array.dtype.itemsize
    if array.dtype.names:
        columns = {name.lower(): _numbers(array[name].reshape(-1)) for name in array.dtype.names}
        return Table(columns, "array", 8 * array.dtype[0].itemsize)
    if array.ndim != 2:
        raise BadImage(f"array of shape {array.shape}, a cloud is n x 3, with features behind")
    values = array.T if array.shape[0] == 3 < array.shape[1] and array.shape[1] > 16 else array
    return _named(_numbers(values), [], "array", bits)


def table_of_npz(file: Any) -> Table:
    """Points under one of the keys POINTS, or alone; and what has as many rows: colours, normals, labels, features."""
    with np.load(file, allow_pickle=False) as archive:
        if max((member.file_size for member in archive.zip.infolist()), default=0) > MAX_BYTES:
            raise BadImage(f"an array of more than {MAX_BYTES:,} bytes")
        arrays = {key.lower(): archive[key] for key in archive.files}
    key = next((key for key in POINTS if key in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if key is None:
        raise BadImage(f"none of its arrays is called {', '.join(POINTS)}: {', '.join([*arrays][:9])}")
    table = table_of_array(arrays.pop(key))
    columns, count = dict(table.columns), len(table.columns["x"])
    faces = next((arrays.pop(key) for key in FACES if key in arrays), None)
    for name, array in arrays.items():
        if array.ndim in (1, 2) and len(array) == count and array.dtype.kind in "buif":
            name = str(GROUP_KEYS.get(str(name), name))
            parts = GROUPS.get(name, ()) if array.ndim == 2 and array.shape[1] == 3 else ()
            flat = array.reshape(count, -1)
            for n in range(flat.shape[1]):
                columns[parts[n] if parts else f"{name}_{n}" if flat.shape[1] > 1 else name] = flat[:, n]
    if faces is not None and (faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu"):
        raise BadImage(f"faces of shape {faces.shape} and {faces.dtype}, they are m x 3 whole numbers")
    return Table(columns, "array", table.bits, faces, table.notes)


def _named(values: np.ndarray, names: Sequence[str], kind: str, bits: int) -> Table:
    if values.shape[1] < 3:
        raise BadImage(f"{values.shape[1]} columns, points have x, y and z")
    notes = ()
    if len(names) != values.shape[1]:
        names = ["x", "y", "z", *_guessed(values)]
        notes = (f"columns without names taken as {' '.join(names)}",) if len(names) > 3 else ()
    return Table({name: values[:, n] for n, name in enumerate(names)}, kind, bits, notes=notes)


def _guessed(values: np.ndarray) -> list[str]:
    """Names for the columns behind x, y and z: three of length 1 are normals; three that are whole numbers up to 255,
    or between 0 and 1, colours; a last one of few whole numbers the labels; one directly behind z the intensity."""
    names: list[str] = []
    place, num = 3, values.shape[1]
    while place < num:
        with np.errstate(invalid="ignore"):
            three, one = values[:, place : place + 3], values[:, place]
            length = np.sqrt((three * three).sum(1))
            whole = bool((three == np.round(three)).all())
            positive = bool((three >= 0).all())
            unit = bool((np.abs(length - 1) < 0.02).mean() > 0.95)
        if three.shape[1] == 3 and "nx" not in names and unit:
            names += GROUPS["normals"]
        elif three.shape[1] == 3 and "red" not in names and positive and three.max() <= (255 if whole else 1):
            names += GROUPS["colours"]
        elif place == num - 1 and bool((one == np.round(one)).all()) and len(np.unique(one)) < min(FEW, len(one)):
            names.append("label")
        else:
            names.append("intensity" if place == 3 else f"column {place + 1}")
        place = 3 + len(names)
    return names


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "buif":
        raise BadImage(f"array of {array.dtype}, coordinates are real numbers")
    return array.astype(np.float64)


def _split(line: str, separator: str | None) -> list[str]:
    return [part.strip() for part in line.split(separator)]


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", word, re.I) is not None


def rows_of(lines: Sequence[bytes], width: int | None = None) -> np.ndarray:
    """Lines of numbers as n columns. Raises ValueError for ragged ones."""
    values = np.loadtxt(io.BytesIO(b"\n".join(lines)), np.float64, comments=None, ndmin=2)
    if len(values) != len(lines) or (width is not None and values.shape[1] < width):
        raise ValueError("too few numbers")
    return values
