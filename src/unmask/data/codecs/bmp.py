"""BMP beyond what Pillow reads: any bit fields, 2-bit and oversized palettes, run lengths that leave pixels out, and a
JPEG or PNG file inside. Microsoft's documentation of BITMAPINFOHEADER to BITMAPV5HEADER, and OS/2's headers."""

import struct
from dataclasses import dataclass

import numpy as np

from unmask.data.codecs.image import MAX_PIXELS, BadImage, Raw

RGB, RLE8, RLE4, FIELDS, JPEG, PNG, ALPHA_FIELDS = range(7)


@dataclass(frozen=True)
class _Header:
    size: int  # bytes
    width: int
    height: int
    top_down: bool
    bits: int  # per pixel
    compression: int
    colours: int  # in the palette; 0: as many as the bits allow
    begin: int  # of the pixels, in bytes

    @property
    def stride(self) -> int:
        """Bytes per row: whole words of 4."""
        return (self.width * self.bits + 31) // 32 * 4


def embedded(data: bytes) -> bytes | None:
    """The JPEG or PNG file that some BMP files are a wrapper around."""
    header = _header(data)
    return data[header.begin :] if header.compression in (JPEG, PNG) else None


def read_bmp(data: bytes) -> Raw | None:
    """None for kinds that Pillow reads well. Raises BadImage, or what slices beyond the end of the file raise."""
    header = _header(data)
    if header.width <= 0 or header.height <= 0:
        raise BadImage("has no pixels")
    if header.width * header.height > MAX_PIXELS:
        raise BadImage(f"decompression bomb: {header.height} x {header.width} pixels, the limit is {MAX_PIXELS:,}")
    if header.compression in (FIELDS, ALPHA_FIELDS) and header.bits in (16, 32) and header.size >= 40:
        values, alpha = _colours(data, header)
    elif header.bits <= 8 and header.compression in (RGB, RLE8, RLE4):
        indices = _rows(data, header) if header.compression == RGB else _runs(data, header)
        palette = _palette(data, header)
        palette = palette[:, 0] if (palette == palette[:, :1]).all() else palette  # grey stays one channel
        values, alpha = palette[indices], None
    else:
        return None
    if not header.top_down:
        values, alpha = values[::-1], alpha if alpha is None else alpha[::-1]
    mode = "L" if values.ndim == 2 else "RGB" if alpha is None else "RGBA"
    size = (header.height, header.width)
    return Raw(values, "BMP", mode, 1 if header.bits == 1 else 8, size, alpha)


def _header(data: bytes) -> _Header:
    if len(data) < 18 or len(data) < 14 + int.from_bytes(data[14:18], "little"):
        raise BadImage("truncated")
    begin, size = struct.unpack_from("<II", data, 10)
    if size == 12:  # OS/2 1
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        return _Header(size, width, height, False, bits, RGB, 0, begin)
    width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    compression, colours = 0, 0
    if size >= 36:
        compression, _, _, _, colours = struct.unpack_from("<IIiiI", data, 30)
    if size == 64 and compression > RLE4:
        raise BadImage("OS/2 BMP compressed by Huffman or 24-bit run lengths, which is not read here")
    return _Header(size, width, abs(height), height < 0, bits, compression, colours, begin)


def _palette(data: bytes, header: _Header) -> np.ndarray:
    """Colours 256 3, uint8, black beyond those in the file."""
    width = 3 if header.size == 12 else 4
    begin = 14 + header.size
    most = max(0, min(header.colours or 1 << header.bits, 256, (header.begin - begin) // width))
    entries = np.frombuffer(data[begin : begin + most * width], np.uint8).reshape(-1, width)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(entries)] = entries[:, 2::-1]  # blue, green, red
    return palette


def _words(data: bytes, header: _Header) -> np.ndarray:
    """Rows of bytes as stored; the padding of the last row may be missing."""
    needed = header.height * header.stride
    content = data[header.begin : header.begin + needed]
    if needed - len(content) > 3:
        raise BadImage("truncated")
    return np.frombuffer(content.ljust(needed, b"\0"), np.uint8).reshape(header.height, header.stride)


def _rows(data: bytes, header: _Header) -> np.ndarray:
    """Palette indices h w, in the file's order of rows."""
    stored = _words(data, header)
    if header.bits == 8:
        return stored[:, : header.width]
    if header.bits not in (1, 2, 4):
        raise BadImage(f"BMP of {header.bits} bits per pixel, which is not read here")
    shifts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)  # the first pixel is in the highest bits
    pixels = (stored[:, :, None] >> shifts) & np.uint8((1 << header.bits) - 1)
    return pixels.reshape(header.height, -1)[:, : header.width]


def _runs(data: bytes, header: _Header) -> np.ndarray:
    """Palette indices h w of run lengths; pixels that they pass over keep index 0, as Windows draws them."""
    indices = np.zeros((header.height, header.width), np.uint8)
    content, place, x, y = data, header.begin, 0, 0
    four = header.compression == RLE4

    def put(values: np.ndarray) -> None:
        nonlocal x
        part = values[: max(0, header.width - x)]
        indices[y, x : x + len(part)] = part
        x += len(values)

    while y < header.height and place + 2 <= len(content):
        count, value = content[place], content[place + 1]
        place += 2
        if count:
            put(np.tile(np.array([value >> 4, value & 15] if four else [value], np.uint8), count)[:count])
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            return indices
        elif value == 2:
            x, y, place = x + content[place], y + content[place + 1], place + 2
        else:
            size = (value + 1) // 2 if four else value
            stored = np.frombuffer(content[place : place + size], np.uint8)
            put(np.stack([stored >> 4, stored & 15], 1).ravel()[:value] if four else stored)
            place += size + size % 2
    if y < header.height - 1 or (y == header.height - 1 and x < header.width):  # the mark at the end may be missing
        raise BadImage("truncated")
    return indices


def _colours(data: bytes, header: _Header) -> tuple[np.ndarray, np.ndarray | None]:
    """Values h w 3 and alpha h w, uint8, of pixels whose bits are divided by masks."""
    num = 4 if header.size >= 56 or header.compression == ALPHA_FIELDS else 3
    masks = struct.unpack_from(f"<{num}I", data, 54)  # in or right behind the header of 40 bytes
    stored = _words(data, header)[:, : header.width * header.bits // 8].copy().view(f"<u{header.bits // 8}")
    parts = [_field(stored, mask) for mask in masks]
    alpha = parts[3] if num == 4 and masks[3] and parts[3].any() else None  # all 0: nobody meant an invisible image
    return np.stack(parts[:3], axis=-1), alpha


def _field(stored: np.ndarray, mask: int) -> np.ndarray:
    """The bits of a mask as 0..255."""
    if not mask:
        return np.zeros(stored.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    field = (stored.astype(np.uint64) & np.uint64(mask)) >> np.uint64(shift)
    return np.round(field * (255 / (mask >> shift))).astype(np.uint8)
