"""Centres, neighbours, Chamfer distance and sampled surfaces, against scipy and plain NumPy."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from unmask.data.transforms.kernels import points as kernels

GENERATOR = torch.Generator().manual_seed(0)
CLOUDS = torch.randn(3, 200, 3, generator=GENERATOR, dtype=torch.float64) + 1000


def plain_farthest(points, count, start):
    chosen = [start]
    while len(chosen) < count:
        distances = ((points[:, None] - points[chosen]) ** 2).sum(2).min(1)
        chosen.append(int(distances.argmax()))
    return chosen


def test_centres_are_those_of_a_plain_search():
    centres = kernels.farthest_points(CLOUDS, 20)
    for cloud, chosen in zip(CLOUDS.numpy(), centres.tolist()):
        start = ((cloud - cloud.mean(0)) ** 2).sum(1).argmax()
        assert chosen == plain_farthest(cloud, 20, start)
    starts = torch.tensor([5, 0, 199])
    given = kernels.farthest_points(CLOUDS, 9, starts)
    assert given.tolist() == [plain_farthest(cloud, 9, int(n)) for cloud, n in zip(CLOUDS.numpy(), starts)]


def test_centres_do_not_depend_on_the_order_of_the_points():
    order = torch.randperm(200, generator=GENERATOR)
    a = kernels.gather_points(CLOUDS, kernels.farthest_points(CLOUDS, 12))
    b = kernels.gather_points(CLOUDS[:, order], kernels.farthest_points(CLOUDS[:, order], 12))
    assert torch.equal(a, b)


def test_points_that_are_all_the_same_are_taken_again():
    assert kernels.farthest_points(torch.ones(1, 5, 3), 4).tolist() == [[0, 0, 0, 0]]
    for count in (0, 6):
        with pytest.raises(ValueError, match="of 5 points"):
            kernels.farthest_points(torch.ones(1, 5, 3), count)
        with pytest.raises(ValueError, match="among 5 points"):
            kernels.nearest_neighbours(torch.ones(1, 2, 3), torch.ones(1, 5, 3), count)


@pytest.mark.parametrize("pairs", [1 << 26, 1])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_neighbours_are_those_of_a_tree(monkeypatch, pairs, kind):
    monkeypatch.setattr(kernels, "PAIRS", pairs)
    clouds = CLOUDS.to(kind)
    queries = clouds[:, :17] + 0.1
    neighbours = kernels.nearest_neighbours(queries, clouds, 8)
    for cloud, query, indices in zip(clouds, queries, neighbours):
        distances, _ = cKDTree(cloud).query(query, 8)
        mine = torch.linalg.vector_norm(cloud[indices] - query[:, None], dim=2)
        np.testing.assert_allclose(mine, distances, rtol=1e-3 if kind == torch.float32 else 1e-9)


@pytest.mark.parametrize("squared", [True, False])
def test_chamfer_distance_is_that_of_two_trees(squared):
    first, second = CLOUDS[:, :50], CLOUDS[:, 50:130]
    power = 2 if squared else 1
    right = [
        (cKDTree(b).query(a)[0] ** power).mean() + (cKDTree(a).query(b)[0] ** power).mean()
        for a, b in zip(first.numpy(), second.numpy())
    ]
    np.testing.assert_allclose(kernels.chamfer_distance(first, second, squared), right)


@pytest.mark.parametrize("squared", [True, False])
def test_chamfer_distance_has_the_gradient_of_all_pairs(squared):
    first = CLOUDS[:2, :7].clone().requires_grad_()
    second = CLOUDS[:2, 7:12].clone().requires_grad_()
    mine = torch.autograd.grad(kernels.chamfer_distance(first, second, squared).sum(), [first, second])
    pairs = (first[:, :, None] - second[:, None]).square().sum(3)
    pairs = pairs if squared else pairs.sqrt()
    right = torch.autograd.grad((pairs.amin(2).mean(1) + pairs.amin(1).mean(1)).sum(), [first, second])
    for a, b in zip(mine, right):
        torch.testing.assert_close(a, b)
    same = CLOUDS[:1].clone().requires_grad_()
    kernels.chamfer_distance(same, CLOUDS[:1], squared).sum().backward()
    assert same.grad is not None
    assert same.grad.abs().sum() == 0


def test_a_surface_is_sampled_by_area():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 2, 5]])
    faces = torch.tensor([[0, 1, 2], [0, 0, 1], [3, 4, 5]])  # areas 0.5, 0, 3
    points, chosen, shares = kernels.sample_surface(vertices, faces, 7000, torch.Generator().manual_seed(1))
    again, _, _ = kernels.sample_surface(vertices, faces, 7000, torch.Generator().manual_seed(1))
    assert torch.equal(points, again)
    assert torch.bincount(chosen, minlength=3).tolist() == pytest.approx([1000, 0, 6000], abs=120)
    torch.testing.assert_close((vertices[faces[chosen]] * shares[..., None]).sum(1), points)
    large = points[chosen == 2]
    assert large[:, 2].unique().tolist() == [5]
    assert large[:, :2].mean(0).tolist() == pytest.approx([1, 2 / 3], abs=0.05)  # the triangle's centre
    assert shares.min() >= 0
    with pytest.raises(ValueError, match="no area"):
        kernels.sample_surface(vertices, faces[1:2], 5, torch.Generator())
