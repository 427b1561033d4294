"""Features of units read out at points: of groups, between the centres that are nearest; of cubes, of the one around.

Qi et al. 2017 (PointNet++), https://arxiv.org/abs/1706.02413, section 3.4.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

NEAREST, LEAST = 3, 1e-8  # centres that are mixed; squared distance below which a point lies on its centre


def spread_from_centres(
    maps: Sequence[Float[Tensor, "b _ g"]], centres: Float[Tensor, "b g 3"], points: Float[Tensor, "b 3 n"]
) -> list[Float[Tensor, "b _ n"]]:
    """Each map at the points: the mean of the three nearest centres, weighted by the inverse of the squared
    distance."""
    differences = points.transpose(1, 2).float()[:, :, None] - centres.float()[:, None]
    squared = differences.square().sum(dim=3)  # b n g; as sums of products, it would be wrong for close points
    nearest, index = squared.topk(min(NEAREST, centres.shape[1]), dim=2, largest=False)
    weights = 1 / nearest.clamp(min=LEAST)
    weights = weights / weights.sum(dim=2, keepdim=True)
    parts = [(index[:, :, k], weights[:, None, :, k]) for k in range(index.shape[2])]
    return [torch.stack([picked(map_, at) * weight for at, weight in parts]).sum(dim=0) for map_ in maps]


def spread_from_cubes(
    maps: Sequence[Float[Tensor, "b _ *grid"]], points: Float[Tensor, "b 3 n"]
) -> list[Float[Tensor, "b _ n"]]:
    """Each map at the points, of the cube of voxels around each; of points outside of -1..1, the nearest cube."""
    sides = torch.tensor(maps[0].shape[2:], device=points.device)
    place = ((points.float() + 1) / 2 * sides[:, None]).long().clamp(min=0).minimum(sides[:, None] - 1)
    index = (place[:, 0] * sides[1] + place[:, 1]) * sides[2] + place[:, 2]
    return [picked(map_.flatten(2), index) for map_ in maps]


def picked(values: Float[Tensor, "b d g"], index: Int64[Tensor, "b n"]) -> Float[Tensor, "b d n"]:
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))
