"""Pictures of points: balls seen from the side, from slightly above, in parallel projection."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from unmask.files import write_atomically

SIDE, FINER = 192, 2  # pixels; of the picture before it is made smaller, so that edges are smooth
TILT = math.radians(22)  # of the eye above the ground
RADIUS = 0.022  # of a ball, of a cloud in the sphere of radius 1
ROOM = 1.05  # half of the width of a picture
GREY = 0.78
FRAMES, PAUSE = 36, 90  # pictures of one turn; milliseconds of each
HEIGHTS = np.array([(68, 48, 138), (44, 106, 168), (32, 152, 144), (104, 196, 92), (242, 196, 50), (232, 92, 44)]) / 255


def picture(
    points: Float[np.ndarray, "n 3"],
    colours: Float[np.ndarray, "n 3"] | None = None,
    up: int = 2,
    angle: float = 0.6,
    side: int = SIDE,
) -> UInt8[np.ndarray, "side side 3"]:
    """Of points in the sphere of radius 1 on white. colours: 0..1; None: by height. up: the axis that stands upright;
    angle: by which the cloud is turned about it."""
    colours = by_height(points, up) if colours is None else colours
    whole = side * FINER
    across, upright, near = projected(points, up, angle)
    radius = max(2, round(RADIUS / ROOM * whole / 2))
    steps = np.arange(-radius, radius + 1)
    down, right = (offset.ravel() for offset in np.meshgrid(steps, steps, indexing="ij"))
    bulge = 1 - (down**2 + right**2) / (radius + 0.5) ** 2
    down, right, bulge = down[bulge > 0], right[bulge > 0], np.sqrt(bulge[bulge > 0])
    row = np.round((1 - upright / ROOM) * whole / 2).astype(int)[:, None] + down
    column = np.round((1 + across / ROOM) * whole / 2).astype(int)[:, None] + right
    light = (0.62 + 0.38 * bulge) * np.interp(near, (-1, 1), (0.72, 1.0))[:, None]  # round, and darker behind
    shaded = colours[:, None] * light[..., None]
    order = np.argsort((near[:, None] + RADIUS * bulge).ravel(), kind="stable")  # nearest last
    inside = ((row >= 0) & (row < whole) & (column >= 0) & (column < whole)).ravel()[order]
    place = (row.clip(0, whole - 1) * whole + column.clip(0, whole - 1)).ravel()[order][inside]
    canvas = np.ones((whole * whole, 3))
    last = len(place) - 1 - np.unique(place[::-1], return_index=True)[1]  # of the balls over each other, the nearest
    canvas[place[last]] = shaded.reshape(-1, 3)[order][inside][last]
    canvas = canvas.reshape(side, FINER, side, FINER, 3).mean(axis=(1, 3))
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8)


def projected(points: np.ndarray, up: int, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where points lie in a picture, to the right, upwards and towards the eye."""
    first, second = points[:, (up + 1) % 3], points[:, (up + 2) % 3]
    across = first * math.cos(angle) - second * math.sin(angle)
    depth = first * math.sin(angle) + second * math.cos(angle)
    upright = points[:, up] * math.cos(TILT) + depth * math.sin(TILT)
    return across, upright, points[:, up] * math.sin(TILT) - depth * math.cos(TILT)


def by_height(points: np.ndarray, up: int) -> np.ndarray:
    """Colours from low to high, 0..1."""
    share = (points[:, up].clip(-1, 1) + 1) / 2 * (len(HEIGHTS) - 1)
    return np.stack([np.interp(share, range(len(HEIGHTS)), HEIGHTS[:, n]) for n in range(3)], axis=1)


def write_turning(
    clouds: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path, up: int = 2, side: int = SIDE
) -> Path:
    """A GIF of clouds side by side that turn once about the upright axis: of each, what it is called, its points and
    their colours."""
    frames = []
    for number in range(FRAMES):
        angle = 0.6 + 2 * math.pi * number / FRAMES
        row = np.concatenate([picture(points, colours, up, angle, side) for _, points, colours in clouds], axis=1)
        frame = Image.fromarray(np.concatenate([np.full((16, *row.shape[1:]), 255, np.uint8), row]))
        pen = ImageDraw.Draw(frame)
        for place, (title, _, _) in enumerate(clouds):
            pen.text((side * place + 6, 3), title, fill=(60, 60, 60))
        frames.append(frame.quantize(128))
    path = path.with_suffix(".gif")
    options = {"save_all": True, "append_images": frames[1:], "duration": PAUSE, "loop": 0}
    write_atomically(path, lambda part: frames[0].save(part, format="GIF", **options))
    return path
