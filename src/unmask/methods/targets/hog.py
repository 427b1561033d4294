"""Histograms of oriented gradients: which way edges run in each cell of a unit, and how strongly. Wei et al. 2021
(MaskFeat), https://arxiv.org/abs/2112.09133; Dalal & Triggs 2005.

Gradients are Sobel's, the border is mirrored, orientations are those of 180 degrees, every pixel counts for one bin by
the length of its gradient, and the histogram of a cell has length 1, for each channel by itself. There is no block
normalisation and no window, as in MaskFeat's own code.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.methods.families.unit_pixels import require_factor
from unmask.methods.target import Target
from unmask.plain import SeveralInt

__all__ = ["HOG"]
EPS = 1e-5  # gradients, in standard deviations of the data, below which a cell counts as flat: all zeros


class HOG(Target):
    per_pixel, drawable = False, False
    undrawn = "histograms of edge directions, from which brightness and places of edges cannot be told"
    loss_words = "mean squared error of gradient histograms"

    def __init__(self, grid: Grid, channels: int = 3, cell: SeveralInt = 8, orientations: SeveralInt = 9):
        """cell: pixels along a side, which have one histogram; orientations: its bins. MaskFeat's are 8 and 9, so that
        a patch of 16 pixels has 4 histograms per channel: 108 values of colour."""
        super().__init__()
        if len(grid.unit) != 2:
            raise UserError("hog is of images, which have height and width")
        require_factor("hog's cell", cell, grid.unit)
        self.grid, self.cell, self.orientations = grid, cell, orientations
        self.dim = channels * orientations * math.prod(side // cell for side in grid.unit)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n p"]:
        """Histograms of each unit: cells in reading order, of each cell its channels, of each channel its bins."""
        down, right = _gradients(x.float())
        angle = torch.atan2(down, right) * (self.orientations / math.pi)  # in bins; -pi..pi
        bins = angle.floor().long() % self.orientations
        length = torch.sqrt(down.square() + right.square())
        cells = [self._sums(torch.where(bins == number, length, 0.0)) for number in range(self.orientations)]
        histograms = torch.stack(cells, dim=2)  # b c k rows columns
        histograms = histograms / (histograms.square().sum(dim=2, keepdim=True) + EPS**2).sqrt()
        own = self.grid.covering(x.shape[2:])
        of_cells = Grid(own.shape, (own.unit[0] // self.cell, own.unit[1] // self.cell))
        return of_cells.cut(histograms.flatten(1, 2))

    def _sums(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _ _"]:
        """Over the pixels of each cell."""
        return x.unflatten(3, (-1, self.cell)).sum(dim=4).unflatten(2, (-1, self.cell)).sum(dim=3)


def _gradients(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Sobel's, down and right. By differences of neighbours rather than a convolution: where an image is flat they are
    0, and no rounding errors, of which normalising would make edges."""
    x = pad(x, (1, 1, 1, 1), mode="reflect")
    down, right = x[..., 2:, :] - x[..., :-2, :], x[..., 2:] - x[..., :-2]
    return (
        down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:],
        right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :],
    )
