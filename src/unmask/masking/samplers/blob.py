"""Irregular contiguous masks: blurred noise scores neighbouring units alike."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unmask.errors import require_whole
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler

__all__ = ["Blob"]


class Blob(Sampler):
    def __init__(self, ratio: Ratio = 0.75, radius: int = 1):
        """radius: of the blur, in units; a larger radius gives fewer, larger blobs."""
        super().__init__(ratio)
        require_whole("radius, in units,", radius)
        self.radius = radius

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        blurred = noise(batch, 1, *grid.shape)
        for axis, length in enumerate(grid.shape):  # a box blur is separable, so any number of axes works
            radius = min(self.radius, length - 1)
            line = blurred.movedim(2 + axis, -1)
            flat = line.reshape(-1, 1, length)
            flat = F.avg_pool1d(flat, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
            blurred = flat.view(line.shape).movedim(-1, 2 + axis)
        return blurred.flatten(1)
