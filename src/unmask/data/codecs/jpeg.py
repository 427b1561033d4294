"""JPEG by the fastest maintained library: simplejpeg, which includes libjpeg-turbo. Unusual or damaged files are left
to Pillow: both use the same transforms and upsampling, so pixels are equal to the bit.

Why simplejpeg: it decodes in 0.6 of Pillow's time, lets other threads run meanwhile, and comes as a wheel for the usual
systems. Neither of the two can decode a window alone; both can decode at 1/2, 1/4 and 1/8.
"""

import io
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

try:
    import simplejpeg
except ImportError:  # no wheel for this system; the plan says so, and only speed is lost
    simplejpeg = None

_FRAMES = {0xC0, 0xC1, 0xC2}  # Huffman-coded, baseline, extended or progressive
_ALL_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # without tables that share the frames' range of markers
_UNREAD = dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical") | {0xCB: "lossless arithmetic"}
SCALES = (8, 4, 2, 1)  # of decoding: these have fast transforms


def decoder_name() -> str:
    """The decoder of plain JPEG on this machine, in words for the plan."""
    return "simplejpeg" if simplejpeg is not None else "Pillow (slower: simplejpeg is not installed)"


def plain_header(data: bytes) -> tuple[int, int, int] | None:
    """Height, width, and channels (1 or 3) of a JPEG that needs nothing but decoding; None for everything else: CMYK,
    other depths than 8 bits, EXIF or XMP (which may turn the image), several images in a file, damaged headers."""
    for marker, place, length in _segments(data):
        if marker in _ALL_FRAMES:
            return _frame(data, place, marker)
        extra = marker == 0xE1 or (marker == 0xE2 and data[place + 4 : place + 7] == b"MPF")
        if extra or length < 2 or 0xD0 <= marker <= 0xDA or marker < 0xC0:
            return None
    return None


def unread_kind(data: bytes) -> str | None:
    """What a sound JPEG is that no decoder here reads, by name: it is not damaged. None for all others."""
    for marker, place, _ in _segments(data):
        if marker in _ALL_FRAMES and place + 10 <= len(data):
            bits, channels = data[place + 4], data[place + 9]
            if marker in _UNREAD:
                return f"{_UNREAD[marker]} JPEG, which is not supported: convert it to baseline JPEG or PNG"
            if bits in (2, 4, 10, 12, 14, 16):
                return f"{bits}-bit JPEG, which is not supported: convert it to 16-bit PNG or TIFF, or to 8-bit JPEG"
            if channels == 2:
                return "JPEG of 2 channels, which is not supported: convert it to PNG"
            return None
        if marker == 0xF7:
            return "JPEG-LS, which is not supported: convert it to PNG"
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, place and length of each segment of a JPEG's header, up to the first that cannot be passed over."""
    place, end = 2, len(data)
    if data[:3] != b"\xff\xd8\xff":
        return
    while place + 4 <= end and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        yield marker, place, length
        if length < 2 or 0xD0 <= marker <= 0xDA:
            return
        place += 2 + length


def plain(data: bytes, max_side: int | None, most: int) -> tuple[UInt8[np.ndarray, "h w *c"], tuple[int, int]] | None:
    """Pixels, and the original's height and width, of a JPEG that needs nothing but decoding and has at most `most`
    pixels; None for everything else."""
    header = plain_header(data)
    if header is None or header[0] * header[1] > most:
        return None
    image = pixels(data, header[:2], header[2], max_side)
    return None if image is None else (image, header[:2])


def pixels(
    data: bytes, size: tuple[int, int], channels: int, max_side: int | None
) -> UInt8[np.ndarray, "h w *c"] | None:
    """The pixels of a JPEG of this height and width, one channel or three, at 1/2, 1/4 or 1/8 where that leaves a short
    side of at least `max_side` pixels. None where simplejpeg is not there or finds anything amiss, however slight."""
    if simplejpeg is None:
        return None
    room = 1 if max_side is None else min(size) // max_side
    scale = next(s for s in SCALES if room >= s or s == 1)
    wanted = -(-size[0] // scale), -(-size[1] // scale)
    try:
        image = simplejpeg.decode_jpeg(
            data,
            "RGB" if channels == 3 else "GRAY",
            min_height=wanted[0] if scale > 1 else 0,
            min_width=wanted[1] if scale > 1 else 0,
            strict=True,
        )
    except (ValueError, MemoryError, RuntimeError):
        return None
    if image.shape[:2] != wanted:  # another scale came as near: Pillow's is the one documented
        return None
    return image if channels == 3 else image[..., 0]


def encode(pixels: UInt8[np.ndarray, "h w *c"], quality: int) -> bytes:
    """A JPEG of one channel or three; 4:2:0 colour, the same bytes for the same pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _frame(data: bytes, place: int, marker: int) -> tuple[int, int, int] | None:
    if marker not in _FRAMES or place + 10 > len(data) or data[place + 4] != 8:
        return None
    height = int.from_bytes(data[place + 5 : place + 7], "big")
    width = int.from_bytes(data[place + 7 : place + 9], "big")
    channels = data[place + 9]
    return (height, width, channels) if height and width and channels in (1, 3) else None
