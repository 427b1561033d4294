"""Pixels by frequency: low ones only, low and high ones apart, or all of them with a loss on the spectrum.

- `low`: each image without its fine detail, by an ideal low-pass filter. Liu et al. 2023 (PixMIM),
  https://arxiv.org/abs/2303.02416.
- `laplacian`: a Laplacian pyramid of two levels (Burt & Adelson 1983), a small image by squared error and what it lacks
  by absolute error. Reed et al. 2022 (Scale-MAE), https://arxiv.org/abs/2212.14532, which predicts a larger image
  than the encoder sees; here it is the same.
- `fft`: all pixels, and the focal frequency loss of each patch, which weighs most what is furthest off. Jiang et al.
  2020, https://arxiv.org/abs/2012.12821.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.methods.families.unit_pixels import normalised, pooled, require_factor, require_values, restored
from unmask.methods.target import Target, UnitTarget
from unmask.plain import NonNegativeFloat, PositiveShare, SeveralInt

__all__ = ["frequency"]
ENLARGED = {1: "linear", 2: "bilinear", 3: "trilinear"}  # by axes


def frequency(
    grid: Grid,
    channels: int = 3,
    mode: Literal["low", "laplacian", "fft"] = "low",
    cutoff: PositiveShare | None = None,
    factor: SeveralInt | None = None,
    weight: NonNegativeFloat | None = None,
    normalize: bool | None = None,
) -> Target:
    """The target of a mode. Of `low`, cutoff: the highest frequency that is left, as a share of the highest that an
    image has; 0.36 is PixMIM's 40 of 112. Of `laplacian`, factor: by which the small image is smaller, 4 by default.
    weight: of the detail's absolute error, or of the loss on the spectrum, 1 by default. Of `low` and `fft`, normalize:
    as for pixels, on by default."""
    modes = {
        "low": (LowPass, {"cutoff": cutoff, "normalize": normalize}),
        "laplacian": (Laplacian, {"factor": factor, "weight": weight}),
        "fft": (Spectrum, {"weight": weight, "normalize": normalize}),
    }
    kind, own = modes[mode]
    every = {"cutoff": cutoff, "factor": factor, "weight": weight, "normalize": normalize}
    for name, value in every.items():
        if value is not None and name not in own:
            raise UserError(f"frequency(mode={mode!r}) has no {name}; it has {' and '.join(own)}")
    return kind(grid, channels, **{name: value for name, value in own.items() if value is not None})


class LowPass(Target):
    """Pixels of images from which frequencies above a cut-off are removed. An image counts as one period of a pattern
    that goes on, so its opposite borders mix a little."""

    def __init__(self, grid: Grid, channels: int, cutoff: float = 0.36, normalize: bool = True):
        super().__init__()
        self.grid, self.cutoff, self.normalize = grid, cutoff, normalize
        self.dim = channels * math.prod(grid.unit)
        if normalize:
            require_values("frequency", self.dim, grid.unit)

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n p"]:
        units = self.grid.covering(x.shape[2:]).cut(low_pass(x.float(), self.cutoff))
        return normalised(units) if self.normalize else units

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h p"]:
        """As pixels: the blurred patch, where it is hidden."""
        grid = self.grid.covering(x.shape[2:])
        return restored(prediction, grid.cut(x), grid, mask, leak) if self.normalize else prediction


class Laplacian(Target):
    """Of each unit its part of the small image, then what that lacks when it is enlarged."""

    per_pixel = False
    loss_words = "squared error of the small image, and absolute error of the detail"

    def __init__(self, grid: Grid, channels: int, factor: int = 4, weight: float = 1.0):
        super().__init__()
        require_factor("frequency's factor", factor, grid.unit)
        self.grid, self.factor, self.weight = grid, factor, weight
        high = channels * math.prod(grid.unit)
        self.dims = [high // factor ** len(grid.unit), high]
        self.dim = sum(self.dims)
        self.scalars = {"low": "squared error of the small image", "high": "absolute error of the detail"}

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n p"]:
        x, grid = x.float(), self.grid.covering(x.shape[2:])
        small = pooled(x, len(grid.unit), self.factor)
        detail = x - self._enlarged(small)
        return torch.cat([self._of_small(grid).cut(small), grid.cut(detail)], dim=-1)

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
        return self.losses(prediction, wanted)["loss"]

    def losses(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> dict[str, Tensor]:
        low, high = (prediction - wanted).split(self.dims, dim=-1)
        low, high = low.square().mean(), high.abs().mean()
        return {"loss": low + self.weight * high, "low": low.detach(), "high": high.detach()}

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """Adds the two: the small image is the input's own where that is visible. There is nothing to leak."""
        grid, (low, high) = self.grid.covering(x.shape[2:]), prediction.split(self.dims, dim=-1)
        of_small = self._of_small(grid)
        units = of_small.cut(pooled(x, len(grid.unit), self.factor))
        units = units.scatter(1, mask.hidden[..., None].expand_as(low), low)
        return take(grid.cut(self._enlarged(of_small.join(units))), mask.hidden) + high

    def _of_small(self, grid: Grid) -> Grid:
        return Grid(grid.shape, tuple(side // self.factor for side in grid.unit))

    def _enlarged(self, small: Float[Tensor, "b c *small"]) -> Float[Tensor, "b c *size"]:
        return interpolate(small, scale_factor=float(self.factor), mode=ENLARGED[small.ndim - 2])


class Spectrum(UnitTarget):
    """Pixels, with a loss that counts the error of each frequency of a unit by how large it is."""

    loss_words = "squared error of pixels, and focal frequency loss"

    def __init__(self, grid: Grid, channels: int, weight: float = 1.0, normalize: bool = True):
        super().__init__()
        self.grid, self.channels, self.weight, self.normalize = grid, channels, weight, normalize
        self.dim = channels * math.prod(grid.unit)
        if normalize:
            require_values("frequency", self.dim, grid.unit)
        self.scalars = {"pixels": "squared error of pixels", "spectrum": "focal frequency loss"}

    def of(self, units: Float[Tensor, "b m p"]) -> Float[Tensor, "b m p"]:
        return normalised(units) if self.normalize else units

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
        return self.losses(prediction, wanted)["loss"]

    def losses(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> dict[str, Tensor]:
        difference = (prediction - wanted).unflatten(2, (*self.grid.unit, self.channels))
        pixels, spectrum = difference.square().mean(), focal_frequency(difference, len(self.grid.unit))
        return {"loss": pixels + self.weight * spectrum, "pixels": pixels.detach(), "spectrum": spectrum.detach()}

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h p"]:
        """As pixels."""
        grid = self.grid.covering(x.shape[2:])
        return restored(prediction, grid.cut(x), grid, mask, leak) if self.normalize else prediction


def low_pass(x: Float[Tensor, "b c *size"], cutoff: float) -> Float[Tensor, "b c *size"]:
    """Without the frequencies whose distance from 0 is above `cutoff`, along each axis as a share of the highest that
    the axis has."""
    axes = tuple(range(2, x.ndim))
    shares = [2 * torch.fft.fftfreq(x.shape[axis], device=x.device) for axis in axes]
    squares = torch.stack(torch.meshgrid(*shares, indexing="ij")).square().sum(dim=0)
    return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * (squares <= cutoff**2), dim=axes).real


def focal_frequency(difference: Float[Tensor, "b m *unit c"], axes: int) -> Float[Tensor, ""]:
    """The squared error of each frequency of a unit and channel, counted by its distance as a share of the largest of
    that spectrum; the share has no gradient. With equal shares it would be the squared error of pixels."""
    dims = tuple(range(2, 2 + axes))
    distance = torch.fft.fftn(difference, dim=dims, norm="ortho")
    square = distance.real.square() + distance.imag.square()
    with torch.no_grad():
        shares = square.sqrt()
        shares = shares / shares.amax(dim=dims, keepdim=True).clamp(min=1e-12)
    return (shares * square).mean()
