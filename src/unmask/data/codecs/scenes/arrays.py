"""Scenes that are arrays, in memory or in an .npy file; and pixels picked from those of any scene."""

import io
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.georeference import Range


def as_array(source: str | bytes | np.ndarray) -> np.ndarray | None:
    """An array, or that of an .npy file, of which only what is used is read; None for other files."""
    array = source if isinstance(source, np.ndarray) else None
    if not isinstance(source, np.ndarray):
        with opening(source) as file:
            if file.read(6) != b"\x93NUMPY":
                return None
            file.seek(0)
            try:
                mapped = isinstance(source, str)
                array = np.load(source if mapped else file, mmap_mode="r" if mapped else None, allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise BadImage("truncated or damaged") from error
    assert array is not None  # either given or loaded
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise BadImage(f"array of shape {array.shape}, a scene is h w, c h w or h w c")
    if array.dtype.kind not in "buif":
        raise BadImage(f"array of {array.dtype}, pixels are real numbers")
    return array


def window_of_array(
    source: str | bytes | np.ndarray, rows: Range, columns: Range, size: tuple[int, int] | None
) -> np.ndarray:
    array = as_array(source)
    assert array is not None
    if array.ndim == 2:
        array = array[None]
    elif array.shape[2] < array.shape[0]:
        array = array.transpose(2, 0, 1)
    window = array[:, slice(*rows), slice(*columns)]
    return np.array(nearest(window, size) if size else window)


def opening(source: str | bytes) -> Any:
    try:
        return open(source, "rb") if isinstance(source, str) else io.BytesIO(source)
    except OSError as error:
        raise BadImage(error.strerror or "cannot be opened") from error


def nearest(window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of c h w, or h w, that are nearest to the centres of a coarser grid of `size`."""
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(window.shape[-2:], size))
    return window[..., rows, :][..., columns]
