"""Evidence of anomalies: reconstruction errors of hidden units, and features of visible ones."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from unmask.masking.complementary import nearness
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder
from unmask.training.objective import Rebuilder

EPS = 1e-4  # variance below which an area counts as uniform, in units of the data's variance
CELL = 4  # pixels along a side of the smallest piece that gets an error of its own, where the unit can be cut so


def cells(grid: Grid) -> tuple[int, int]:
    """Number of cells along height and width, each of which gets its own error."""
    return grid.shape[0] * _fine(grid.unit[0]), grid.shape[1] * _fine(grid.unit[1])


@torch.no_grad()
def errors(
    model: Rebuilder, masks: Sequence[Mask], x: Shaped[Tensor, "b c h w"]
) -> tuple[Float[Tensor, "b p q"], Float[Tensor, "b p q"]]:
    """Mean squared error of each cell over the masks that hide it, in units of the data's variance; and how busy what
    is visible around it is then, as a logarithm, on average too; not the cell itself: else a defect would excuse it.
    masks: of one image each, such as `complements` gives; all images get the same, so that none depends on its
    neighbours in a batch."""
    encoder, grid = model.encoder, model.encoder.grid
    units = grid.cut(encoder.normalize(x)).unflatten(2, (-1, encoder.channels))  # b n p c
    first, second = units.mean(dim=2), units.square().mean(dim=2)  # moments of each unit, b n c
    error = torch.zeros(len(x), grid.num_units, units.shape[2], device=x.device)
    texture, times = torch.zeros(2, len(x), grid.num_units, device=x.device)
    for single in masks:
        mask = Mask(*(side.to(x.device).expand(len(x), -1) for side in single))
        rebuilt = grid.cut(encoder.normalize(model.rebuild(x, mask))).unflatten(2, (-1, encoder.channels))
        wrong = take((rebuilt - units).square().mean(dim=3), mask.hidden)  # visible units were copied
        error.scatter_add_(1, mask.hidden[..., None].expand(wrong.shape), wrong)
        near = nearness(grid, single.visible[0]).to(x.device)
        mean, square = near @ take(first, mask.visible), near @ take(second, mask.visible)
        busy = ((square - mean.square()).clamp(min=0).mean(dim=2) + EPS).log()
        texture.scatter_add_(1, mask.hidden, busy.gather(1, mask.hidden))
        times.scatter_add_(1, mask.hidden, torch.ones_like(mask.hidden, dtype=times.dtype))
    whole = grid.join(error / times[..., None])
    side = grid.unit[0] // _fine(grid.unit[0]), grid.unit[1] // _fine(grid.unit[1])
    return avg_pool2d(whole, side)[:, 0], resized((texture / times).unflatten(1, grid.shape), cells(grid))


@torch.no_grad()
def features(encoder: Encoder, layers: Sequence[int], x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b p q d"]:
    """Features of each unit from the given blocks, concatenated, each averaged with the units around it (PatchCore)."""
    layers_out, maps = encoder.layers(x, 10**6), []  # all of them
    for number in layers:
        tokens = layers_out[number].units.float()
        fine = round((tokens.shape[1] / encoder.grid.num_units) ** 0.5)  # Hiera's early stages are finer than its units
        shape = [fine * n for n in encoder.grid.shape]
        maps.append(avg_pool2d(tokens.transpose(1, 2).unflatten(2, shape), 3, 1, 1, count_include_pad=False))
    largest = max((list(part.shape[-2:]) for part in maps), key=lambda size: size[0])
    maps = [m if list(m.shape[-2:]) == largest else interpolate(m, largest, mode="bilinear") for m in maps]
    return torch.cat(maps, dim=1).permute(0, 2, 3, 1)


def resized(maps: Float[Tensor, "b h w"], size: Sequence[int]) -> Float[Tensor, "b H W"]:
    """Enlarges a map bilinearly."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def blurred(x: Float[Tensor, "h w"], sigma: float) -> Float[Tensor, "h w"]:
    """Blurs with a Gaussian of `sigma` pixels, replicating values at the edges."""
    if not sigma:
        return x
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = pad(x[None, None], (radius, radius, radius, radius), mode="replicate")
    return conv2d(conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def _fine(unit: int) -> int:
    """Number of cells along a side of a unit: the largest divisor that leaves them at least `CELL` pixels."""
    return max(f for f in range(1, max(1, unit // CELL) + 1) if unit % f == 0)
