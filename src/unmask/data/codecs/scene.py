"""Scenes of any number of bands: GeoTIFF, JPEG 2000, ERDAS, ENVI, NITF, PNG (by rasterio, which is GDAL) and arrays.

A scene is opened for its facts alone; its values are read by windows, from a file opened anew for each, so that a scene
can be pickled, goes into worker processes, and never lies in memory as a whole.

Why rasterio and not tifffile: a window costs the tiles it touches, also of LZW, Zstandard and JPEG 2000, which tifffile
needs a further package for; and only PROJ, which comes with it, makes a coordinate system of a GeoTIFF's keys.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.arrays import as_array, nearest, opening, window_of_array
from unmask.data.codecs.scenes.georeference import Georeference, Range, georeference_of
from unmask.data.codecs.scenes.tags import names_of, time_of
from unmask.errors import UserError
from unmask.files import write_atomically
from unmask.version import optional_library

CACHE = 256  # MiB of unpacked tiles that GDAL keeps; its own choice is a twentieth of the machine's memory
PART = 1 << 24  # values that are read at once for an overview
MAX_BLOCK = 1 << 29  # bytes of the largest tile or strip that is unpacked for a window
DRIVERS = ((b"II*\0", "GTiff"), (b"MM\0*", "GTiff"), (b"II+\0", "GTiff"), (b"MM\0+", "GTiff"), (b"\x89PNG", "PNG"))
DRIVERS += ((b"\0\0\0\x0cjP  ", "JP2OpenJPEG"), (b"\xff\x4f\xff\x51", "JP2OpenJPEG"), (b"EHFA_HEADER", "HFA"))
DRIVERS += ((b"NITF", "NITF"), (b"NSIF", "NITF"))
FORMATS = {"GTiff": "GeoTIFF", "JP2OpenJPEG": "JPEG2000", "HFA": "ERDAS"}


@dataclass(frozen=True)
class Scene:
    """What is known of a scene before its values are read."""

    source: str | bytes | np.ndarray
    driver: str  # GDAL's, or "" of an array
    size: tuple[int, int]  # rows, columns
    bands: tuple[int, ...]  # places of the bands in the file, from 1; an alpha band is none
    names: tuple[str, ...]  # of the bands, as the file has them
    scales: tuple[tuple[float, float], ...]  # of each band: value = stored * first + second
    nodata: tuple[tuple[float, ...], ...]  # of each band, the stored values that mean no data; NaN always does
    block: tuple[int, int]  # rows, columns of its tiles or strips
    georeference: Georeference
    time: datetime | None
    format: str
    bits: int  # per value as stored
    notes: tuple[str, ...]

    @property
    def channels(self) -> int:
        return len(self.bands)

    def window(self, rows: Range, columns: Range) -> tuple[Float32[Tensor, "c h w"], Bool[Tensor, "h w"]]:
        """Values, and which pixels are valid: those with data in every band, within the scene. Others are 0.

        Raises BadImage for what is damaged there.
        """
        height, width = rows[1] - rows[0], columns[1] - columns[0]
        if height < 1 or width < 1:
            raise ValueError(f"a window of {height} x {width} pixels")
        top, end = (min(max(row, 0), self.size[0]) for row in rows)
        left, right = (min(max(column, 0), self.size[1]) for column in columns)
        values, valid = torch.zeros(self.channels, height, width), torch.zeros(height, width, dtype=torch.bool)
        if end > top and right > left:
            down, across = slice(top - rows[0], end - rows[0]), slice(left - columns[0], right - columns[0])
            values[:, down, across], valid[down, across] = self._read((top, end), (left, right), None)
        return values, valid

    def overview(self, max_side: int) -> tuple[Float32[Tensor, "c h w"], Bool[Tensor, "h w"]]:
        """The whole scene, by its nearest pixels, in `max_side` rows and columns at most. Read in parts of whole tiles:
        GDAL would unpack them anew for every row of the result."""
        share = min(1.0, max_side / max(self.size))
        height, width = (max(1, round(side * share)) for side in self.size)
        values, valid = torch.zeros(self.channels, height, width), torch.zeros(height, width, dtype=torch.bool)
        strips = self.block[1] >= self.size[1]
        columns = width if strips else max(1, 1024 * width // self.size[1])
        rows = max(1, PART // (self.channels * columns * self.size[1] // width) * height // self.size[0])
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                end, right = min(top + rows, height), min(left + columns, width)
                down, across = (
                    (first * old // new, last * old // new)
                    for first, last, old, new in zip((top, left), (end, right), self.size, (height, width))
                )
                part = self._read(down, across, (end - top, right - left))
                values[:, top:end, left:right], valid[top:end, left:right] = part
        return values, valid

    def _read(self, rows: Range, columns: Range, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        mask = None
        if not self.driver:
            stored = window_of_array(self.source, rows, columns, size)
        else:
            with _opened(self.source, self.driver) as file:
                small = {"out_shape": size} if size and file.overviews(1) else {}  # without, GDAL takes minutes
                masked = any(flag.name == "per_dataset" for flag in file.mask_flag_enums[0])
                mask = file.read_masks(1, window=(rows, columns), **small) > 0 if masked else None
                small = {"out_shape": (self.channels, *size)} if size and small else {}
                stored = file.read([*self.bands], window=(rows, columns), **small)
                if size and not small:
                    stored, mask = nearest(stored, size), None if mask is None else nearest(mask, size)
        valid = np.isfinite(stored).all(0) if stored.dtype.kind == "f" else np.ones(stored.shape[1:], bool)
        valid = valid if mask is None else valid & mask
        with np.errstate(over="ignore", invalid="ignore"):
            for band, missing in zip(stored, self.nodata):
                for value in missing:
                    valid &= band != value
            values = stored.astype(np.float32)
            for n, (scale, offset) in enumerate(self.scales):
                if (scale, offset) != (1, 0):
                    values[n] = stored[n] * scale + offset
        valid &= np.isfinite(values).all(0)  # what float32 cannot hold
        values[:, ~valid] = 0
        return torch.from_numpy(values), torch.from_numpy(valid)


def open_scene(source: str | bytes | np.ndarray, *, nodata: float | None = None) -> Scene:
    """The facts of a scene: a file, its bytes, or an array c h w or h w c, whose bands are the shorter of these axes.

    nodata: a value that means no data, besides those that the file names and NaN. Raises BadImage; UserError where
    rasterio is missing.
    """
    given = () if nodata is None else (float(nodata),)
    array = as_array(source)
    if array is not None:
        bands = 1 if array.ndim == 2 else min(array.shape[0], array.shape[2])
        size = array.shape[:2] if array.ndim == 2 or array.shape[2] == bands != array.shape[0] else array.shape[1:]
        names, bits = tuple(f"band {n + 1}" for n in range(bands)), 8 * array.dtype.itemsize
        return Scene(
            source, "", size, tuple(range(1, bands + 1)), names, ((1.0, 0.0),) * bands, (given,) * bands,
            size, Georeference(size), None, "array", bits, (),
        )  # fmt: skip
    assert not isinstance(source, np.ndarray)
    driver = _driver(source)
    with _opened(source, driver) as file:
        return _facts(source, driver, file, given)


def write_scene(
    path: Path, array: np.ndarray | Tensor, georeference: Georeference, *, names: Sequence[str] = (),
    nodata: float | None = None, valid: np.ndarray | Tensor | None = None,
) -> None:  # fmt: skip
    """Writes h w or c h w as a GeoTIFF in the place of the scene that it was predicted for, by rows of tiles.

    names: of the bands. valid: h w; pixels where it is false get `nodata`, for floats NaN unless given. Raises
    UserError for another name than .tif, ValueError for another size than the georeference's, OSError.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"a scene is written as .tif; got {path.name}")
    array = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
    array = array[None] if array.ndim == 2 else array
    valid = valid.cpu().numpy() if isinstance(valid, Tensor) else valid
    if array.shape[1:] != georeference.size or (valid is not None and valid.shape != georeference.size):
        raise ValueError(f"an array of {array.shape[1:]} for a scene of {georeference.size}")
    kind = {"float16": "float32", "bool": "uint8"}.get(array.dtype.name, array.dtype.name)
    if valid is not None and nodata is None:
        if kind[0] != "f":
            raise ValueError("whole numbers need a value for pixels without data")
        nodata = math.nan
    write_atomically(path, lambda part: _write(part, array, kind, georeference, names, nodata, valid))


def _write(
    path: Path, array: np.ndarray, kind: str, georeference: Georeference, names: Sequence[str],
    nodata: float | None, valid: np.ndarray | None,
) -> None:  # fmt: skip
    with optional_library("scenes", "rasterio", "satellite"):
        import rasterio
        from rasterio.control import GroundControlPoint
        from rasterio.rpc import RPC
    count, height, width = array.shape
    form = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": kind, "nodata": nodata}
    form |= {"compress": "deflate", "predictor": 3 if kind[0] == "f" else 2, "bigtiff": "if_safer"}
    form |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band"}
    if georeference.transform:
        form["transform"] = rasterio.Affine(*georeference.transform)
    elif georeference.gcps:
        form["gcps"] = [GroundControlPoint(*point) for point in georeference.gcps]
    if georeference.wkt:
        form["crs"] = georeference.wkt
    with _quiet(), rasterio.open(path, "w", **form) as file:
        if georeference.rpcs:
            file.rpcs = RPC.from_gdal(dict(georeference.rpcs))
        for n, name in enumerate(names, start=1):
            file.set_band_description(n, name)
        for top in range(0, height, 256):
            rows = np.asarray(array[:, top : top + 256]).astype(kind)
            if valid is not None:
                rows[:, ~valid[top : top + 256]] = nodata
            file.write(rows, window=((top, top + rows.shape[1]), (0, width)))


def _facts(source: str | bytes, driver: str, file: Any, given: tuple[float, ...]) -> Scene:
    alpha = [n for n, colour in enumerate(file.colorinterp, start=1) if colour.name == "alpha"]
    bands = tuple(n for n in range(1, file.count + 1) if n not in alpha)
    if not bands:
        raise BadImage("no bands")
    if complex_kinds := [kind for kind in file.dtypes if "complex" in kind]:
        raise BadImage(f"scene of {complex_kinds[0]} values, pixels are real numbers")
    kinds = {np.dtype(file.dtypes[band - 1]) for band in bands}
    for band in bands:
        block = math.prod(file.block_shapes[band - 1]) * np.dtype(file.dtypes[band - 1]).itemsize
        block *= file.count if str(getattr(file.interleaving, "name", "")) == "pixel" else 1
        if block > MAX_BLOCK:
            large = f"{block / 2**30:.1f} GB, of which no windows can be read"
            raise BadImage(f"tiles or strips of {large}: write it anew in tiles (gdal_translate -co TILED=YES)")
    scales = tuple((float(file.scales[n - 1]), float(file.offsets[n - 1])) for n in bands)
    missing = [file.nodatavals[band - 1] for band in bands]
    nodata = tuple((*given, *([] if value is None or math.isnan(value) else [float(value)])) for value in missing)
    notes = ["alpha taken as the mask of valid pixels"] if alpha else []
    notes += ["scaled by its tags"] if any(scale != (1, 0) for scale in scales) else []
    bits = 8 * max(kind.itemsize for kind in kinds)
    return Scene(
        source, driver, (int(file.height), int(file.width)), bands, names_of(file, bands), scales, nodata,
        file.block_shapes[bands[0] - 1], georeference_of(file), time_of(file), FORMATS.get(driver, driver), bits,
        tuple(notes),
    )  # fmt: skip


def _driver(source: str | bytes) -> str:
    """GDAL's driver for a file, by its first bytes; of ENVI, whose values have no signature, by its .hdr beside it. No
    other is tried: some of GDAL's read what a file names, which may be anywhere."""
    with opening(source) as file:
        head = file.read(32)
    if not head:
        raise BadImage("empty")
    driver = next((driver for mark, driver in DRIVERS if head.startswith(mark)), None)
    if driver is None and isinstance(source, str):
        for header in (f"{source}.hdr", f"{os.path.splitext(source)[0]}.hdr"):
            if os.path.isfile(header):
                with opening(header) as file:
                    driver = "ENVI" if file.read(4) == b"ENVI" else None
    if driver is None:
        raise BadImage("not a scene")
    return driver


@contextmanager
def _quiet() -> Iterator[None]:
    """GDAL with a small cache, and without a word on scenes that lie nowhere."""
    import rasterio

    logging.getLogger("rasterio").setLevel(logging.CRITICAL + 1)  # it logs what we raise or can do without
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(source: Any, driver: str) -> Iterator[Any]:
    """The file, opened by GDAL; whatever is wrong with it is BadImage."""
    with optional_library("scenes", "rasterio", "satellite"):
        import rasterio
        from rasterio.io import MemoryFile
    try:
        with _quiet():
            if isinstance(source, bytes):
                with MemoryFile(source) as memory, memory.open(driver=driver) as file:
                    yield file
            else:
                with rasterio.open(Path(os.path.abspath(source)), driver=driver) as file:
                    yield file
    except Exception as error:
        raise error if isinstance(error, BadImage) else BadImage("truncated or damaged") from error
