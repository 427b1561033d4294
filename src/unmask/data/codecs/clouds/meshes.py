"""Meshes as text: OBJ (Wavefront) and OFF (Geomview)."""

import re
from collections.abc import Sequence

import numpy as np

from unmask.data.codecs.clouds.table import Table, rows_of
from unmask.data.codecs.image import BadImage


def read_obj(data: bytes) -> Table:
    """Vertices (with colours, if they are written behind the coordinates), normals that belong to one vertex each, and
    faces, cut into triangles. Materials, textures and curves are left alone."""
    vertices: list[list[bytes]] = []
    normals: list[list[bytes]] = []
    faces: list[list[int]] = []
    normal_of: dict[int, int] = {}
    for line in data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        words = line.split(b"#")[0].split()
        if not words:
            continue
        if words[0] == b"v":
            vertices.append(words[1:])
        elif words[0] == b"vn":
            normals.append(words[1:4])
        elif words[0] == b"f":
            corners = [word.split(b"/") for word in words[1:]]
            face = [_index(corner[0], len(vertices)) for corner in corners]
            faces.append(face)
            for vertex, corner in zip(face, corners):
                if len(corner) == 3 and corner[2]:
                    normal_of[vertex] = _index(corner[2], len(normals))
    if not vertices:
        raise BadImage("no points")
    width = min(map(len, vertices))
    if width < 3:
        raise BadImage("damaged: a vertex of fewer than three numbers")
    values = np.array([vertex[:width] for vertex in vertices], np.float64)
    names = ["x", "y", "z", *({6: ["red", "green", "blue"], 7: ["w", "red", "green", "blue"]}.get(width, []))]
    columns = {name: values[:, n] for n, name in enumerate(names) if name != "w"}
    if len(normal_of) == len(vertices):
        directions = np.array(normals, np.float64)[[normal_of[n] for n in range(len(vertices))]]
        columns |= dict(zip(("nx", "ny", "nz"), directions.T))
    return Table(columns, "OBJ", 64, triangles(faces))


def read_off(data: bytes) -> Table:
    """OFF, with normals (NOFF) or colours (COFF) of the vertices; faces cut into triangles, their colours left alone.

    ModelNet's files, whose counts stand on the line of the word OFF itself, are read too.
    """
    lines = [line for line in (part.split(b"#")[0].strip() for part in data.splitlines()) if line]
    start = re.match(rb"(ST)?(C?)(N?)(4?)(n?)OFF\s*(BINARY)?", lines[0]) if lines else None
    if start is None or start[4] or start[5] or start[6]:
        raise BadImage("OFF that is binary or not of three dimensions" if start else "not OFF")
    rest = lines[0][start.end() :].strip()
    lines = [*([rest] if rest else []), *lines[1:]]
    try:
        num_points, num_faces = (int(word) for word in lines[0].split()[:2])
        if num_points < 0 or num_faces < 0 or len(lines) - 1 < num_points + num_faces:
            raise BadImage("truncated")
        columns: dict[str, np.ndarray] = dict(zip(("x", "y", "z"), (values := rows_of(lines[1 : 1 + num_points], 3)).T))
    except (ValueError, IndexError) as error:
        raise BadImage("damaged: its counts or points are no numbers") from error
    place = 3
    for letter, names in ((start[3], ("nx", "ny", "nz")), (start[2], ("red", "green", "blue"))):
        if letter and values.shape[1] >= place + 3:
            columns |= dict(zip(names, values[:, place : place + 3].T))
            place += 3
    try:
        faces = [
            [int(n) for n in line.split()] for line in (_whole(line) for line in lines[1 + num_points :][:num_faces])
        ]
    except ValueError as error:
        raise BadImage("damaged: faces that are no whole numbers") from error
    if any(len(face) < 1 + face[0] for face in faces):
        raise BadImage("truncated")
    return Table(columns, "OFF", 64, triangles([face[1 : 1 + face[0]] for face in faces]))


def triangles(polygons: Sequence[Sequence[int]]) -> np.ndarray | None:
    """Fans around the first corner of each polygon; None without any. Points and lines are left out."""
    fans = [(polygon[0], polygon[n], polygon[n + 1]) for polygon in polygons for n in range(1, len(polygon) - 1)]
    return np.array(fans, np.int64) if fans else None


def _whole(line: bytes) -> bytes:
    """The corners of a face without the colour behind them."""
    words = line.split()
    return b" ".join(words[: 1 + int(words[0])])


def _index(word: bytes, count: int) -> int:
    """OBJ counts from 1, and back from the last if negative."""
    number = int(word)
    return number - 1 if number > 0 else count + number
