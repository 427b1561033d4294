"""TIFF beyond what Pillow reads: any number of bands, any depth, bands together or apart. Called by `decode` only.

tifffile unpacks LZW only with a further large package. The libtiff inside Pillow knows LZW too, so here each packed
strip or tile is handed to Pillow as a one-row grey image, and the unpacked file, corrected in memory, to tifffile.
"""

import io
import logging
import lzma
import struct
import zlib
from itertools import islice
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from tifffile import TiffFile, TiffPage

from unmask.data.codecs.image import MAX_PIXELS, BadImage, Raw

PACKED = {5: "LZW", 50000: "Zstandard"}  # compressions that tifffile may not know and Pillow may
ENDLESS = {8: zlib.decompressobj, 32946: zlib.decompressobj, 34925: lzma.LZMADecompressor}  # tifffile unpacks all of it
SMALL = 32 << 10  # bytes of a strip of these that cannot unpack to much: at most 8000 times as many


def read_tiff(data: bytes) -> Raw:
    """The first image of a TIFF: values h w c as stored, 16-bit palettes resolved, min-is-white turned round.

    Raises BadImage, or whatever tifffile raises on damaged files.
    """
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # it logs what we raise or can do without
    with TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages.first
        _check(page, len(data))
        if page.compression in ENDLESS:
            _refuse_endless(data, page)
        if page.compression in PACKED or page.predictor == 3:
            with TiffFile(io.BytesIO(_unpacked(data)), mode="r+") as plain:
                return _raw(plain)
        return _raw(file)


def read_nodata(data: bytes) -> float | None:
    """The value that a GeoTIFF declares to be no data (GDAL's tag 42113); None where it declares none."""
    try:
        with TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags.get(42113)
            return None if tag is None else float(str(tag.value).strip("\0 "))
    except Exception:  # tifffile raises anything of a damaged file, which is named when it is read
        return None


def _raw(file: TiffFile) -> Raw:
    page: Any = file.pages.first
    series = file.series[0]
    depth = int(page.bitspersample)
    if series.axes == "CYX" and len(series.pages) > 1:  # microscopes write one page per channel
        axes, values, frames = "SYX", series.asarray(), 1
    else:
        axes, values, frames = page.axes, page.asarray(), len(file.pages)
    values = values.reshape([n for n, axis in zip(values.shape, axes) if axis in "YXS" or n > 1])
    if values.ndim == 3 and axes.startswith("S"):
        values = values.transpose(1, 2, 0)  # c h w -> h w c
    if values.ndim not in (2, 3):
        raise BadImage(f"TIFF with axes {axes}: an image has height, width and bands")
    if values.dtype.kind not in "buif":
        raise BadImage(f"TIFF of {values.dtype} values, pixels are real numbers")
    photometric = int(page.photometric)
    if photometric == 3 and page.colormap is not None:
        values = np.moveaxis(page.colormap[:, values], 0, -1)  # -> h w 3
    elif photometric == 0 and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values
    alpha = None
    if photometric in (1, 2) and page.extrasamples in ((1,), (2,)) and values.ndim == 3 and values.dtype.kind == "u":
        values, alpha = values[..., :-1], values[..., -1]
        if values.dtype.itemsize > 2:
            alpha = None  # 32-bit integers are measurements: there is no white to composite on
    tag = page.tags.get(274)
    notes = [f"first of {frames} frames"] if frames > 1 else []
    shape = tuple(int(side) for side in values.shape)
    bands = shape[2] + (alpha is not None) if len(shape) == 3 else 1
    mode = f"{page.dtype}" if bands == 1 else f"{bands} x {page.dtype}"
    size = (shape[0], shape[1])
    return Raw(values, "TIFF", mode, depth, size, alpha, int(tag.value) if tag else 1, notes)


def _check(page: TiffPage, num_bytes: int) -> None:
    height, width, bands = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if height * width * max(1, bands // 8) > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {height} x {width} pixels of {bands} bands, the limit is {MAX_PIXELS:,}")
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts)]
    if not ends or max(ends) > num_bytes:
        raise BadImage("truncated")
    if page.dtype is None:
        raise BadImage(f"TIFF with {page.bitspersample} bits per value, which is not read here")


def _refuse_endless(data: bytes, page: Any) -> None:
    """Raises BadImage for a strip or tile that unpacks to more than its pixels: a few kilobytes can be gigabytes."""
    for start, count, shape in zip(page.dataoffsets, page.databytecounts, _segment_shapes(page)):
        if count > SMALL:
            most = 2 * max(_num_bytes(shape, page), SMALL)
            if len(ENDLESS[page.compression]().decompress(data[start : start + count], most)) == most:
                raise BadImage("decompression bomb: a strip unpacks to more than its pixels")


def _num_bytes(shape: tuple[int, int, int], page: TiffPage) -> int:
    rows, columns, bands = shape
    return rows * ((columns * bands * int(page.bitspersample) + 7) // 8)


def _unpacked(data: bytes) -> bytes:
    """The same TIFF with its first page's strips or tiles unpacked at the end of the file, and the tags to match."""
    copy = io.BytesIO(data)
    with TiffFile(copy, mode="r+") as file:
        page: Any = file.pages.first
        shapes = _segment_shapes(page)
        starts, counts = [], []
        for start, count, shape in zip(page.dataoffsets, page.databytecounts, shapes):
            plain = _unpack(data[start : start + count], int(page.compression), shape, page)
            starts.append(copy.seek(0, io.SEEK_END))
            counts.append(copy.write(plain))
        kind = "Tile" if page.is_tiled else "Strip"
        page.tags[f"{kind}Offsets"].overwrite(starts)
        page.tags[f"{kind}ByteCounts"].overwrite(counts)
        page.tags["Compression"].overwrite(1)
        if page.predictor == 3:
            page.tags["Predictor"].overwrite(1)
    return copy.getvalue()


def _segment_shapes(page: TiffPage) -> list[tuple[int, int, int]]:
    """Rows, columns and bands of every strip or tile, in the file's order."""
    apart = int(page.planarconfig) == 2
    bands = 1 if apart else int(page.samplesperpixel)
    planes = int(page.samplesperpixel) if apart else 1
    if page.is_tiled:
        return [(int(page.tilelength), int(page.tilewidth), bands)] * len(page.dataoffsets)
    height, rows = int(page.imagelength), min(int(page.rowsperstrip), int(page.imagelength))
    tops = list(islice(range(0, height, rows), len(page.dataoffsets)))  # as many as there are, whatever the height is
    return [(min(rows, height - top), int(page.imagewidth), bands) for top in tops] * planes


def _unpack(packed: bytes, compression: int, shape: tuple[int, int, int], page: TiffPage) -> bytes:
    num_bytes = _num_bytes(shape, page)
    if compression in PACKED:
        with Image.open(io.BytesIO(_one_row_tiff(packed, num_bytes, compression)), formats=["TIFF"]) as image:
            plain = image.tobytes()
    elif compression == 1:
        plain = packed
    else:
        plain = bytes(tifffile.TIFF.DECOMPRESSORS[compression](packed))
    return _unpredict(plain, shape, page) if page.predictor == 3 else plain


def _unpredict(plain: bytes, shape: tuple[int, int, int], page: TiffPage) -> bytes:
    """Undoes TIFF's floating-point predictor: bytes of a row sorted by significance, then stored as differences."""
    rows, columns, bands = shape
    size = int(page.bitspersample) // 8
    steps = np.frombuffer(plain, np.uint8).reshape(rows, columns * size, bands)
    planes = steps.cumsum(axis=1, dtype=np.uint8).reshape(rows, size, columns * bands)  # the first is most significant
    values = planes.transpose(0, 2, 1)  # -> rows, values, bytes (big-endian)
    return values.tobytes() if page.parent.byteorder == ">" else values[..., ::-1].tobytes()


def _one_row_tiff(packed: bytes, num_bytes: int, compression: int) -> bytes:
    """A grey 8-bit TIFF of one row whose only strip is `packed`."""
    tags = ((256, num_bytes), (257, 1), (258, 8), (259, compression), (262, 1), (273, 8), (277, 1), (278, 1))
    tags = (*tags, (279, len(packed)))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    pad = b"\0" * (len(packed) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed) + len(pad))
    return head + packed + pad + struct.pack("<H", len(tags)) + directory + struct.pack("<I", 0)
