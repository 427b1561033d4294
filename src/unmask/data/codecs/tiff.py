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

PACKED = {5: "LZW", 32773: "PackBits", 50000: "Zstandard"}  # compressions that tifffile may not know and Pillow may
IMAGES = {7: "JPEG", 33003: "JPEG2000", 33004: "JPEG2000", 33005: "JPEG2000", 34712: "JPEG2000", 34933: "PNG"}
IMAGES |= {50001: "WEBP", 34927: "WEBP"}  # each strip or tile is a file of its own
ENDLESS = {8: zlib.decompressobj, 32946: zlib.decompressobj, 34925: lzma.LZMADecompressor}  # tifffile unpacks all of it
SMALL = 32 << 10  # bytes of a strip of these that cannot unpack to much: at most 8000 times as many
PLAIN = (1, 8, 32946, 34925)  # none, Deflate, LZMA: what tifffile reads itself
SHADES = (0, 1)  # photometric: white is 0, black is 0
PALETTE, SEPARATED, YCBCR, CIELAB = 3, 5, 6, (8, 9, 10)
CHUNK = 1 << 22  # bits that are spread out at a time


def read_tiff(data: bytes) -> Raw:
    """The first image of a TIFF: values h w c as stored, 16-bit palettes resolved, min-is-white turned round, CMYK made
    RGB. Depths in between (10, 12, 14 bits) are stretched to the next of 8 or 16 bits.

    Raises BadImage, or whatever tifffile raises on damaged files.
    """
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # it logs what we raise or can do without
    with TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages.first
        _check(page, len(data))
        if page.compression in ENDLESS:
            refuse_endless(data, page)
        depth = int(page.bitspersample)
        if (
            page.compression not in PLAIN or page.predictor == 3 or _is_odd(page)
        ):  # tifffile undoes predictor 2 of PLAIN
            with TiffFile(io.BytesIO(_unpacked(data)), mode="r+") as plain:
                return _raw(plain, depth)
        return _raw(file, depth)


def read_nodata(data: bytes) -> float | None:
    """The value that a GeoTIFF declares to be no data (GDAL's tag 42113); None where it declares none."""
    try:
        with TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags.get(42113)
            return None if tag is None else float(str(tag.value).strip("\0 "))
    except Exception:  # tifffile raises anything of a damaged file, which is named when it is read
        return None


def _raw(file: TiffFile, depth: int) -> Raw:
    """depth: bits per value as stored; the file's own may be the next larger."""
    page: Any = file.pages.first
    series = file.series[0]
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
    stored = int(np.prod(values.shape[2:]))  # bands; 1 without an axis of them
    values, alpha = _colours(values, page, depth)
    tag = page.tags.get(274)
    notes = [f"first of {frames} frames"] if frames > 1 else []
    mode = f"{page.dtype}" if stored == 1 else f"{stored} x {page.dtype}"
    premultiplied = alpha is not None and page.extrasamples == (1,)
    size = (int(values.shape[0]), int(values.shape[1]))
    return Raw(values, "TIFF", mode, depth, size, alpha, premultiplied, int(tag.value) if tag else 1, notes)


def _colours(values: np.ndarray, page: Any, depth: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Values h w or h w c without palette, ink or inversion, and alpha h w where it is declared."""
    photometric = int(page.photometric)
    if photometric == PALETTE and page.colormap is not None:
        return _from_palette(values, page)
    if values.dtype.kind != "u":
        return ~values if photometric == 0 and values.dtype.kind == "b" else values, None
    top = np.iinfo(values.dtype).max
    if depth < 8 * values.dtype.itemsize <= 16:
        values = np.round(values * (top / ((1 << depth) - 1))).astype(values.dtype)
    if photometric == 0:
        values = top - values
    alpha = None
    bands = 5 if photometric == SEPARATED else 4 if photometric == 2 else 2
    if page.extrasamples in ((1,), (2,)) and values.ndim == 3 and values.shape[2] == bands and top <= 65535:
        values, alpha = values[..., :-1], values[..., -1]  # 32-bit values are measurements: there is no white
    if photometric == SEPARATED and values.ndim == 3 and values.shape[2] == 4 and top <= 65535:
        light = (top - values.astype(np.float32)) / top
        values = np.round(light[..., :3] * light[..., 3:] * top).astype(values.dtype)
    return values, alpha


def _from_palette(indices: np.ndarray, page: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours h w 3, of 16 bits, and alpha h w where it is declared. indices: h w, or h w 2 with alpha."""
    colours, alpha = page.colormap, None
    if not (colours & 255).any():  # 8 bits, in the upper halves alone: 255 is stored as 65280
        colours = colours // 256 * 257
    if indices.ndim == 3:
        indices, alpha = (
            indices[..., 0],
            indices[..., 1] * np.uint16(257) if page.extrasamples in ((1,), (2,)) else None,
        )
    return np.moveaxis(colours[:, indices], 0, -1), alpha


def _is_odd(page: TiffPage) -> bool:
    """True for whole numbers of a depth that no type has: 3, 10, 12, 14, 24 bits."""
    return int(page.bitspersample) not in (1, 2, 4, 8, 16, 32, 64) and int(page.sampleformat) != 3


def _check(page: TiffPage, num_bytes: int) -> None:
    height, width, bands = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    if height * width * max(1, bands // 8) > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {height} x {width} pixels of {bands} bands, the limit is {MAX_PIXELS:,}")
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts)]
    if not ends or max(ends) > num_bytes:
        raise BadImage("truncated")
    depth, compression = int(page.bitspersample), page.compression
    if depth > 32 if _is_odd(page) else page.dtype is None or depth == 24:
        raise BadImage(f"TIFF with {page.bitspersample} bits per value, which is not read here")
    if compression not in PLAIN and compression not in PACKED and compression not in IMAGES:
        raise BadImage(f"TIFF compressed by {getattr(compression, 'name', compression)}, which is not read here")
    if compression == 7 and depth != 8:
        raise BadImage(f"TIFF of {depth}-bit JPEG, which is not supported: convert it to a TIFF packed by Deflate")
    if page.photometric in CIELAB or (page.photometric == YCBCR and compression not in IMAGES):
        colours = getattr(page.photometric, "name", page.photometric)
        raise BadImage(f"TIFF of {colours} colours with {depth} bits, which is not read here")


def refuse_endless(data: bytes, page: Any) -> None:
    """Raises BadImage for a strip or tile that unpacks to more than its pixels: a few kilobytes can be gigabytes."""
    for start, count, shape in zip(page.dataoffsets, page.databytecounts, _segment_shapes(page.keyframe)):
        if count > SMALL:
            most = 2 * max(_num_bytes(shape, page.keyframe), SMALL)
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
        changes: dict[str, object] = {f"{kind}Offsets": starts, f"{kind}ByteCounts": counts, "Compression": 1}
        changes |= {"Predictor": 1} if page.predictor != 1 else {}
        changes |= {"FillOrder": 1} if page.fillorder == 2 else {}
        changes |= {"PhotometricInterpretation": 2} if page.photometric == YCBCR else {}
        if _is_odd(page):
            changes["BitsPerSample"] = (_container(page),) * int(page.samplesperpixel)
        for name, value in changes.items():
            page.tags[name].overwrite(value)
    return copy.getvalue()


def _container(page: TiffPage) -> int:
    """Bits of the smallest type that holds a value."""
    return next(bits for bits in (8, 16, 32, 64) if bits >= int(page.bitspersample))


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
    if page.fillorder == 2:  # bits of each byte the other way round
        packed = np.packbits(np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")).tobytes()
    if compression in IMAGES:
        return _decoded(packed, shape, page)
    if compression in PACKED:
        with Image.open(io.BytesIO(_one_row_tiff(packed, num_bytes, compression)), formats=["TIFF"]) as image:
            plain = image.tobytes()
    elif compression == 1:
        plain = packed
    else:
        plain = bytes(tifffile.TIFF.DECOMPRESSORS[compression](packed))
    if _is_odd(page):
        plain = _spread(plain, shape, page)
    if compression in IMAGES or compression == 32773 or page.predictor == 1:  # libtiff predicts no PackBits
        return plain
    return _unpredict(plain, shape, page) if page.predictor == 3 else _summed(plain, shape, page)


def _spread(plain: bytes, shape: tuple[int, int, int], page: TiffPage) -> bytes:
    """Values of any number of bits, rows beginning at whole bytes, as whole numbers of 8, 16 or 32 bits."""
    rows, columns, bands = shape
    depth, num, row_bytes = (
        int(page.bitspersample),
        columns * bands,
        (columns * bands * int(page.bitspersample) + 7) // 8,
    )
    if len(plain) < rows * row_bytes:
        raise BadImage("truncated")
    stored = np.frombuffer(plain, np.uint8)[: rows * row_bytes].reshape(rows, row_bytes)
    kind = np.dtype(f"{page.parent.byteorder}u{_container(page) // 8}")
    weights, values = (1 << np.arange(depth - 1, -1, -1)).astype(np.float64), np.empty((rows, num), kind)
    step = max(1, CHUNK // (8 * row_bytes))
    for row in range(0, rows, step):
        bits = np.unpackbits(stored[row : row + step], axis=1)[:, : num * depth]
        values[row : row + step] = bits.reshape(-1, num, depth) @ weights  # below 2^53, so exact
    return values.tobytes()


def _decoded(packed: bytes, shape: tuple[int, int, int], page: Any) -> bytes:
    """A strip or tile that is an image file of its own, by Pillow."""
    rows, columns, _ = shape
    compression = int(page.compression)
    if compression == 7:
        packed = _whole_jpeg(packed, page)
    with Image.open(io.BytesIO(packed), formats=[IMAGES[compression]]) as image:
        if compression == 33003:  # YCbCr that the stream does not declare
            values = np.asarray(Image.fromarray(np.asarray(image), "YCbCr").convert("RGB"))
        else:
            values = np.asarray(image)
    values = values.reshape(*values.shape[:2], -1)[:rows, :columns]
    kind = np.dtype(f"{page.parent.byteorder}u{int(page.bitspersample) // 8}")
    if values.shape != shape or values.dtype.itemsize != kind.itemsize:
        raise BadImage(f"TIFF of {IMAGES[compression]} strips or tiles that do not fit it")
    return values.astype(kind).tobytes()


def _whole_jpeg(packed: bytes, page: Any) -> bytes:
    """A strip or tile with the tables that its TIFF keeps apart, and Adobe's marker that says which colours it has."""
    tables = page.jpegtables[2:-2] if page.jpegtables else b""  # without its start and end
    marker = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([page.photometric == YCBCR])
    return packed[:2] + marker + tables + packed[2:]


def _unpredict(plain: bytes, shape: tuple[int, int, int], page: TiffPage) -> bytes:
    """Undoes TIFF's floating-point predictor: bytes of a row sorted by significance, then stored as differences."""
    rows, columns, bands = shape
    size = int(page.bitspersample) // 8
    steps = np.frombuffer(plain, np.uint8).reshape(rows, columns * size, bands)
    planes = steps.cumsum(axis=1, dtype=np.uint8).reshape(rows, size, columns * bands)  # the first is most significant
    values = planes.transpose(0, 2, 1)  # -> rows, values, bytes (big-endian)
    return values.tobytes() if page.parent.byteorder == ">" else values[..., ::-1].tobytes()


def _summed(plain: bytes, shape: tuple[int, int, int], page: Any) -> bytes:
    """Undoes TIFF's horizontal predictor: values of a row stored as differences, which wrap round."""
    depth = int(page.bitspersample)
    if depth < 8:
        raise BadImage(f"TIFF with a predictor and {depth} bits per value, which is not read here")
    kind = np.dtype(f"{page.parent.byteorder}u{_container(page) // 8}")
    steps = np.frombuffer(plain, kind).reshape(shape)
    sums = np.cumsum(steps, axis=1, dtype=kind.newbyteorder("="))
    return (sums & np.array((1 << depth) - 1, sums.dtype)).astype(kind).tobytes()


def _one_row_tiff(packed: bytes, num_bytes: int, compression: int) -> bytes:
    """A grey 8-bit TIFF of one row whose only strip is `packed`."""
    tags = ((256, num_bytes), (257, 1), (258, 8), (259, compression), (262, 1), (273, 8), (277, 1), (278, 1))
    tags = (*tags, (279, len(packed)))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    pad = b"\0" * (len(packed) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed) + len(pad))
    return head + packed + pad + struct.pack("<H", len(tags)) + directory + struct.pack("<I", 0)
