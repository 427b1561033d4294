"""Class maps for images and volumes of any size, from a model that sees windows of one size.

Windows overlap by a third and their logits are averaged, as in the usual tests on ADE20K (windows of 512, 341 apart).
Windows of different images share batches, so that small images are as quick as large ones. Boxes of volumes and windows
of scenes overlap by a half and have Gaussian weights, since a window knows least at its edges: Isensee et al. 2021
(nnU-Net), https://doi.org/10.1038/s41592-020-01008-z. Scenes are worked off by rows of windows, so that their logits
need not fit into memory.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import interpolate, pad

OVERLAP = 1 / 3  # of neighbouring windows
WINDOW_PIXELS = 2**21  # of the windows at a time, where they are large
STRIP = 2**24  # enlarged logits at a time: those of a large image would not fit into memory
BOX_OVERLAP = 0.5  # of neighbouring boxes of a volume
SIGMA = 1 / 8  # of the weights in a box, as a share of its side
BOX_VOXELS = 2**19  # of the boxes at a time, where they are large
Size = tuple[int, int]


@dataclass
class _Canvas:
    """An image in progress: its pending windows, and the sum of the logits of finished ones."""

    image: Tensor  # c h w, at working size
    size: Size  # height, width of the requested map
    places: list[Size]  # top, left of windows
    sums: Tensor | None = None
    counts: Tensor | None = None
    open: int = field(init=False)

    def __post_init__(self):
        self.open = len(self.places)


def slide(
    run: Callable[[Tensor], Tensor],
    images: Iterable[tuple[Shaped[Tensor, "_ _ _"], Size]],
    *,
    window: Size,  # height, width in pixels
    side: int,  # pixels that the shorter side of an image is resized to
    fill: Float[Tensor, "_"],  # raw values to pad an image smaller than a window
    batch: int,  # windows at a time
) -> Iterator[UInt8[np.ndarray, "_ _"]]:
    """The most probable class of every pixel, for each image in turn, at the size given with it.

    `run` gives logits at the size of its input. The result does not depend on `batch`, up to rounding.
    """
    queue: deque[_Canvas] = deque()
    waiting: list[tuple[_Canvas, Size]] = []
    for image, size in images:
        canvas = _canvas(image, size, window, side)
        queue.append(canvas)
        waiting += [(canvas, corner) for corner in canvas.places]
        while len(waiting) >= batch:
            _work(run, waiting[:batch], window, fill)
            del waiting[:batch]
        while queue and not queue[0].open:
            yield _finished(queue.popleft())
    for first in range(0, len(waiting), batch):
        _work(run, waiting[first : first + batch], window, fill)
    while queue:
        yield _finished(queue.popleft())


def windows_at_once(window: Size) -> int:
    """A number of windows that certainly fits into memory: 8 of 512 x 512, 64 of 144 x 144."""
    return max(1, min(64, WINDOW_PIXELS // (window[0] * window[1])))


def working_size(height: int, width: int, side: int) -> Size:
    """The size of an image resized to a shorter side of `side`."""
    share = side / min(height, width)
    return max(side, round(height * share)), max(side, round(width * share))


def resized(image: Shaped[Tensor, "c h w"], size: Size) -> Shaped[Tensor, "c h2 w2"]:
    """Resizes bilinearly with antialiasing; the dtype is kept."""
    if tuple(image.shape[1:]) == size:
        return image
    return interpolate(image[None].contiguous(), size, mode="bilinear", antialias=True, align_corners=False)[0]


def most_probable(logits: Float[Tensor, "k h w"], size: Size) -> UInt8[np.ndarray, "h2 w2"]:
    """The class with the largest logit after bilinear enlargement to `size`, computed in strips that fit into
    memory."""
    if tuple(logits.shape[1:]) == size:
        return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
    rows = max(1, STRIP // (logits.shape[0] * size[1]))
    at = (torch.arange(size[0], device=logits.device) + 0.5) * (logits.shape[1] / size[0]) - 0.5
    at = at.clamp(0, logits.shape[1] - 1)
    above = at.floor().long()
    below, share = (above + 1).clamp(max=logits.shape[1] - 1), at - above
    strips = []
    for first in range(0, size[0], rows):
        part = slice(first, first + rows)
        strip = torch.lerp(logits[:, above[part]], logits[:, below[part]], share[part, None])
        wide = interpolate(strip, size[1], mode="linear", align_corners=False)  # k rows columns, rows as channels
        strips.append(wide.argmax(dim=0).to(torch.uint8).cpu())
    return torch.cat(strips).numpy()


def places(length: int, window: int) -> list[int]:
    """Start of each window along a side: one window minus the overlap apart, the last one flush with the end."""
    stride = max(1, round(window * (1 - OVERLAP)))
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def _canvas(image: Tensor, size: Size, window: Size, side: int) -> _Canvas:
    small = resized(image, working_size(image.shape[1], image.shape[2], side))
    tops, lefts = (places(length, w) for length, w in zip(small.shape[1:], window))
    return _Canvas(small, size, [(top, left) for top in tops for left in lefts])


def _work(run: Callable[[Tensor], Tensor], jobs: list[tuple[_Canvas, Size]], window: Size, fill: Tensor) -> None:
    kinds = {canvas.image.dtype for canvas, _ in jobs}
    kind = kinds.pop() if len(kinds) == 1 else torch.float32
    cut = torch.stack([_cut(canvas.image, corner, window, fill, kind) for canvas, corner in jobs])
    for (canvas, (top, left)), logits in zip(jobs, run(cut).float()):
        height, width = canvas.image.shape[1:]
        if canvas.sums is None or canvas.counts is None:
            canvas.sums = logits.new_zeros(len(logits), height, width)
            canvas.counts = logits.new_zeros(height, width)
        part = (slice(top, top + window[0]), slice(left, left + window[1]))
        window_sum = canvas.sums[(slice(None), *part)]
        window_sum += logits[:, : window_sum.shape[1], : window_sum.shape[2]]
        canvas.counts[part] += 1
        canvas.open -= 1


def _cut(image: Tensor, corner: Size, window: Size, fill: Tensor, kind: torch.dtype) -> Tensor:
    part = image[:, corner[0] : corner[0] + window[0], corner[1] : corner[1] + window[1]].to(kind)
    if tuple(part.shape[1:]) == window:
        return part
    fill = fill.clamp(0, 255) if kind == torch.uint8 else fill  # an encoder of deeper images may have a larger mean
    whole = fill.to(kind).view(-1, 1, 1).repeat(1, *window)
    whole[:, : part.shape[1], : part.shape[2]] = part
    return whole


def _finished(canvas: _Canvas) -> np.ndarray:
    assert canvas.sums is not None and canvas.counts is not None  # noqa: PT018
    return most_probable(canvas.sums / canvas.counts, canvas.size)


def slide_box(
    run: Callable[[Float[Tensor, "b c d h w"]], Float[Tensor, "b k d h w"]],
    volume: Float[Tensor, "c d h w"],
    *,
    window: Sequence[int],  # depth, height, width of a box in voxels
    fill: Float[Tensor, "c"],  # what lies beyond a volume that is smaller than a box
    batch: int,  # boxes at a time
) -> Float[Tensor, "k d h w"]:
    """Logits of every voxel. The result does not depend on `batch`, up to rounding."""
    size = volume.shape[1:]
    missing = [max(0, side - have) for side, have in zip(window, size)]
    margins = [(lack // 2, lack - lack // 2) for lack in missing]
    fill = fill.to(volume).view(-1, 1, 1, 1)
    wide = pad(volume - fill, [n for margin in reversed(margins) for n in margin]) + fill if any(missing) else volume
    corners = list(itertools.product(*(starts(have, side) for have, side in zip(wide.shape[1:], window))))
    boxes = [tuple(slice(first, first + side) for first, side in zip(corner, window)) for corner in corners]
    weights, total, sums = gaussian(window), torch.zeros(wide.shape[1:]), None
    for first in range(0, len(boxes), batch):
        part = boxes[first : first + batch]
        logits = run(torch.stack([wide[(slice(None), *box)] for box in part])).float().cpu()
        sums = logits.new_zeros(logits.shape[1], *wide.shape[1:]) if sums is None else sums
        for box, values in zip(part, logits):
            sums[(slice(None), *box)] += values * weights
            total[box] += weights
    assert sums is not None
    inner = tuple(slice(before, before + side) for (before, _), side in zip(margins, size))
    return (sums / total)[(slice(None), *inner)]


def slide_strips(
    run: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b k h w"]],
    rows: Callable[[int, int], Float[Tensor, "c r w"]],  # from one row of the image to another; asked for in order
    size: Size,  # height, width of the image
    *,
    window: Size,  # height, width in pixels
    share: float,  # by which the image is resized before windows are seen
    fill: Float[Tensor, "_"],  # raw values beyond an image that is smaller than a window
    classes: int,
    batch: int,  # windows at a time
) -> Iterator[tuple[int, UInt8[np.ndarray, "_ _"]]]:
    """The most probable class of every pixel of an image of any size, strip by strip from top to bottom: the first row
    of each, and its map. Held at a time are the rows and logits of one row of windows. Windows without any value (NaN)
    are not run, and class 0 where there is no other. The result does not depend on `batch`, up to rounding."""
    reach = tuple(min(length, max(1, round(side / share))) for length, side in zip(size, window))  # pixels of a window
    height, width = (min(side, max(1, round(length * share))) for length, side in zip(reach, window))
    seen = (height, width)  # of it, resized
    tops, lefts = (starts(length, side) for length, side in zip(size, reach))
    weights, sums = gaussian(reach), torch.zeros(classes, reach[0], size[1])
    for top, next_top in zip(tops, [*tops[1:], size[0]]):
        strip = rows(top, top + reach[0])
        parts = {left: strip[:, :, left : left + reach[1]] for left in lefts}
        parts = [(left, part) for left, part in parts.items() if not part.isnan().all()]
        for first in range(0, len(parts), batch):
            some = parts[first : first + batch]
            cut = [_cut(resized(part, seen), (0, 0), window, fill, torch.float32) for _, part in some]
            logits = run(torch.stack(cut)).float().cpu()[..., : seen[0], : seen[1]]
            if seen != reach:
                logits = interpolate(logits, reach, mode="bilinear", align_corners=False)
            for (left, _), values in zip(some, logits):
                sums[:, :, left : left + reach[1]] += values * weights
        finished = next_top - top  # rows that no later window reaches; weights change nothing about the largest
        yield top, sums[:, :finished].argmax(dim=0).to(torch.uint8).numpy()
        sums = torch.cat([sums[:, finished:], torch.zeros(classes, finished, size[1])], dim=1)


def starts(length: int, window: int) -> list[int]:
    """Start of each box along a side: evenly apart, by at most half a box, the last one flush with the end."""
    last = max(0, length - window)
    count = 1 + -(-last // max(1, round(window * (1 - BOX_OVERLAP))))
    return sorted({round(place * last / max(1, count - 1)) for place in range(count)})


def gaussian(window: Sequence[int]) -> Float[Tensor, "*size"]:
    """Weights of the voxels of a box, or the pixels of a window: 1 at its centre, and nowhere so small that those at
    the very edge had none."""
    weights = torch.ones(1)
    for side in window:
        places = torch.arange(side) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (places / (SIGMA * side)) ** 2)
    return weights[0].clamp(min=1e-4)


def boxes_at_once(window: Sequence[int]) -> int:
    """A number of boxes that certainly fits into memory: 2 of 64 x 64 x 64."""
    voxels = window[0] * window[1] * window[2]
    return max(1, min(16, BOX_VOXELS // voxels))
