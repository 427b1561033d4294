"""What files say of pixels, as numbers: mask pictures, whose colours are looked up in a legend, and outlines."""

import io
import warnings
from typing import Any

import numpy as np
from jaxtyping import Int32
from PIL import Image

from unmask.decode import FORMATS, BadPicture
from unmask.segmentation.legend import Legend

VOID = -1  # in a map of numbers: surely no class


def read_truth(data: bytes, legend: Legend) -> Int32[np.ndarray, "h w"]:
    """The number of every pixel. Raises BadPicture for what cannot be read, and for colours that the legend lacks.

    Of a palette picture the numbers count, not the colours, unless they are none of the legend's and its colours are.
    Colour pictures whose three channels are equal hold numbers too: many programs save grey that way.
    """
    image = _opened(data)
    if image.format in ("JPEG", "MPO"):
        return _two_valued(np.asarray(image.convert("L")))
    if image.mode == "1":
        return np.asarray(image).astype(np.int32)
    if image.mode == "P":
        numbers = np.asarray(image).astype(np.int32)
        if not legend.colours or set(np.unique(numbers).tolist()) <= legend.names.keys() | {255}:
            return numbers
        return _by_colour(np.asarray(image.convert("RGB")), legend)
    if image.mode in ("L", "I", "I;16", "I;16B", "I;16L"):
        return np.asarray(image).astype(np.int32)
    if image.mode in ("LA", "La"):
        return np.asarray(image)[..., 0].astype(np.int32)
    if image.mode in ("RGB", "RGBA", "RGBX"):
        colours = np.asarray(image)[..., :3]
        if not legend.colours and (colours == colours[..., :1]).all():
            return colours[..., 0].astype(np.int32)
        return _by_colour(colours, legend)
    raise BadPicture(f"its mask is a {image.mode} picture; grey, palette or RGB can hold classes")


def _two_valued(values: np.ndarray) -> np.ndarray:
    """JPEG changes numbers a little, which only black and white survive."""
    if ((values > 64) & (values < 191)).mean() > 0.02:
        raise BadPicture("its mask is a JPEG file, which does not keep class numbers: save masks as PNG")
    return np.where(values < 128, 0, 255).astype(np.int32)


def picture_size(data: bytes) -> tuple[int, int]:
    """Height and width of a picture file as it is seen, after EXIF rotation, from its header."""
    image = _opened(data, load=False)
    width, height = image.size
    turned = image.format in ("JPEG", "MPO", "PNG", "WEBP", "TIFF") and image.getexif().get(0x0112, 1) >= 5
    return (width, height) if turned else (height, width)


def drawn(outline: Any, size: tuple[int, int]) -> np.ndarray:
    """h w, bool: the inside of polygons, or run lengths."""
    from faster_coco_eval.core import mask as coco

    try:
        if isinstance(outline, list):
            if not all(isinstance(ring, list) and len(ring) >= 6 and len(ring) % 2 == 0 for ring in outline):
                raise ValueError("a polygon is three points or more, x and y in turn")
            rings: Any = coco.frPyObjects(outline, *size)
            packed: Any = coco.merge(rings)
        elif isinstance(outline["counts"], list):
            packed = coco.frPyObjects(outline, *size)
        else:
            packed = outline
        if tuple(packed["size"]) != size:
            raise ValueError(f"its run lengths are for {packed['size']}")
        return coco.decode(packed).astype(bool)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BadPicture(f"has an outline that cannot be drawn ({error})") from error


def _opened(data: bytes, load: bool = True) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if load:
                image.load()
        except Exception as error:  # of a damaged file, anything
            what = "empty file" if not data else f"truncated or damaged ({' '.join(str(error).split())[:80]})"
            raise BadPicture(f"its mask cannot be read: {what}" if load else what) from error
    return image


def _by_colour(colours: np.ndarray, legend: Legend) -> np.ndarray:
    flat = colours.astype(np.int32)
    codes = (flat[..., 0] << 16) + (flat[..., 1] << 8) + flat[..., 2]
    if not legend.colours:
        raise BadPicture(
            f"its mask is in colour ({_some(np.unique(codes))}) and nothing tells which class a colour is: add"
            " classes.json with colours, or label_colors.txt"
        )
    numbers = np.array(list(legend.colours), dtype=np.int32)
    known = np.array([(r << 16) + (g << 8) + b for r, g, b in legend.colours.values()], dtype=np.int32)
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    strange = known[order][place] != codes
    if strange.any():
        raise BadPicture(f"unknown colour {_some(np.unique(codes[strange]))} in {int(strange.sum()):,} pixels")
    return numbers[order][place]


def _some(codes: np.ndarray) -> str:
    shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in codes[:3].tolist())
    return shown + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")
