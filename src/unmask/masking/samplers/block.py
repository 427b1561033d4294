"""Block-wise masking: random boxes hide units until enough are hidden. Bao et al. 2021 (BEiT), section 2.3.

Drawn for all samples at once and for any number of axes. Boxes are ordered: a unit is hidden by the first box that
covers it, and the box that reaches the required count is hidden from its centre outwards.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["Block"]


class Block(Sampler):
    placed = True

    def __init__(self, ratio: Ratio = 0.75, smallest: float = 16 / 196, aspect: float = 0.3, boxes: int = 32):
        """smallest: smallest share of the grid in a box; aspect: smallest side ratio; boxes: number drawn per
        sample."""
        super().__init__(ratio)
        require_whole("boxes", boxes)
        if not (0 < smallest <= 1 and 0 < aspect <= 1):
            raise UserError(f"block needs 0 < smallest <= 1 and 0 < aspect <= 1; got {smallest} and {aspect}")
        self.smallest, self.aspect, self.boxes = smallest, aspect, boxes

    def draw(
        self, batch: int, grid: Grid, noise: Noise, ratio: float | None = None
    ) -> tuple[Float[Tensor, "b m k"], Float[Tensor, "b m k"]]:
        """First unit and size of each box along each axis, in whole units. Areas are uniform, from the smallest box to
        all that is hidden; of two sides, so is the logarithm of their ratio."""
        shape = torch.tensor(grid.shape, dtype=torch.float32, device=noise.device)
        axes = len(grid.shape)
        share = self.smallest + noise(batch, self.boxes, 1) * (max(ratio or self.ratio, self.smallest) - self.smallest)
        stretch = (2 * noise(batch, self.boxes, axes) - 1) * math.log(self.aspect) / 2
        if axes == 2:
            stretch[..., 1] = -stretch[..., 0]
        stretch = stretch - stretch.mean(dim=2, keepdim=True)  # aspects change, the area does not
        size = (share ** (1 / axes) * stretch.exp() * shape).round().clamp(min=1).minimum(shape)
        return (noise(batch, self.boxes, axes) * (shape - size + 1)).floor(), size

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        if grid.places is not None:
            return _around_one(grid.places, batch, noise)
        ratio = self.ratio_at(context.get("progress", 1.0))
        start, size = self.draw(batch, grid, noise, ratio)
        at = grid.coordinates(noise.device)[:, None, None]  # n 1 1 k, against b m k
        inside = ((at >= start) & (at < start + size)).all(dim=3)  # n b m
        first = torch.where(inside, torch.arange(self.boxes, device=noise.device), self.boxes).amin(dim=2)  # n b
        offset = (at - (start + (size - 1) / 2)).abs() / size
        distance = torch.where(inside, offset.amax(dim=3), 0.5)  # n b m, at most 0.5 inside a box
        nearest = distance.gather(2, first.clamp(max=self.boxes - 1)[..., None]).squeeze(2)
        return -((first + nearest).T + 0.01 * noise(batch, grid.num_units))


def _around_one(places: Float[Tensor, "b n k"], batch: int, noise: Noise) -> Float[Tensor, "c n"]:
    """Of units that have places of their own: highest for those nearest to a random one, as Point-MAE's blocks (Pang et
    al. 2022). batch: masks that are drawn, one or more for each sample, those of a sample in a row."""
    places = places.repeat_interleave(batch // len(places), dim=0)
    chosen = (noise(batch, 1) * places.shape[1]).long().clamp(max=places.shape[1] - 1)
    return -(places - take(places, chosen)).square().sum(dim=2)
