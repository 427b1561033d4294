"""Pixels of each unit, optionally normalised per unit (the better target in He et al. 2021, table 1d).

Also at several scales: Wang et al. 2023 (LocalMIM), https://arxiv.org/abs/2303.05251. There, layers of different depth
have a decoder and a scale each; here one decoder predicts all scales.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.methods.families.unit_pixels import normalised, pooled, require_factor, require_values, restored
from unmask.methods.target import UnitTarget
from unmask.plain import PositiveInt

__all__ = ["Pixels"]


class Pixels(UnitTarget):
    def __init__(
        self,
        grid: Grid,
        channels: int = 3,
        normalize: bool = True,
        scales: tuple[PositiveInt, ...] = (1,),
        cells: PositiveInt = 1,
        first_frame: bool = False,
    ):
        """normalize: subtract each unit's mean and divide by its standard deviation (unbiased, over all channels).

        scales: pixels along a side whose mean is one predicted value, rising; (1, 2, 4) predicts the unit at full, half
        and a quarter of its size, each normalised by itself. The loss is the mean over scales.

        cells: along each side of a unit, each of which is normalised by itself: with 2, the quarters of a unit, as
        Hiera's MAE has 16 of 32 pixels.

        first_frame: of a tubelet, only the first frame is predicted, as in MAE-ST (Feichtenhofer et al. 2022): the next
        one is nearly the same, and the prediction half as large.
        """
        super().__init__()
        if first_frame and (len(grid.unit) < 3 or tuple(scales) != (1,) or cells > 1):
            raise UserError("first_frame=True is for tubelets of clips, with one scale and without cells")
        self.frames = grid.unit[0] if first_frame else 1  # of a unit, of which one is predicted
        self.grid, self.channels, self.normalize, self.scales = grid, channels, normalize, tuple(scales)
        self.cells = cells
        if cells > 1 and (any(side % cells for side in grid.unit) or self.scales != (1,) or not normalize):
            size = " x ".join(map(str, grid.unit))
            raise UserError(
                f"cells={cells} normalises parts of a patch: it goes evenly into its sides, here {size} pixels, with"
                " normalize=True and one scale"
            )
        if not scales or any(a >= b for a, b in pairwise(scales)):
            raise UserError(f"scales are whole numbers that rise, such as (1, 2, 4); got {scales}")
        for scale in scales:
            require_factor("scales", scale, grid.unit)
        self.dims = [channels * math.prod(side // scale for side in grid.unit) // self.frames for scale in scales]
        self.dim = sum(self.dims)
        if normalize:
            require_values(f"pixels at scale {scales[-1]}", self.dims[-1] // cells ** len(grid.unit), grid.unit)
        if len(scales) > 1:
            self.loss_words = f"mean squared error of pixels at {len(scales)} scales"
            self.scalars = {f"scale_{scale}": f"squared error at 1/{scale} of the size" for scale in scales}

    def of(self, units: Float[Tensor, "b m q"]) -> Float[Tensor, "b m p"]:
        if self.cells > 1:
            return self.grid.merge(normalised(self.grid.split(units, self.cells)), self.cells)
        scaled = [self._shrunk(units, scale) for scale in self.scales]
        parts = [normalised(part) if self.normalize else part for part in scaled]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _shrunk(self, units: Float[Tensor, "b m q"], scale: int) -> Float[Tensor, "b m p"]:
        if scale == 1:  # time is the first axis of a unit
            return units if self.frames == 1 else units[..., : units.shape[2] // self.frames]
        images = units.unflatten(2, (*self.grid.unit, self.channels))
        return pooled(images, len(self.grid.unit), scale).flatten(2)

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> Float[Tensor, ""]:
        return self.losses(prediction, wanted)["loss"]

    def losses(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m p"]) -> dict[str, Tensor]:
        """The mean over scales, and the squared error at each if there are several."""
        if len(self.dims) == 1:  # no pieces, which would cost copies
            return {"loss": (prediction - wanted).square().mean()}
        parts = zip(prediction.split(self.dims, dim=-1), wanted.split(self.dims, dim=-1))
        errors = [(guess - truth).square().mean() for guess, truth in parts]
        named: Mapping[str, Tensor] = {name: error.detach() for name, error in zip(self.scalars, errors)}
        return {"loss": torch.stack(errors).mean(), **named}

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """Turns predictions for hidden units back into values of `x`, those at the finest scale.

        A normalised prediction lacks each unit's mean and deviation. They are interpolated from the visible units;
        `leak=True` takes the true ones instead, which a model cannot know: label such images as leaking.
        """
        grid, scale = self.grid.covering(x.shape[2:]), self.scales[0]
        finest = prediction[..., : self.dims[0]]
        if self.cells > 1:
            finer, apart = grid.finer(self.cells), Mask(*(grid.cells(index, self.cells) for index in mask))
            parts = restored(grid.split(finest, self.cells), finer.cut(x), finer, apart, leak)
            return grid.merge(parts, self.cells)
        if self.normalize:
            finest = restored(finest, self._shrunk(grid.cut(x), scale), grid, mask, leak)
        if scale == 1:
            return finest if self.frames == 1 else finest.repeat(1, 1, self.frames)
        small = finest.unflatten(2, (*(side // scale for side in grid.unit), self.channels))
        for axis in range(2, 2 + len(grid.unit)):
            small = small.repeat_interleave(scale, dim=axis)
        return small.flatten(2)
