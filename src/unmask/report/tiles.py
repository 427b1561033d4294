"""Images larger than a model's input, rebuilt in tiles of its size, each masked by itself, and drawn as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from unmask.data.transforms.kernels.crop import WholeImage
from unmask.masking.mask import Mask
from unmask.report.panel import Row
from unmask.report.reconstruction import hidden_pixels, rows, value_range
from unmask.training.objective import Rebuilder


@dataclass(frozen=True)
class InTiles:
    """A view of an image in whole tiles: its shorter side has as many as fit into `shorter` pixels, at least one, and
    of the longer one its centre is seen."""

    shorter: int
    tile: tuple[int, int]  # height, width in pixels

    def __call__(self, image: Shaped[Tensor, "c h w"]) -> Shaped[Tensor, "c p q"]:
        share = self.shorter / min(image.shape[1:])
        height, width = (max(1, int(side * share / own + 1e-6)) * own for side, own in zip(image.shape[1:], self.tile))
        return WholeImage((height, width))(image)


def cut(image: Shaped[Tensor, "c h w"], tile: Sequence[int]) -> Shaped[Tensor, "n c p q"]:
    """The tiles of an image, row by row; its sides are whole numbers of them."""
    channels, height, width = image.shape
    tiles = image.reshape(channels, height // tile[0], tile[0], width // tile[1], tile[1])
    return tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)


def tiled_row(model: Rebuilder, image: Shaped[Tensor, "c h w"], mask: Mask, title: str, true_statistics: bool) -> Row:
    """One row for an image; mask: of its tiles. The model must be in eval mode."""
    size = model.encoder.input_size
    tiles, across = cut(image, size), image.shape[2] // size[1]
    limits = value_range(image)
    drawn = rows(model, tiles, mask, [title] * len(tiles), true_statistics, limits)
    columns = {name: _joined([row.columns[name] for row in drawn], across) for name in drawn[0].columns}
    mean = columns["error"].sum() / float(hidden_pixels(model, mask).sum())  # over hidden pixels; 0 at visible ones
    return Row(title, columns, f"mean error {mean:.2f} std")


def _joined(parts: Sequence[np.ndarray], across: int) -> np.ndarray:
    lines = [np.concatenate(parts[start : start + across], axis=1) for start in range(0, len(parts), across)]
    return np.concatenate(lines, axis=0)
