"""Recordings drawn as curves: a lane for each channel, what is hidden shaded, what was rebuilt in another colour."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

LANES = 12  # channels that are drawn at the most
WIDTH, LANE = 3.0, 0.75  # inches of a picture, and of a lane
ROOM = 0.12  # above and below a curve, as a share of its range


def curves(
    view: Shaped[Tensor, "c t"],
    like: Shaped[Tensor, "c t"],
    hidden: Bool[Tensor, "t"] | None = None,
    rebuilt: Shaped[Tensor, "c t"] | None = None,
    dpi: int = 130,
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of a view; NaN leaves a gap. like: the sample whose ranges set the scale of each channel; hidden: times
    that are shaded; rebuilt: a second curve over the first."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: training begins without it
    from matplotlib.figure import Figure

    from unmask.report.palette import BLUE, GREY, LIGHT_GREY, VERMILION

    measured = np.atleast_2d(like.detach().float().cpu().numpy())[:LANES]
    figure = Figure(figsize=(WIDTH, LANE * max(2, len(measured))), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(measured), 1, squeeze=False, sharex=True)[:, 0]
    figure.subplots_adjust(left=0.005, right=0.995, top=0.99, bottom=0.01, hspace=0.06)
    spans = [] if hidden is None else _spans(hidden.cpu().numpy())
    for channel, axis in enumerate(axes):
        for first, end in spans:
            axis.axvspan(first - 0.5, end - 0.5, color=LIGHT_GREY, lw=0)
        for values, colour in ((view, BLUE if rebuilt is None else GREY), (rebuilt, VERMILION)):
            if values is not None:
                axis.plot(values[channel].detach().float().cpu().numpy(), color=colour, lw=0.9)
        low, high = _range(measured[channel])
        axis.set(xlim=(-0.5, measured.shape[1] - 0.5), ylim=(low, high), xticks=[], yticks=[])
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color(LIGHT_GREY)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def stacked(pictures: Sequence[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "sum w 3"]:
    """Pictures of several recordings below each other: between them there is room with a line in it, darker than those
    between channels, so that the channels of one do not seem to belong to the next."""
    from unmask.report.palette import GREY, rgb

    height, width = pictures[0].shape[:2]
    gap = np.full((max(5, height // 8), width, 3), 255, np.uint8)
    gap[len(gap) // 2] = rgb(GREY)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1])


def _range(values: Float[np.ndarray, "t"]) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = ROOM * (high - low) or 1.0
    return low - room, high + room


def _spans(hidden: Bool[np.ndarray, "t"]) -> list[tuple[int, int]]:
    """First and last but one of each run of times."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hidden, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))
