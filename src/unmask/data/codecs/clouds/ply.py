"""PLY (Turk 1994): text and binary of both byte orders.

Why not a library: plyfile is under the GPL, trimesh keeps what it does not know (labels, intensity) in a private
place, meshio is not maintained, and Open3D weighs 400 MB.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.data.codecs.clouds.meshes import triangles
from unmask.data.codecs.clouds.table import Table, rows_of
from unmask.data.codecs.image import BadImage
from unmask.files import write_atomically

KINDS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
KINDS |= {"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"}
KINDS |= {"float32": "f4", "float64": "f8", "int64": "i8", "uint64": "u8", "long": "i8", "ulong": "u8"}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
HEADER = 1 << 20  # bytes in which the header ends


@dataclass(frozen=True, slots=True)
class Property:
    name: str
    kind: str  # NumPy's
    count: str | None  # the type of the number of values, in a list


@dataclass(frozen=True, slots=True)
class Element:
    name: str
    count: int
    properties: list[Property]

    @property
    def has_lists(self) -> bool:
        return any(part.count for part in self.properties)


def read_ply(data: bytes) -> Table:
    """The vertices with all that is said of each, and the faces, cut into triangles."""
    elements, order, place = _header(data)
    body = memoryview(data)[place:]
    lines = [line for line in bytes(body).splitlines() if line.strip()] if not order else []
    columns: dict[str, np.ndarray] = {}
    polygons, bits = None, 32
    for element in elements:
        if columns and element.name != "face" and polygons is not None:
            break
        if order:
            scalars, lists, used = _binary(element, body, order)
            body = body[used:]
        else:
            scalars, lists = _text(element, lines)
            lines = lines[element.count :]
        if element.name == "vertex":
            columns = scalars
            bits = next((8 * np.dtype(part.kind).itemsize for part in element.properties if part.name == "x"), 32)
        elif element.name == "face":
            polygons = lists.get("vertex_indices", lists.get("vertex_index", []))
    if not columns:
        raise BadImage("no points")
    return Table(columns, "PLY", bits, triangles(polygons or []))


def write_ply(path: Path, columns: Mapping[str, np.ndarray], faces: np.ndarray | None = None) -> None:
    """Vertices with one value in each column, n of them, and the triangles between them, m 3; binary."""
    names = {
        np.dtype(kind): name for name, kind in reversed(KINDS.items())
    }  # the oldest names, which all programs know
    rows = np.empty(len(next(iter(columns.values()))), [(name, values.dtype.str) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    head += [f"property {names[values.dtype]} {name}" for name, values in columns.items()]
    corners = np.empty(0 if faces is None else len(faces), [("count", "u1"), ("corners", "<i4", (3,))])
    if faces is not None:
        corners["count"], corners["corners"] = 3, faces
        head += [f"element face {len(corners)}", "property list uchar int vertex_indices"]
    text = "\n".join([*head, "end_header", ""]).encode("ascii")
    body = rows.astype(rows.dtype.newbyteorder("<")).tobytes() + corners.tobytes()
    write_atomically(path, lambda part: part.write_bytes(text + body))


def _header(data: bytes) -> tuple[list[Element], str, int]:
    """Elements, the byte order ("" for text), and where the header ends. Raises BadImage."""
    end = re.search(rb"\nend_header[ \t]*\r?\n?", data[:HEADER])
    if not data.startswith(b"ply") or end is None:
        raise BadImage("damaged: PLY whose header does not end" if data.startswith(b"ply") else "not PLY")
    elements: list[Element] = []
    order = None
    try:
        for words in (line.split() for line in data[: end.start()].decode("latin-1").splitlines()[1:]):
            if not words or words[0] in ("comment", "obj_info"):
                continue
            if words[0] == "format":
                order = ORDERS[words[1]]
            elif words[0] == "element":
                elements.append(Element(words[1], int(words[2]), []))
            elif words[0] == "property" and words[1] == "list":
                elements[-1].properties.append(Property(words[4], KINDS[words[3]], KINDS[words[2]]))
            elif words[0] == "property":
                elements[-1].properties.append(Property(words[2].lower(), KINDS[words[1]], None))
            else:
                raise ValueError(words[0])
        names = [[part.name for part in element.properties] for element in elements]
        if order is None or any(element.count < 0 for element in elements) or any(len({*n}) < len(n) for n in names):
            raise ValueError("no format, a negative count, or a property twice")
    except (ValueError, KeyError, IndexError) as error:
        raise BadImage("damaged: PLY with a header that makes no sense") from error
    return elements, order, end.end()


def _binary(element: Element, body: memoryview, order: str) -> tuple[dict[str, np.ndarray], dict[str, list], int]:
    """Columns, lists, and how many bytes they took."""
    if not element.has_lists:
        kind = np.dtype([(part.name, order + part.kind) for part in element.properties])
        if (size := element.count * kind.itemsize) > len(body):
            raise BadImage("truncated")
        rows = np.frombuffer(body, kind, element.count)
        return {name: rows[name].astype(kind[name].newbyteorder("=")) for name in kind.names or ()}, {}, size
    if element.count > len(body):  # each takes a byte at least
        raise BadImage("truncated")
    same = _same_lengths(element, body, order)
    return same if same is not None else _row_by_row(element, body, order)


def _same_lengths(
    element: Element, body: memoryview, order: str
) -> tuple[dict[str, np.ndarray], dict[str, list], int] | None:
    """All rows at once, where their lists are as long as those of the first; None where they are not."""
    if not element.count:
        return {}, {}, 0
    first, _, _ = _row_by_row(Element(element.name, 1, element.properties), body, order, counts=True)
    fields = []
    for part in element.properties:
        if part.count:
            fields.append((f"{part.name} count", order + part.count))
            fields.append((part.name, order + part.kind, (int(first[f"{part.name} count"][0]),)))
        else:
            fields.append((part.name, order + part.kind))
    kind = np.dtype(fields)
    if element.count * kind.itemsize > len(body):
        return None
    rows = np.frombuffer(body, kind, element.count)
    counts = [f"{part.name} count" for part in element.properties if part.count]
    if any((rows[name] != rows[name][0]).any() for name in counts):
        return None
    lists = {part.name: rows[part.name].tolist() for part in element.properties if part.count}
    return {p.name: rows[p.name] for p in element.properties if not p.count}, lists, element.count * kind.itemsize


def _row_by_row(
    element: Element, body: memoryview, order: str, counts: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, list], int]:
    """counts: the numbers of values in lists, as columns."""
    columns: dict[str, list] = {part.name: [] for part in element.properties}
    lengths: dict[str, list] = {f"{part.name} count": [] for part in element.properties if part.count}
    kinds = [(part, np.dtype(order + part.kind), np.dtype(order + (part.count or "u1"))) for part in element.properties]
    place = 0
    try:
        for _ in range(element.count):
            for part, kind, count_kind in kinds:
                num = 1
                if part.count:
                    num = int(np.frombuffer(body, count_kind, 1, place)[0])
                    lengths[f"{part.name} count"].append(num)
                    place += count_kind.itemsize
                    if num < 0:
                        raise ValueError("a list of negative length")
                values = np.frombuffer(body, kind, num, place).tolist() if num else []
                columns[part.name].append(values if part.count else values[0])
                place += num * kind.itemsize
    except ValueError as error:  # beyond the end
        raise BadImage("truncated") from error
    if counts:
        return {name: np.array(values) for name, values in lengths.items()}, {}, place
    lists = {part.name: columns[part.name] for part in element.properties if part.count}
    return {p.name: np.array(columns[p.name]) for p in element.properties if not p.count}, lists, place


def _text(element: Element, lines: list[bytes]) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    if len(lines) < element.count:
        raise BadImage("truncated")
    names = [part.name for part in element.properties]
    try:
        if not element.has_lists:
            values = rows_of(lines[: element.count], len(names)) if element.count else np.empty((0, len(names)))
            with np.errstate(invalid="ignore"):  # NaN as a whole number
                return {p.name: values[:, n].astype(p.kind) for n, p in enumerate(element.properties)}, {}
        rows: dict[str, list] = {name: [] for name in names}
        for words in (line.split() for line in lines[: element.count]):
            for part in element.properties:
                num = int(words.pop(0)) if part.count else 1
                values, words = [float(word) for word in words[:num]], words[num:]
                if len(values) < num:
                    raise BadImage("truncated")
                whole = part.count and part.kind[0] in "iu"
                rows[part.name].append([int(n) for n in values] if whole else values if part.count else values[0])
    except (ValueError, IndexError, OverflowError) as error:
        raise BadImage("truncated or damaged: lines of too few numbers") from error
    scalars = {part.name: np.array(rows[part.name]) for part in element.properties if not part.count}
    return scalars, {part.name: rows[part.name] for part in element.properties if part.count}
