"""PNG beyond Pillow, which checks no checksum of the pixels and reduces 16-bit colour to 8 bits."""

import zlib

import numpy as np

_COLOUR = {2: "RGB;16", 4: "LA;16", 6: "RGBA;16"}  # IHDR's colour types


def damage(data: bytes) -> str | None:
    """The damage to chunks that hold pixels, or None. Without this check, flipped bits would decode to wrong pixels.

    Pillow's `verify` would refuse sound images too: those whose end mark or a comment is damaged.
    """
    place, view = 8, memoryview(data)
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 8 + length
        if kind == b"IEND":
            return None
        if kind in (b"IHDR", b"PLTE", b"IDAT"):
            if end + 4 > len(data):
                return "truncated"
            if zlib.crc32(view[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                return "damaged (a checksum is wrong)"
        place = end + 4
    return None  # only the end mark is missing; too few pixels are found while decoding


def is_deep_colour(data: bytes) -> bool:
    """True for 16 bits per value and more than grey."""
    return data[24] == 16 and data[25] in _COLOUR


def deep_colour(data: bytes) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Values h w c (uint16; RGB, or grey), alpha h w or None, and the mode, by OpenCV. ValueError if it cannot."""
    from unmask.data.codecs.opencv import cv2

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("16-bit PNG")
    alpha = values[..., -1] if values.shape[2] in (2, 4) else None
    colour = values[..., :1] if data[25] == 4 else values[..., 2::-1]  # OpenCV's order is blue, green, red
    return colour, alpha, _COLOUR[data[25]]
