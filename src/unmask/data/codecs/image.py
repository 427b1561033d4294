"""The types of decoding: input from a source, the decoded image, the error."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

MAX_PIXELS = 178_956_970  # height x width of the largest image read: Pillow's own limit against decompression bombs


class BadImage(Exception):
    """A file or array that cannot be used as an image; the text is a short reason, such as `truncated`."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    pixels: Shaped[Tensor, "c h w"]  # uint8, or float32 for anything deeper than 8 bits
    format: str  # "JPEG", "PNG", ..., or "array"
    size: tuple[int, int]  # height, width of the original in pixels, after EXIF rotation, before shrinking
    mode: str  # as stored: "L", "RGB", "RGBA", "P", "CMYK", "I;16", "RGB;16", "F"; of an array, its dtype
    bits: int  # per value as stored: 1, 8, 16, 32 or 64
    notes: tuple[str, ...] = ()  # what was done to it, e.g. "alpha composited on white"
    as_stored: bool = False  # values are those of the file, in any range, not brought to 0..255


@dataclass(slots=True)
class Raw:
    """A decoded file before the rules for all formats are applied."""

    values: np.ndarray  # h w or h w c
    format: str
    mode: str
    bits: int
    size: tuple[int, int]  # height, width of the original as stored
    alpha: np.ndarray | None = None  # h w, the dtype of `values`
    premultiplied: bool = False  # values are multiplied by alpha already
    orientation: int = 1  # EXIF's, 1 to 8
    notes: list[str] = field(default_factory=list)
