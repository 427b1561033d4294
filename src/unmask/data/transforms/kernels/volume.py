"""Volumes on their grid: resampled to a spacing, brought to a range of values, cut to what is not background.

Tensors are c d h w (or d h w); affines are 4 x 4 and lead from the indices d, h, w of a voxel's centre to millimetres.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped, UInt8
from torch import Tensor

from unmask.errors import UserError

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # first and end of d, h, w
LAYERS = 2**24  # logits that are resampled at a time
LOWEST = 0.1  # share of the voxels with the lowest value from which that is the background
SEEN = 48  # voxels along an axis by which the foreground is told for views


def size_at(
    size: tuple[int, int, int], spacing: tuple[float, float, float], wanted: tuple[float, float, float]
) -> tuple[int, int, int]:
    """Voxels along d, h, w that fill the same extent at the spacing wanted, in mm; at least 1 of each."""
    if min(wanted) <= 0:
        raise UserError(f"a spacing is three lengths above 0 in mm; got {wanted}")
    depth, height, width = (max(1, round(n * old / new)) for n, old, new in zip(size, spacing, wanted))
    return depth, height, width


def resample(values: Float[Tensor, "*c d h w"], size: tuple[int, int, int]) -> Float[Tensor, "*c p q r"]:
    """Trilinear: each axis by linear interpolation between centres of voxels, the outer faces of the volume kept."""
    channels = values.reshape(1, -1, *values.shape[-3:])
    result = torch.nn.functional.interpolate(channels, size, mode="trilinear", align_corners=False)
    return result.reshape(*values.shape[:-3], *size)


def resample_labels(labels: Shaped[Tensor, "*c d h w"], size: tuple[int, int, int]) -> Shaped[Tensor, "*c p q r"]:
    """The label of the nearest voxel, of any dtype; between two, that of the higher index."""
    d, h, w = (
        ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)).long().clamp(max=old - 1).to(labels.device)
        for old, new in zip(labels.shape[-3:], size)
    )
    return labels[..., d[:, None, None], h[:, None], w]


def most_probable(logits: Float[Tensor, "k d h w"], size: tuple[int, ...]) -> UInt8[np.ndarray, "p q r"]:
    """The class with the largest logit of each voxel after trilinear resampling to `size`, a few layers at a time: the
    logits of a large volume would not fit into memory."""
    depth, height, width = size
    if tuple(logits.shape[1:]) == (depth, height, width):
        return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    layers = max(1, LAYERS // (logits.shape[0] * height * width))
    at = (torch.arange(depth, device=logits.device) + 0.5) * (logits.shape[1] / depth) - 0.5
    at = at.clamp(0, logits.shape[1] - 1)
    below = at.floor().long()
    above, share = (below + 1).clamp(max=logits.shape[1] - 1), at - below
    parts = []
    for first in range(0, depth, layers):
        part = slice(first, first + layers)
        slab = torch.lerp(logits[:, below[part]], logits[:, above[part]], share[part, None, None])
        wide = torch.nn.functional.interpolate(
            slab.transpose(0, 1), (height, width), mode="bilinear", align_corners=False
        )  # layers k h w
        parts.append(wide.argmax(dim=1).to(torch.uint8).cpu())
    return torch.cat(parts).numpy()


def cut(values: Shaped[Tensor, "*c d h w"], box: Box) -> Shaped[Tensor, "*c p q r"]:
    """A part of a volume, as a view of its memory."""
    (d, p), (h, q), (w, r) = box
    return values[..., d:p, h:q, w:r]


def resampled_affine(
    affine: Float[np.ndarray, "4 4"], size: tuple[int, int, int], new: tuple[int, int, int]
) -> Float[np.ndarray, "4 4"]:
    """The affine of a volume of `size` after it was resampled to the size `new`."""
    step = np.asarray(size, np.float64) / np.asarray(new, np.float64)
    change = np.diag([*step, 1.0])
    change[:3, 3] = (step - 1) / 2  # the first centre moves, the outer face stays
    return affine @ change


def cropped_affine(affine: Float[np.ndarray, "4 4"], box: Box) -> Float[np.ndarray, "4 4"]:
    """The affine of what `box` cuts out."""
    result = np.array(affine, np.float64)
    result[:3, 3] += affine[:3, :3] @ np.asarray([first for first, _ in box], np.float64)
    return result


def percentile_window(
    values: Float32[Tensor, "c d h w"], low: float = 0.5, high: float = 99.5
) -> tuple[Float32[Tensor, "c"], Float32[Tensor, "c"]]:
    """The values that `low` and `high` percent of the voxels of each channel are below, by linear interpolation."""
    if not 0 <= low < high <= 100:
        raise UserError(f"percentiles of intensity must be 0 <= low < high <= 100; got {low} and {high}")
    shares = np.percentile(values.flatten(1).cpu().numpy(), [low, high], axis=1)  # torch's refuses above 2^24 values
    first, last = torch.from_numpy(shares.astype(np.float32)).to(values.device)
    return first, last


def windowed(
    values: Float32[Tensor, "c d h w"], low: Float32[Tensor, "c"] | float, high: Float32[Tensor, "c"] | float
) -> Float32[Tensor, "c d h w"]:
    """Values brought to 0..1: `low` and below are 0, `high` and above are 1. A window of CT is centre -/+ width / 2. A
    channel of one value, whose window is empty, becomes 0."""
    low, high = (torch.as_tensor(value, dtype=values.dtype).reshape(-1, 1, 1, 1) for value in (low, high))
    if (high < low).any():
        raise UserError("the upper end of a window of intensity is below its lower end")
    width = high - low
    return torch.where(width > 0, (values - low) / width.clamp(min=1e-30), 0.0).clamp(0, 1)


def background_level(values: Float32[Tensor, "c d h w"]) -> Float32[Tensor, "c"]:
    """Per channel, what the background does not exceed: the lowest value where at least a tenth of the voxels have it
    (a brain cut out, a filled margin); else, for air and its noise, a quarter of the way from the mean of the dark
    voxels up to that of the bright ones, which Otsu's threshold tells apart."""
    from skimage.filters import threshold_otsu

    levels = []
    for channel in values.flatten(1).cpu().numpy():
        low, high = channel.min(), np.percentile(channel, 99.9)  # metal is far above what is to be told apart
        if low == high or (channel == low).mean() >= LOWEST:
            levels.append(low)
            continue
        channel = channel.clip(max=high)
        bright = channel > threshold_otsu(channel)
        levels.append(0.75 * channel[~bright].mean() + 0.25 * channel[bright].mean())
    return torch.tensor(np.array(levels), dtype=values.dtype, device=values.device)


def foreground_box(
    values: Float32[Tensor, "c d h w"], level: Float32[Tensor, "c"] | float | None = None, margin: int = 0
) -> Box:
    """The smallest box of all voxels that exceed `level` in any channel, widened by `margin` voxels within it.

    level: one or one per channel; None: `background_level`. The whole volume where nothing exceeds it.
    """
    level = background_level(values) if level is None else torch.as_tensor(level, dtype=values.dtype)
    inside = (values > level.reshape(-1, 1, 1, 1)).any(0)
    ends = []
    for axis, other in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        places = torch.nonzero(inside.any(other[1]).any(other[0]))[:, 0]
        if not len(places):
            return tuple((0, n) for n in inside.shape)  # type: ignore[return-value]
        ends.append((max(0, int(places[0]) - margin), min(inside.shape[axis], int(places[-1]) + 1 + margin)))
    return ends[0], ends[1], ends[2]


def foreground_places(values: Float32[Tensor, "c d h w"]) -> Int64[Tensor, "n 3"]:
    """Some voxels of the foreground, at even steps through the volume, in order; none where nothing stands out. At
    most SEEN along an axis are looked at, so that this can be done for every view."""
    steps = torch.tensor([-(-side // SEEN) for side in values.shape[1:]])
    d, h, w = steps.tolist()
    some = values[:, ::d, ::h, ::w]
    inside = (some > background_level(some).reshape(-1, 1, 1, 1)).any(0)
    return torch.nonzero(inside) * steps


def even_layers(places: Float[np.ndarray, "n"], depth: int, tolerance: float) -> Float[np.ndarray, "m"]:
    """`depth` evenly spaced places from the first of `places` to the last, as indices of these: 2.5 is half-way between
    the third and the fourth. What is off by less than `tolerance` of an index counts as in place."""
    layers = np.interp(np.linspace(places[0], places[-1], depth), places, np.arange(len(places)))
    nearest = np.round(layers)
    return np.where(np.abs(layers - nearest) < tolerance, nearest, layers)


def at_layers(values: Shaped[np.ndarray, "c n h w"], layers: Float[np.ndarray, "m"]) -> Shaped[np.ndarray, "c m h w"]:
    """Values at indices along n, linearly between layers; of the type they have where all indices are whole."""
    below = np.floor(layers).astype(int)
    share = (layers - below).astype(np.float32)
    if not share.any():
        return values if np.array_equal(below, np.arange(values.shape[1])) else values[:, below]
    above = np.minimum(below + 1, values.shape[1] - 1)
    result = np.empty((values.shape[0], len(layers), *values.shape[2:]), np.float32)
    for n, (low, high, part) in enumerate(zip(below, above, share)):  # one layer at a time, so that memory stays low
        result[:, n] = values[:, low] * (1 - part) + values[:, high] * part if part else values[:, low]
    return result
