"""The values of each part of an input, such as an image, its depth and a map of classes, with a loss of its own.
Bachmann et al. 2022 (MultiMAE), https://arxiv.org/abs/2204.01678.

The loss is the mean over the parts: of values, in deviations of the data, the mean squared error; of classes, the
cross-entropy. What has no value does not count, nor does a part that no sample of a batch has. Values are not
normalised unit by unit, since a part of which nothing is visible could not be drawn then.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.methods.target import Target

__all__ = ["PerPart"]


class PerPart(Target):
    """Of a grid without parts, the values of its units."""

    def __init__(self, grid: Grid, channels: int = 3):
        super().__init__()
        self.grid, self.raw = grid, bool(grid.parts)
        self.dim = max((part.num_predicted for part in grid.parts), default=channels * math.prod(grid.unit))
        if grid.parts:
            self.loss_words = f"mean over {', '.join(part.name for part in grid.parts)} of their loss"
            self.scalars: Mapping[str, str] = {
                f"loss_{part.name}": f"{'cross-entropy' if part.classes else 'mean squared error'} of {part.name}"
                for part in grid.parts
            }

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b n p"]:
        """Values of every unit; of parts, with NaN where there is none, and the number of the part at the end."""
        units = self.grid.covering(x.shape[2:]).cut(x.float())
        if not self.grid.parts:
            return units
        part = self.grid.part_of(x.device)[None, :, None].expand(len(units), -1, 1)
        return torch.cat([units, part.to(units.dtype)], dim=2)

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m q"]) -> Float[Tensor, ""]:
        return self.losses(prediction, wanted)["loss"]

    def losses(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m q"]) -> dict[str, Tensor]:
        """The mean over parts, and the loss of each; a part without hidden values has the loss 0 and is not in the
        mean."""
        if not self.grid.parts:
            return {"loss": (prediction - wanted).square().mean()}
        values, number = wanted[..., :-1], wanted[..., -1:]
        losses, counts = [], []
        for place, part in enumerate(self.grid.parts):
            own = values[..., : part.num_values]
            holds = (number == place) & own.isfinite()
            holds = holds & (own > 0) if part.classes else holds
            if part.classes:
                scores = prediction[..., : part.num_predicted].unflatten(2, (part.num_values, part.classes))
                ids = torch.where(holds, own - 1, 0.0).round().long()
                errors = cross_entropy(scores.flatten(0, 2).float(), ids.flatten(), reduction="none").view_as(own)
            else:
                errors = (prediction[..., : part.num_values] - torch.where(holds, own, 0.0)).square()
            counts.append(holds.sum())
            losses.append(torch.where(holds, errors, 0.0).sum() / counts[-1].clamp(min=1))
        weights = torch.stack(counts).clamp(max=1).to(losses[0].dtype)
        loss = (torch.stack(losses) * weights).sum() / weights.sum().clamp(min=1)
        return {"loss": loss, **{name: value.detach() for name, value in zip(self.scalars, losses)}}

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """The predicted values; of classes, the most likely."""
        if not self.grid.parts:
            return prediction
        width = self.grid.unit[0]
        pixels = pad(prediction, (0, max(0, width - prediction.shape[2])))[..., :width]
        number = take(self.grid.part_of(x.device)[None, :, None].expand(len(x), -1, 1), mask.hidden)
        for place, part in enumerate(self.grid.parts):
            if part.classes:
                scores = prediction[..., : part.num_predicted].unflatten(2, (part.num_values, part.classes))
                ids = pad(scores.argmax(dim=3).to(pixels.dtype) + 1, (0, width - part.num_values))
                pixels = torch.where(number == place, ids, pixels)
        return pixels
