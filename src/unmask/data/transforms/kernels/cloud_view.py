"""What a model sees of a cloud of points: so many points, in a sphere of radius 1, in groups around centres far from
each other, as Point-MAE does (Pang et al. 2022, https://arxiv.org/abs/2203.06604); or which voxels of a cube they lie
in (Min et al. 2022, Occupancy-MAE, https://arxiv.org/abs/2206.09900).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from unmask.data.codecs.points import PointCloud, points_on_surface
from unmask.data.transforms.kernels.points import farthest_points, gather_points, nearest_neighbours

WIDER = 4  # times as many points as are drawn, among which those far from each other are looked for
STRETCH = (0.8, 1.25)  # of each axis
JITTER, MOST_JITTER = 0.01, 0.05  # of the radius: deviation, and the most
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Turns:
    """How clouds are changed at random: turned about an axis ("x", "y", "z"), any way ("any") or not ("off"), stretched
    along each axis and jittered."""

    about: str
    normals: int | None = None  # the first channel of normals, where there are such

    def __call__(self, values: Float[Tensor, "n c"], generator: Generator) -> Float[Tensor, "n c"]:
        """values: x y z of a cloud in the sphere of radius 1, then other features."""
        turn = rotation(self.about, generator)
        low, high = STRETCH
        stretch = low + (high - low) * torch.rand(3, generator=generator)
        jitter = (JITTER * torch.randn(len(values), 3, generator=generator)).clamp(-MOST_JITTER, MOST_JITTER)
        parts = [values[:, :3] @ turn.T * stretch + jitter, values[:, 3:]]
        if self.normals is not None:
            first = self.normals - 3
            normals = torch.nn.functional.normalize(parts[1][:, first : first + 3] @ turn.T / stretch, dim=1)
            parts[1] = torch.cat([parts[1][:, :first], normals, parts[1][:, first + 3 :]], dim=1)
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Groups:
    """Points in groups: `neighbours` points each, from the centre outwards, the groups in the order in which their
    centres were found, each the farthest from all before it. Groups overlap, so some points occur several times and
    some not at all."""

    size: tuple[int, ...]  # points in all groups together
    count: int  # points that are drawn of a cloud
    neighbours: int
    share: float = 1.0  # the least of a cloud that a random part covers
    turns: Turns | None = None  # None: without chance

    def __call__(self, sample: PointCloud, generator: Generator | None = None) -> Float[Tensor, "c n"]:
        """The same cloud and generator state give the same view."""
        return self.of(seen(sample, self.count, self.share, self.turns, generator)[0])

    def of(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "c m"]:
        """The view of points that lie in the sphere already."""
        return group(values, self.size[0] // self.neighbours, self.neighbours)


@dataclass(frozen=True)
class Voxels:
    """1 where a voxel of a cube holds a point, else 0. The cube holds the sphere of radius 1."""

    size: tuple[int, ...]
    count: int
    share: float = 1.0
    turns: Turns | None = None

    def __call__(self, sample: PointCloud, generator: Generator | None = None) -> Float[Tensor, "1 d h w"]:
        """The same cloud and generator state give the same view."""
        return self.of(seen(sample, self.count, self.share, self.turns, generator)[0])

    def of(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "1 d h w"]:
        """The view of points that lie in the sphere already."""
        sides = torch.tensor(self.size)
        place = ((values[:, :3] + 1) / 2 * sides).long().clamp(min=0).minimum(sides - 1)
        view = torch.zeros(1, *self.size)
        view[0, place[:, 0], place[:, 1], place[:, 2]] = 1.0
        return view


def seen(
    cloud: PointCloud, count: int, share: float, turns: Turns | None, generator: Generator | None
) -> tuple[Float[Tensor, "n c"], Int64[Tensor, "n"] | None]:
    """So many points with their features, and their labels; in the sphere of radius 1, changed by chance where that is
    wanted and a generator is given."""
    if turns is None or generator is None:
        values, labels = drawn(cloud, count, None)
        return in_sphere(values), labels
    values, labels = drawn(part_of(cloud, share, generator), count, generator)
    return turns(in_sphere(values), generator), labels


def drawn(
    cloud: PointCloud, count: int, generator: Generator | None
) -> tuple[Float[Tensor, "n c"], Int64[Tensor, "n"] | None]:
    """`count` points of a cloud: of a mesh, on its surface; of others, at random, or, without a generator, far from
    each other, so that neither chance nor the order of up to four times as many decides. Of too few points, some are
    taken several times."""
    chance = generator or Generator().manual_seed(0)
    if cloud.faces is not None:
        cloud = points_on_surface(cloud, count, chance)
    values, have = values_of(cloud), len(cloud.points)
    if have == count:
        return values, cloud.labels
    if have < count:
        chosen = torch.cat([torch.arange(have)] * (count // have) + [torch.randperm(have, generator=chance)])[:count]
    elif generator is not None:
        chosen = torch.randperm(have, generator=generator)[:count]
    else:
        chosen = torch.arange(have) if have <= WIDER * count else torch.randperm(have, generator=chance)
        chosen = chosen[: WIDER * count]
        chosen = chosen[farthest_points(in_sphere(values[chosen])[None, :, :3], count)[0]]
    return values[chosen], None if cloud.labels is None else cloud.labels[chosen]


def part_of(cloud: PointCloud, share: float, generator: Generator) -> PointCloud:
    """The points nearest to a random one, from `share` to all of them; of a mesh, all."""
    if share >= 1 or cloud.faces is not None:
        return cloud
    some = share + (1 - share) * torch.rand(1, generator=generator).item()
    centre = cloud.points[torch.randint(len(cloud.points), (1,), generator=generator)]
    count = max(2, math.ceil(some * len(cloud.points)))
    return cloud.at((cloud.points - centre).square().sum(1).topk(count, largest=False).indices.sort().values)


def values_of(cloud: PointCloud) -> Float[Tensor, "n c"]:
    """x y z, then the features."""
    return torch.cat([cloud.points, *cloud.features.values()], dim=1)


def in_sphere(values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Moved so that the mean is 0, and scaled so that the farthest point has distance 1."""
    return placed_like(values, values)


def placed_like(values: Float[Tensor, "n c"], seen: Float[Tensor, "m c"]) -> Float[Tensor, "n c"]:
    """Moved and scaled as brings other points, `seen`, into the sphere."""
    points = seen[:, :3].double()
    mean = points.mean(dim=0)
    radius = (points - mean).square().sum(dim=1).amax().sqrt().clamp(min=1e-12)
    return torch.cat([((values[:, :3].double() - mean) / radius).float(), values[:, 3:]], dim=1)


def group(values: Float[Tensor, "n c"], groups: int, neighbours: int) -> Float[Tensor, "c m"]:
    """The points of `groups` groups of `neighbours`, one group after the other. Of fewer points than that, some are
    taken several times."""
    short = max(groups, neighbours) - len(values)
    if short > 0:
        values = torch.cat([values] * (1 + -(-short // len(values))))
    points = values[None, :, :3]
    centres = gather_points(points, farthest_points(points, groups))
    return gather_points(values[None], nearest_neighbours(centres, points, neighbours))[0].flatten(0, 1).T.contiguous()


def rotation(about: str, generator: Generator) -> Float[Tensor, "3 3"]:
    """A random rotation about an axis, about any (evenly over all rotations), or none."""
    if about == "off":
        return torch.eye(3)
    if about == "any":
        q = torch.nn.functional.normalize(torch.randn(4, generator=generator), dim=0)  # Shoemake 1992
        w, x, y, z = q.tolist()
        return torch.tensor([
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
    angle = 2 * math.pi * torch.rand(1, generator=generator).item()
    first, second = (axis for axis in range(3) if axis != AXES[about])
    turn = torch.eye(3)
    turn[first, first] = turn[second, second] = math.cos(angle)
    turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
    return turn
