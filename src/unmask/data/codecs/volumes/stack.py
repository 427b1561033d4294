"""Stacks: volumes that do not say where they lie, which are NumPy arrays and TIFF of several pages.

Their axes are taken as stored: d h w, with channels before or behind.
"""

import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage

MAX_VALUES = 1 << 29  # values of the largest volume read, all channels together: 2 GiB as float32
MAX_CHANNELS = 16  # what a further axis may have to be one of channels
MILLIMETRES = {"m": 1e3, "meter": 1e3, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "um": 1e-3, "micron": 1e-3, "nm": 1e-6}
PACKED = 2000  # times its packed size that a stack may have; Deflate reaches 1,032
KEYS = ("volume", "image", "data", "label", "mask", "arr_0")  # of an .npz: the first that there is


@dataclass(frozen=True, slots=True)
class Stack:
    values: np.ndarray  # c d h w, as stored
    spacing: tuple[float, float, float] | None  # mm along d, h, w
    format: str  # "TIFF stack" or "array"
    bits: int  # per value as stored
    notes: tuple[str, ...] = ()


def stack_of_array(array: np.ndarray) -> Stack:
    """d h w, d h w c, or c d h w where only the first axis is short enough for channels."""
    if array.ndim not in (3, 4):
        raise BadImage(f"array of shape {array.shape}, a volume is d h w, d h w c or c d h w")
    check_size(array.shape, array.dtype)
    notes = ()
    if array.ndim == 4 and array.shape[0] <= MAX_CHANNELS < array.shape[3]:
        stored, notes = array, ("the first axis is taken as channels",)
    else:
        stored = channels_first(array)
    return Stack(stored, None, "array", 1 if array.dtype.kind == "b" else 8 * array.dtype.itemsize, notes)


def stack_of_tiff(data: bytes) -> Stack:
    import tifffile

    from unmask.data.codecs.tiff import ENDLESS, refuse_endless

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series: Any = file.series[0]
        check_size(series.shape, np.dtype(series.dtype))
        packed = int(series.keyframe.compression) != 1
        if math.prod(series.shape) * int(series.keyframe.bitspersample) > 8 * len(data) * (PACKED if packed else 1):
            raise BadImage("truncated" if not packed else "decompression bomb: more pixels than its bytes can hold")
        for page in series.pages:
            if page is not None and page.keyframe.compression in ENDLESS:
                refuse_endless(data, page)
        array, axes = _pages(series, data), series.axes
        kept = [n for n, axis in enumerate(axes) if axis in "YX" or array.shape[n] > 1]
        array, axes = array.reshape([array.shape[n] for n in kept]), "".join(axes[n] for n in kept)
        bands, layers = [a for a in axes if a in "CS"], [a for a in axes if a not in "CSYX"]
        if len(bands) > 1 or len(layers) > 1:
            raise BadImage(f"TIFF with axes {axes}: a volume has layers, height, width and channels")
        order = [axes.index(axis) for axis in (*bands, *layers, "Y", "X")]
        array = np.ascontiguousarray(array.transpose(order))
        array = array.reshape(
            array.shape[0] if bands else 1, array.shape[len(bands)] if layers else 1, *array.shape[-2:]
        )
        if array.shape[0] > MAX_CHANNELS:
            raise BadImage(f"TIFF of {array.shape[0]} channels, a volume has at most {MAX_CHANNELS}")
        notes = ()
        if series.keyframe.photometric == 0 and array.dtype.kind == "u":
            array, notes = np.iinfo(array.dtype).max - array, ("white is 0 in it: inverted",)
        if left := len(file.pages) - len(series.pages):
            notes = (*notes, f"{left} pages of other sizes left out") if left > 0 else notes
        return Stack(array, _tiff_spacing(file), "TIFF stack", int(series.keyframe.bitspersample), notes)


def _pages(series: Any, data: bytes) -> np.ndarray:
    """All pages of a series: by tifffile, or by Pillow where that lacks the library that unpacks them."""
    try:
        return series.asarray()
    except ValueError:
        from PIL import Image, ImageSequence

        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            warnings.simplefilter("ignore")  # what matters of damage is raised
            wanted = {page.index for page in series.pages}
            frames = [np.asarray(f) for n, f in enumerate(ImageSequence.Iterator(image)) if n in wanted]
        return np.stack(frames).astype(series.dtype, casting="safe").reshape(series.shape)


def _tiff_spacing(file: Any) -> tuple[float, float, float] | None:
    """mm along d, h, w, by what ImageJ or OME write; None without it."""
    if file.is_ome:
        spacings = {}
        for axis in "ZYX":
            length = re.search(rf'PhysicalSize{axis}="([-+.\deE]+)"', file.ome_metadata or "")
            unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', file.ome_metadata or "")
            spacings[axis] = float(length[1]) * MILLIMETRES.get(unit[1] if unit else "µm", 0.0) if length else 0.0
        steps = (spacings["Z"], spacings["Y"], spacings["X"])
    else:
        facts, tags = file.imagej_metadata or {}, file.pages.first.tags
        unit = MILLIMETRES.get(str(facts.get("unit", "")).replace("\\u00B5", "µ"), 0.0)
        ratios = [tags[name].value if name in tags else (0, 1) for name in ("YResolution", "XResolution")]
        across = [unit * below / above if above else 0.0 for above, below in ratios]
        steps = (unit * float(facts.get("spacing", 0)), across[0], across[1])
    return steps if min(steps) > 0 and math.isfinite(sum(steps)) else None


def check_size(shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.names != ("R", "G", "B") and dtype.kind not in "buif":
        raise BadImage(f"volume of {dtype} values, voxels are real numbers")
    if min(shape, default=0) < 1:
        raise BadImage("has no voxels")
    if math.prod(shape) > MAX_VALUES:
        raise BadImage(f"{' x '.join(map(str, shape))} values, the limit is {MAX_VALUES:,}")


def channels_first(array: np.ndarray) -> np.ndarray:
    """c i j k of i j, i j k, i j k c, or i j k 1 c."""
    while array.ndim > 4 and 1 in array.shape[3:]:
        array = array.squeeze(3 + array.shape[3:].index(1))
    array = array.reshape(*array.shape, *(1,) * (3 - array.ndim))
    if array.ndim > 4 or (array.ndim == 4 and array.shape[3] > MAX_CHANNELS):
        raise BadImage(
            f"{' x '.join(map(str, array.shape))} values: a fourth axis of at most {MAX_CHANNELS} is taken as channels;"
            " split longer ones (time) into volumes"
        )
    return np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]


def stack_of_npz(file: Any) -> Stack:
    """The array of an .npz that is named as a volume, or its only one."""
    with np.load(file, allow_pickle=False) as archive:
        if max((member.file_size for member in archive.zip.infolist()), default=0) > 8 * MAX_VALUES + 4096:
            raise BadImage(f"an array of more than {MAX_VALUES:,} values")
        names = [name for name in KEYS if name in archive.files] or archive.files[: len(archive.files) == 1]
        if not names:
            raise BadImage(f"none of its arrays is called {', '.join(KEYS)}: {', '.join(archive.files[:9])}")
        return stack_of_array(archive[names[0]])
