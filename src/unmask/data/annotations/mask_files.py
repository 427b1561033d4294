"""Reads mask images as class numbers; colours are looked up in a legend."""

import io
import warnings
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from unmask.data.annotations.legend import NO_CLASS, VOID, Legend
from unmask.data.codecs.decode import FORMATS, is_deep_tiff
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import sniff
from unmask.data.codecs.tiff import read_nodata, read_tiff

LARGEST = 2**20  # number of a class


class Truth(NamedTuple):
    numbers: Int32[np.ndarray, "h w"]  # NO_CLASS for surely none
    notes: list[str]  # what was taken for none


def read_truth(data: bytes, legend: Legend, nodata: Collection[int] = ()) -> Truth:
    """The number of every pixel. Raises BadImage for what cannot be read, and for colours that the legend lacks.

    nodata: numbers that mean no class beside those a GeoTIFF declares.

    Of a palette image the numbers count, not the colours, unless they are none of the legend's and its colours are.
    Where both are the legend's and say different things (optimisers of PNG files number colours anew), nothing does.
    Colour images whose three channels are equal hold numbers too: many programs save grey that way.
    """
    notes: list[str] = []
    values, declared = _values(data, legend)
    if values.ndim != 2:
        raise BadImage(f"its mask has {values.shape[-1]} bands; one holds class numbers, three colours")
    nowhere = np.isin(values, list(nodata)) if nodata else np.zeros(values.shape, dtype=bool)
    if declared is not None and (values == declared).any():
        if declared == 0 or declared in legend.names:
            notes.append(f"{declared:g} is declared as no data and stays a class; --void {declared:g} takes it out")
        else:
            nowhere |= values == declared
            notes.append(f"{declared:g} is declared as no data, and counts as void")
    if values.dtype.kind == "f":
        unknown = np.isnan(values)
        if unknown.any():
            nowhere |= unknown
            notes.append("NaN counts as void")
        odd = values[~nowhere & (values != np.round(values))]
        if odd.size:
            raise BadImage(f"its mask holds {odd[0]:g}; classes are whole numbers")
    defined = values[~nowhere]
    low, high = (defined.min(), defined.max()) if defined.size else (0, 0)
    if low < NO_CLASS or high > LARGEST:
        number = f"{low if low < NO_CLASS else high:.0f}"
        raise BadImage(
            f"its mask holds the number {number}; classes are 0 to {LARGEST:,}. If it means no data: --void={number}"
        )
    if low < 0:
        notes.append("-1 counts as void")
    numbers = np.where(nowhere, 0, values).astype(np.int32)
    return Truth(np.where(nowhere, np.int32(NO_CLASS), numbers), notes)


def _values(data: bytes, legend: Legend) -> tuple[np.ndarray, float | None]:
    """Numbers as they are stored, and the one that a GeoTIFF declares to be no data."""
    if sniff(data[:32]) != "TIFF":
        return _numbers(_opened(data), legend), None
    declared = read_nodata(data)
    try:
        image = _opened(data)
    except BadImage:  # Pillow knows few kinds of TIFF
        image = None
    if image is None or not isinstance(image, TiffImageFile) or is_deep_tiff(image):
        try:
            raw = read_tiff(data)
        except Exception as error:  # of a damaged file, anything
            raise BadImage(f"its mask cannot be read: damaged ({' '.join(str(error).split())[:80]})") from error
        return raw.values[..., 0] if raw.values.ndim == 3 and raw.values.shape[2] == 1 else raw.values, declared
    return _numbers(image, legend), declared


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
    class_codes = np.array([(r << 16) + (g << 8) + b for r, g, b in legend.colours.values()], dtype=np.int32)
    order = np.argsort(class_codes)
    place = np.searchsorted(class_codes[order], codes).clip(max=len(class_codes) - 1)
    strange = class_codes[order][place] != codes
    if strange.any():
        new = np.unique(codes[strange])
        why = " (blended edges? Save masks as PNG, without smoothing)" if len(new) > 20 else ""
        raise BadImage(f"unknown colour {_colours(new)} in {int(strange.sum()):,} pixels{why}")
    return numbers[order][place]


def _colours(codes: np.ndarray) -> str:
    shown = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in codes[:3].tolist())
    return shown + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")
