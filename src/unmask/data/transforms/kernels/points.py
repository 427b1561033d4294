"""Clouds of points: centres far from each other, nearest neighbours, Chamfer distance, points on the surface of a mesh.

All work on whole batches, on any device; b clouds of n points each.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Generator, Tensor

PAIRS = 1 << 26  # distances held at a time: 256 MiB


def gather_points(points: Shaped[Tensor, "b n c"], indices: Int64[Tensor, "b *m"]) -> Shaped[Tensor, "b *m c"]:
    """The points, or their features, at `indices` of each cloud."""
    flat = indices.flatten(1)
    picked = points.gather(1, flat[..., None].expand(-1, -1, points.shape[2]))
    return picked.reshape(*indices.shape, points.shape[2])


@torch.no_grad()
def farthest_points(
    points: Float[Tensor, "b n 3"], count: int, start: Int64[Tensor, "b"] | None = None
) -> Int64[Tensor, "b m"]:
    """Farthest point sampling: indices of `count` points, each the farthest from all before it, of equal ones the first
    (Eldar et al. 1997). start: the first point; None: the one farthest from the mean of its cloud, so that the order
    of the points does not matter. With more centres than different points, some are taken again.
    """
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"{count} centres of {points.shape[1]} points")
    if start is None:
        start = (points - points.mean(1, keepdim=True)).square().sum(2).argmax(1)
    if points.device.type == "cpu":
        pairs = zip(points.detach().numpy(), start.tolist())
        return torch.from_numpy(np.stack([_farthest_of_one(cloud, count, first) for cloud, first in pairs]))
    chosen = torch.empty(points.shape[0], count, dtype=torch.long, device=points.device)
    nearest = torch.full(points.shape[:2], torch.inf, dtype=points.dtype, device=points.device)  # squared, to a centre
    last = start
    for n in range(count):
        chosen[:, n] = last
        centre = gather_points(points, last[:, None])
        nearest = torch.minimum(nearest, (points - centre).square().sum(2))
        last = nearest.argmax(1)
    return chosen


def _farthest_of_one(points: np.ndarray, count: int, start: int) -> np.ndarray:
    """The same of one cloud, n 3, by NumPy, whose calls take a tenth of the time for so few points."""
    x, y, z = np.ascontiguousarray(points.T)
    chosen, nearest = np.empty(count, np.int64), np.full(len(points), np.inf, points.dtype)
    for place in range(count):
        chosen[place] = start
        across, along, above = x - x[start], y - y[start], z - z[start]
        np.minimum(nearest, across * across + along * along + above * above, out=nearest)
        start = int(nearest.argmax())
    return chosen


@torch.no_grad()
def nearest_neighbours(
    queries: Float[Tensor, "b m 3"], points: Float[Tensor, "b n 3"], count: int
) -> Int64[Tensor, "b m k"]:
    """Indices of the `count` points nearest to each query, from the nearest on."""
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"{count} neighbours among {points.shape[1]} points")
    step = max(1, PAIRS // max(1, points.shape[0] * points.shape[1]))
    parts = [
        _distances(queries[:, first : first + step], points).topk(count, dim=2, largest=False, sorted=True).indices
        for first in range(0, queries.shape[1], step)
    ]
    return torch.cat(parts, 1)


def chamfer_distance(
    first: Float[Tensor, "b n 3"], second: Float[Tensor, "b m 3"], squared: bool = True
) -> Float[Tensor, "b"]:
    """Mean distance of each point to the nearest of the other cloud, there plus back; squared is Point-MAE's CD-L2.

    The gradient goes to both clouds, through the nearest points as they are now. Fan et al. 2017.
    """
    total = torch.zeros(first.shape[0], dtype=first.dtype, device=first.device)
    for own, other in ((first, second), (second, first)):
        matches = gather_points(other, nearest_neighbours(own.detach(), other.detach(), 1)[..., 0])
        distances = (own - matches).square().sum(2)
        if not squared:
            distances = torch.where(distances > 0, distances, 1.0).sqrt() * (distances > 0)  # 0 has no gradient of NaN
        total = total + distances.mean(1)
    return total


def sample_surface(
    vertices: Float[Tensor, "n 3"], faces: Int64[Tensor, "m 3"], count: int, generator: Generator
) -> tuple[Float[Tensor, "k 3"], Int64[Tensor, "k"], Float[Tensor, "k 3"]]:
    """Points spread evenly over the surface of triangles: the points, the face of each, and how much of each of its
    corners is in it. Raises ValueError where the surface has no area."""
    corners = vertices.double()[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ends = torch.linalg.vector_norm(normals, dim=1).cumsum(0)  # torch.multinomial takes at most 2^24 faces
    if not len(faces) or not ends[-1] > 0:
        raise ValueError("the faces have no area")
    chance = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(ends, chance[:, 0] * ends[-1], right=True).clamp(max=len(faces) - 1)
    root = chance[:, 1].sqrt()
    shares = torch.stack([1 - root, root * (1 - chance[:, 2]), root * chance[:, 2]], 1)  # Osada et al. 2002
    points = (corners[chosen] * shares[..., None]).sum(1)
    return points.to(vertices.dtype), chosen, shares.to(vertices.dtype)


def _distances(queries: Tensor, points: Tensor) -> Tensor:
    """b m n; by differences, since the usual trick with products is wrong for clouds far from 0."""
    return torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
