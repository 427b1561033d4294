"""Clouds of points and meshes: PLY, OBJ, OFF, LAS and LAZ (by laspy), text of numbers, NumPy arrays.

Coordinates are float32 n 3, relative to an offset where the file's are so far from 0 that float32 would blur them. What
else is known of the points goes by name: colours and normals (three values each), intensity, and what the file itself
names. Colours are 0..1.
"""

import io
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Generator, Tensor

from unmask.data.codecs.clouds.meshes import read_obj, read_off
from unmask.data.codecs.clouds.ply import read_ply
from unmask.data.codecs.clouds.table import GROUPS, Table, table_of_array, table_of_npz, table_of_text
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import points_format
from unmask.data.transforms.kernels.points import gather_points, sample_surface
from unmask.errors import UserError, many
from unmask.version import optional_library

MAX_POINTS = 1 << 24  # of more, every k-th is read
FAR = 16.0  # times its own extent that a cloud may lie from 0: four bits of float32's 24
CHUNK = 1 << 20  # points of LAS that are unpacked at a time
LABELS = (
    "label",
    "labels",
    "class",
    "classes",
    "classification",
    "semantic",
    "semantic_label",
    "part",
    "category",
    "seg",
    "segmentation",
)
WORDS = {"r": "red", "g": "green", "b": "blue", "normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}
WORDS |= {"reflectance": "intensity", "near infrared": "nir", **dict.fromkeys(LABELS, "label")}


@dataclass(frozen=True)
class PointCloud:
    """Points as read; of a mesh, its vertices, with faces between them."""

    points: Float32[Tensor, "n 3"]
    features: Mapping[str, Float32[Tensor, "n _"]] = field(default_factory=dict)
    labels: Int64[Tensor, "n"] | None = None
    faces: Int64[Tensor, "m 3"] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)  # what was taken from the coordinates
    format: str = "array"  # "PLY", "OBJ", "OFF", "LAS", "LAZ", "XYZ" or "array"
    bits: int = 32  # per coordinate as stored
    notes: tuple[str, ...] = ()  # what was done to it
    channels: int = 3
    labelled_by: str = ""  # what its file calls the labels
    rows: Int64[Tensor, "n"] | None = None  # which of the file's points these are; None: all
    stored: int = 0  # points of the file; 0: as many as there are here

    @property
    def size(self) -> tuple[int]:
        return (self.points.shape[0],)

    @property
    def of_file(self) -> Int64[Tensor, "n"]:
        """Which of the file's points these are."""
        return torch.arange(len(self.points)) if self.rows is None else self.rows

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        parts = (self.points, *self.features.values(), self.labels, self.faces, self.rows)
        return sum(part.nbytes for part in parts if part is not None)

    def at(self, chosen: Int64[Tensor, "k"]) -> "PointCloud":
        """Some of its points, without faces."""
        features = {name: values[chosen] for name, values in self.features.items()}
        labels = None if self.labels is None else self.labels[chosen]
        same = {"points": self.points[chosen], "features": features, "labels": labels, "rows": self.of_file[chosen]}
        return replace(self, **same, faces=None, stored=self.stored or len(self.points))


def read_points(source: str | bytes | np.ndarray) -> PointCloud:
    """A cloud or mesh from a file, its bytes or an array. Points that are not finite are left out, and it is said.

    Raises BadImage, also for fewer than two points; UserError where laspy is missing.
    """
    return read_exactly(source)[0]


def read_exactly(source: str | bytes | np.ndarray) -> tuple[PointCloud, Float64[np.ndarray, "n 3"]]:
    """The same, and the coordinates of its points as the file has them. Raises as `read_points`."""
    try:
        table = table_of_array(source) if isinstance(source, np.ndarray) else _table(source)
        return _cloud(table)
    except (BadImage, UserError):
        raise
    except MemoryError as error:
        raise BadImage("needs more memory than there is") from error
    except Exception as error:
        raise BadImage(f"damaged ({type(error).__name__})") from error


def points_on_surface(mesh: PointCloud, count: int, generator: Generator) -> PointCloud:
    """`count` points on the faces of a mesh, evenly by area, with features between those of the corners, and the label
    of the nearest corner. Raises BadImage for faces without area."""
    if mesh.faces is None:
        raise BadImage("no faces to sample points on")
    try:
        points, chosen, shares = sample_surface(mesh.points, mesh.faces, count, generator)
    except ValueError as error:
        raise BadImage(str(error)) from error
    corners = mesh.faces[chosen]
    features = {}
    for name, values in mesh.features.items():
        mixed = (gather_points(values[None], corners[None])[0] * shares[..., None]).sum(1)
        features[name] = torch.nn.functional.normalize(mixed, dim=1) if name == "normals" else mixed
    labels = None if mesh.labels is None else mesh.labels[corners.gather(1, shares.argmax(1, keepdim=True))[:, 0]]
    note = f"{count:,} points sampled on the surface of {len(mesh.faces):,} faces"
    same = {"points": points, "features": features, "labels": labels, "notes": (*mesh.notes, note)}
    return replace(mesh, **same, faces=None, rows=None, stored=0)


def _table(source: str | bytes) -> Table:
    name = os.path.basename(source) if isinstance(source, str) else ""
    with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
        head = file.read(4096)
        num_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not head:
            raise BadImage("empty")
        if head.startswith(b"PK\x03\x04"):
            return table_of_npz(file)
        if head.startswith(b"\x93NUMPY"):
            return table_of_array(np.load(file, allow_pickle=False))
        kind = points_format(head, name)
        if kind == "LAS":
            return _table_of_las(file, num_bytes)
        if kind is None and (b"\0" in head[:256] or re.match(rb"\s*[<{]|# ?\.PCD|solid ", head)):
            raise BadImage("not points")
        return {"PLY": read_ply, "OBJ": read_obj, "OFF": read_off}.get(kind or "XYZ", table_of_text)(file.read())


def _table_of_las(file: Any, num_bytes: int) -> Table:
    with optional_library("LAS files", "laspy and lazrs", "points"):
        import laspy
        import lazrs  # noqa: F401
    logging.getLogger("laspy").setLevel(logging.CRITICAL + 1)  # it logs what we raise
    head = file.read(247)
    file.seek(0)
    records = 54 * int.from_bytes(head[100:104], "little")  # the least that so many take; laspy reads on at the end
    records += 60 * int.from_bytes(head[243:247], "little") if head[25:26] >= b"\4" else 0
    if records > num_bytes:
        raise BadImage("damaged: a header of more records than the file can hold")
    try:
        with laspy.open(file, closefd=False) as reader:
            header: Any = reader.header
            packed, count = header.are_points_compressed, header.point_count
            if not packed and num_bytes < header.offset_to_point_data + count * header.point_format.size:
                raise BadImage("truncated")
            names = [*header.point_format.standard_dimension_names]
            extra = [*header.point_format.extra_dimension_names]
            kept = [n for n in ("red", "green", "blue", "nir", "intensity", "classification") if n in names]
            step = -(-count // MAX_POINTS)
            parts: dict[str, list[np.ndarray]] = {name: [] for name in ("x", "y", "z", *kept, *extra)}
            place = 0
            for chunk in reader.chunk_iterator(CHUNK):
                for name, columns in parts.items():
                    columns.append(np.array(chunk[name])[-place % max(1, step) :: max(1, step)])
                place += len(chunk)
    except (BadImage, MemoryError):
        raise
    except BaseException as error:  # lazrs, in Rust, panics on some damage
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BadImage(f"truncated or damaged ({type(error).__name__})") from None
    if place < count:
        raise BadImage("truncated")
    flat: dict[str, np.ndarray] = {}
    for name, columns in parts.items():
        values = np.concatenate(columns) if columns else np.empty(0)
        wide = values.reshape(len(values), -1)
        flat |= {name if wide.shape[1] == 1 else f"{name}_{n}": wide[:, n] for n in range(wide.shape[1])}
    if not flat.get("classification", np.ones(1)).any():
        del flat["classification"]  # 0 is "never classified"
    notes = (f"one in {step} of {count:,} points",) if step > 1 else ()
    return Table(flat, "LAZ" if packed else "LAS", 32, notes=notes)


def _cloud(table: Table) -> tuple[PointCloud, np.ndarray]:
    called = {_word(name): name for name in table.columns}
    columns = {_word(name): np.asarray(values) for name, values in table.columns.items()}
    notes, faces = list(table.notes), table.faces
    if not {"x", "y", "z"} <= columns.keys():
        raise BadImage(f"no coordinates x, y and z, but {', '.join([*columns][:9])}")
    points = np.stack([columns.pop(axis).astype(np.float64) for axis in "xyz"], 1)
    if faces is not None and len(faces) and not (0 <= faces.min() and faces.max() < len(points)):
        raise BadImage("damaged: faces between points that are not there")
    good = np.asarray(np.isfinite(points).all(axis=1))
    rows = np.flatnonzero(good)
    if num_bad := int((~good).sum()):
        notes.append(f"{many(num_bad, 'point')} left out, not finite")
        points, columns = points[good], {name: values[good] for name, values in columns.items()}
        if faces is not None:
            faces = (np.cumsum(good) - 1)[faces[good[faces].all(1)]]
    if len(points) < 2:
        raise BadImage(f"{len(points)} points, a cloud has two at least")
    if len(points) > MAX_POINTS:
        step = -(-len(points) // MAX_POINTS)
        notes.append(f"one in {step} of {len(points):,} points" + (", faces left out" if faces is not None else ""))
        points, rows, faces = points[::step], rows[::step], None
        columns = {name: values[::step] for name, values in columns.items()}
    offset = _offset(points)
    if any(offset):
        notes.append(f"{' '.join(f'{n:.10g}' for n in offset)} taken from the coordinates")
    labels, features = _features(columns, notes)
    with np.errstate(over="ignore"):
        relative = (points - offset).astype(np.float32)
    if not np.isfinite(relative).all():
        raise BadImage("coordinates beyond what float32 holds")
    cloud = PointCloud(
        torch.from_numpy(relative), features, labels,
        torch.from_numpy(faces.astype(np.int64)) if faces is not None and len(faces) else None,
        offset, table.format, table.bits, tuple(notes), labelled_by=called.get("label", ""),
        rows=None if len(rows) == len(good) else torch.from_numpy(rows), stored=len(good),
    )  # fmt: skip
    return cloud, points


def _offset(points: np.ndarray) -> tuple[float, float, float]:
    """Where a cloud lies that is far from 0, in whole numbers; 0 for others."""
    low, high = points.min(0), points.max(0)
    if np.abs(points).max() <= FAR * max(float((high - low).max()), 1e-300):
        return 0.0, 0.0, 0.0
    middle = (low + high) / 2
    x, y, z = np.floor(middle) if (np.abs(middle) >= 1).any() else middle
    return float(x), float(y), float(z)


def _features(columns: dict[str, np.ndarray], notes: list[str]) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Labels, and everything else by name; where three columns belong together, as three values."""
    labels = None
    if "label" in columns:
        values = columns.pop("label").astype(np.float64)
        if np.isfinite(values).all() and (values == np.round(values)).all():
            labels = torch.from_numpy(values.astype(np.int64))
        else:
            notes.append("labels that are no whole numbers left out")
    features: dict[str, Tensor] = {}
    for group, names in GROUPS.items():
        if all(name in columns for name in names):
            values = np.stack([columns.pop(name) for name in names], 1)
            features[group] = _finite(_shades(values) if group == "colours" else values, group, notes)
    for name, values in columns.items():
        if values.dtype.kind in "buif":
            features[name] = _finite(values.reshape(-1, 1), name, notes)
    return labels, features


def _shades(values: np.ndarray) -> np.ndarray:
    """Colours as 0..1, whatever the file counts to: 1, 255 or 65535."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    highest = float(finite.max(initial=0))
    if values.dtype.kind == "f" and highest <= 1:
        return values
    return values / (255.0 if highest <= 255 else 65535.0)


def _finite(values: np.ndarray, name: str, notes: list[str]) -> Tensor:
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    good = np.isfinite(values)
    if not good.all():
        notes.append(f"{int((~good).sum()):,} values of {name} that are not finite set to 0")
    return torch.from_numpy(np.where(good, values, np.float32(0)))


def _word(name: str) -> str:
    """A column's name as it is used here: CloudCompare's scalar_Label and PLY's diffuse_red are label and red."""
    plain = re.sub(r"^(scalar_|diffuse_|vertex_)", "", name.strip().lower())
    return WORDS.get(plain, plain)
