"""Transforms boxes and outlines along with their image: scaling, EXIF rotation, drawing as masks."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as rle_code
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.data.annotations.objects import Instance
from unmask.data.codecs.decode import FORMATS, decode
from unmask.data.regular_files import read_regular
from unmask.files import Json

ORIENTATION = 0x0112  # EXIF's tag
Point = Callable[[float, float], tuple[float, float]]


def look_at(path: str) -> tuple[tuple[int, int], int]:
    """Height and width as stored, and EXIF's orientation, 1 to 8, from a file's first bytes if possible. Raises
    BadImage or OSError for a file that is not an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images: limits are those of `decode`
        try:
            image = Image.open(path, formats=FORMATS)
        except Exception:  # Pillow knows few kinds of TIFF; of a damaged file, it raises anything
            return decode(read_regular(path)).size, 1
    with image:
        try:
            orientation = int(image.getexif().get(ORIENTATION, 1))
        except Exception:  # damaged EXIF is no reason to lose an image
            orientation = 1
        if image.format == "TIFF" and 5 <= orientation <= 8:  # whether Pillow turned the size yet depends on its age
            shown = decode(read_regular(path)).size
            return (shown[1], shown[0]), orientation
        return (image.height, image.width), orientation if 1 <= orientation <= 8 else 1


def shown_size(path: str) -> tuple[int, int]:
    """Height and width of an image file as displayed. Raises the same errors as `look_at`."""
    (height, width), orientation = look_at(path)
    return (height, width) if orientation < 5 else (width, height)


def scaled(instance: Instance, x: float, y: float) -> Instance:
    """Scales coordinates by x and y. Run lengths keep their own size and are resized when drawn."""
    return _moved(instance, lambda a, b: (a * x, b * y))


def turned(instance: Instance, size: tuple[int, int], orientation: int) -> Instance:
    """Converts coordinates from the stored image, of `size` (height, width), to the image as displayed."""
    height, width = size
    ways: dict[int, Point] = {
        1: lambda x, y: (x, y),
        2: lambda x, y: (width - x, y),
        3: lambda x, y: (width - x, height - y),
        4: lambda x, y: (x, height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (height - y, x),
        7: lambda x, y: (height - y, width - x),
        8: lambda x, y: (y, width - x),
    }
    moved = _moved(instance, ways[orientation])
    if instance.rle is None:
        return moved
    return replace(moved, rle=run_lengths(turned_mask(_decoded(instance.rle), orientation)))


def turned_mask(mask: np.ndarray, orientation: int) -> np.ndarray:
    """A mask of the image as stored, h w, as one of the image as shown."""
    turns: dict[int, Callable[[Any], Any]] = {
        1: lambda m: m,
        2: np.fliplr,
        3: lambda m: np.rot90(m, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda m: np.rot90(m, -1),
        7: lambda m: np.rot90(m, 2).T,
        8: np.rot90,
    }
    return turns[orientation](mask)


def drawn(instances: Sequence[Instance], size: tuple[int, int], shown: tuple[int, int]) -> UInt8[Tensor, "n h w"]:
    """One mask per instance, 0 and 1, at `size` (height, width); its coordinates are those of an image of `shown`."""
    if not instances:
        return torch.zeros(0, *size, dtype=torch.uint8)
    return torch.stack([_drawn(instance, size, shown) for instance in instances])


def run_lengths(mask: np.ndarray) -> Json:
    """COCO's compressed form of a mask of 0 and 1, with counts as text for JSON."""
    encoded = rle_code.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = encoded["counts"]
    return {"size": list(encoded["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def box_of(rle: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the area that run lengths cover; all 0 if it is empty."""
    rows, columns = np.nonzero(_decoded(rle))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def pixels_in(rle: Mapping[str, Any]) -> float:
    """Number of pixels that run lengths cover."""
    return float(_decoded(rle).sum())


def _moved(instance: Instance, move: Point) -> Instance:
    left, top, right, bottom = instance.box
    corners = [move(left, top), move(right, bottom)]
    xs, ys = zip(*corners)
    polygons = tuple(
        tuple(v for x, y in zip(polygon[0::2], polygon[1::2]) for v in move(x, y)) for polygon in instance.polygons
    )
    return replace(instance, box=(min(xs), min(ys), max(xs), max(ys)), polygons=polygons)


def _drawn(instance: Instance, size: tuple[int, int], shown: tuple[int, int]) -> Tensor:
    if instance.rle is not None:
        mask = torch.from_numpy(np.ascontiguousarray(_decoded(instance.rle)))
        if tuple(mask.shape) == size:
            return mask
        return interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0].to(torch.uint8)
    y, x = size[0] / shown[0], size[1] / shown[1]
    polygons = [[v * (x, y)[i % 2] for i, v in enumerate(polygon)] for polygon in instance.polygons]
    if not polygons:
        return torch.zeros(size, dtype=torch.uint8)
    parts: Any = rle_code.frPyObjects(polygons, *size)
    merged: Any = rle_code.merge(parts)
    return torch.from_numpy(np.ascontiguousarray(rle_code.decode(merged)))


def _decoded(rle: Mapping[str, Any]) -> np.ndarray:
    """h w of 0 and 1. Raises ValueError for run lengths that do not add up to the image."""
    counts, (height, width) = rle["counts"], rle["size"]
    if isinstance(counts, list):
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError("run lengths must be whole numbers from 0 on")
        if sum(counts) != height * width:
            raise ValueError(f"run lengths add up to {sum(counts)}, not to {height} x {width}")
        encoded: Any = rle_code.frPyObjects(dict(rle), height, width)
    else:
        encoded = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
    try:
        return np.asarray(rle_code.decode(encoded))
    except RuntimeError as error:  # of text that is no run lengths
        raise ValueError(str(error)) from error
