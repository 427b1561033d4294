"""Tube masking for video: the same places are hidden in every frame. Tong et al. 2022 (VideoMAE),
https://arxiv.org/abs/2203.12602."""

import math

from jaxtyping import Float
from torch import Tensor

from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Sampler

__all__ = ["Tube"]


class Tube(Sampler):
    """The first of three or more axes is time. What has no time, or one place per frame, gets random masks."""

    def places(self, grid: Grid) -> int:
        """Whole tubes are hidden, so that the count is one of a frame, times the frames."""
        return grid.num_units // _frames(grid)

    def count(self, grid: Grid, progress: float = 1.0) -> int:
        """VideoMAE's, who rounds down what is hidden of a frame: 176 of 196 at 90 %, where MAE hides 177."""
        places, frames = self.places(grid), _frames(grid)
        if frames == 1:
            return super().count(grid, progress)
        return frames * min(max(int(places * self.ratio_at(progress) + 1e-6), 1), places - 1)

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        return noise(batch, self.places(grid)).repeat(1, _frames(grid))

    def note(self, grid: Grid) -> str:
        alike = "the same as random here: tubes run through the frames of a video"
        return "; ".join(filter(None, (alike if _frames(grid) == 1 else "", super().note(grid))))


def _frames(grid: Grid) -> int:
    """Frames that a tube runs through: 1 where there is no time."""
    return grid.shape[0] if len(grid.shape) > 2 and math.prod(grid.shape[1:]) > 1 else 1
