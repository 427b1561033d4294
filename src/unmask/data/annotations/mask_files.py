"""What mask images say of pixels, as numbers; colours are looked up in a legend."""

import io
import warnings

import numpy as np
from jaxtyping import Int32
from PIL import Image

from unmask.data.annotations.legend import NO_CLASS, VOID, Legend
from unmask.data.codecs.decode import FORMATS
from unmask.data.codecs.image import BadImage

LARGEST = 2**20  # number of a class


def read_truth(data: bytes, legend: Legend) -> Int32[np.ndarray, "h w"]:
    """The number of every pixel. Raises BadImage for what cannot be read, and for colours that the legend lacks.

    Of a palette image the numbers count, not the colours, unless they are none of the legend's and its colours are.
    Where both are the legend's and say different things (optimisers of PNG files number colours anew), nothing does.
    Colour images whose three channels are equal hold numbers too: many programs save grey that way.
    """
    numbers = _numbers(_opened(data), legend)
    low, high = int(numbers.min()), int(numbers.max())
    if low < NO_CLASS or high > LARGEST:
        raise BadImage(f"its mask holds the number {low if low < NO_CLASS else high}; classes are 0 to {LARGEST:,}")
    return numbers


def _numbers(image: Image.Image, legend: Legend) -> np.ndarray:
    if image.format in ("JPEG", "MPO"):
        return _two_valued(np.asarray(image.convert("L")))
    if image.mode == "1":
        return np.asarray(image).astype(np.int32)
    if image.mode == "P":
        numbers = np.asarray(image).astype(np.int32)
        if not legend.colours or set(np.unique(numbers).tolist()) <= legend.names.keys() | {VOID}:
            _refuse_other_colours(numbers, np.asarray(image.convert("RGB")), legend)
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
    raise BadImage(f"its mask is a {image.mode} image; grey, palette or RGB can hold classes")


def _two_valued(values: np.ndarray) -> np.ndarray:
    """JPEG changes numbers a little, which only black and white survive."""
    dark = values[values < 128]  # black is 0 but for ringing at edges; class numbers are dark too
    numbers = dark.size > 0 and (np.percentile(dark, 75) > 2 or (dark.size == values.size and dark.max() > 2))
    if numbers or ((values > 64) & (values < 191)).mean() > 0.02:
        raise BadImage("its mask is a JPEG file, which does not keep class numbers: save masks as PNG")
    return np.where(values < 128, 0, VOID).astype(np.int32)


def _refuse_other_colours(numbers: np.ndarray, colours: np.ndarray, legend: Legend) -> None:
    by_colour = {colour: number for number, colour in legend.colours.items()}
    used, first = np.unique(numbers, return_index=True)
    shown = [(int(red), int(green), int(blue)) for red, green, blue in colours.reshape(-1, 3)[first]]
    if not all(colour in by_colour for colour in shown):
        return
    other = [(n, by_colour[colour]) for n, colour in zip(used.tolist(), shown) if n != by_colour[colour]]
    if other:
        number, colour = other[0]
        raise BadImage(
            f"its palette shows number {number} in the colour of {legend.names[colour]}: save it as RGB if colours"
            " count, or take the colours out of the classes file if numbers do"
        )


def _opened(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
        except Exception as error:  # of a damaged file, anything
            what = "empty file" if not data else f"truncated or damaged ({' '.join(str(error).split())[:80]})"
            raise BadImage(f"its mask cannot be read: {what}") from error
    return image


def _by_colour(colours: np.ndarray, legend: Legend) -> np.ndarray:
    flat = colours.astype(np.int32)
    codes = (flat[..., 0] << 16) + (flat[..., 1] << 8) + flat[..., 2]
    if not legend.colours:
        raise BadImage(
            f"its mask is in colour ({_colours(np.unique(codes))}) and nothing tells which class a colour is: add"
            " classes.json with colours, or label_colors.txt"
        )
    numbers = np.array(list(legend.colours), dtype=np.int32)
    known = np.array([(r << 16) + (g << 8) + b for r, g, b in legend.colours.values()], dtype=np.int32)
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    strange = known[order][place] != codes
    if strange.any():
        new = np.unique(codes[strange])
        why = " (blended edges? Save masks as PNG, without smoothing)" if len(new) > 20 else ""
        raise BadImage(f"unknown colour {_colours(new)} in {int(strange.sum()):,} pixels{why}")
    return numbers[order][place]


def _colours(codes: np.ndarray) -> str:
    shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in codes[:3].tolist())
    return shown + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")
