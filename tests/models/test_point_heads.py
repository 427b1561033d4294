"""Features that are read out at points, and the heads that classify them."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from support.cloudmaking import NAMES, TEXT, VOXELS, cloud_encoder, table

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.points import read_points
from unmask.data.modality import make_modality
from unmask.data.transforms.kernels.cloud_view import in_sphere
from unmask.data.transforms.labelled.points import whole_cloud
from unmask.errors import UserError
from unmask.models.layers.spread_points import spread_from_centres, spread_from_cubes
from unmask.models.segmenter import Segmenter
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.points.segmenter import CloudSegmenter

HEADS = ["pointwise(channels=16)", "linear"]


def segmenter(head="pointwise(channels=16)", voxels=False, **options):
    encoder = cloud_encoder(voxels, **options)
    torch.manual_seed(1)
    return CloudSegmenter(encoder, NAMES, [0, 1], head=head).eval()


def batch(voxels=False, count=4):
    modality = make_modality(VOXELS if voxels else TEXT)
    views = []
    for seed in range(count):
        points, labels = table(seed, 64)
        x, all_points = whole_cloud(modality.whole((16, 16, 16) if voxels else (128,)), read_points(points))
        views.append((x, torch.cat([all_points, torch.from_numpy(labels)[None].float()])))
    return {"views": [torch.stack(parts) for parts in zip(*views)]}


def test_features_between_centres_are_those_of_scipy():
    chance = np.random.default_rng(0)
    maps, centres, points = chance.normal(size=(2, 5, 9)), chance.normal(size=(2, 9, 3)), chance.normal(size=(2, 3, 40))
    points[:, :, 7] = centres[:, 4]  # a point on a centre has the centre's features
    both = [maps, 2 * maps[:, :2]]
    given = [torch.from_numpy(values).float() for values in both]
    spread = spread_from_centres(given, torch.from_numpy(centres).float(), torch.from_numpy(points).float())
    for sample in range(2):
        distances, index = cKDTree(centres[sample]).query(points[sample].T, k=3)
        weights = 1 / np.maximum(distances**2, 1e-8)
        weights /= weights.sum(axis=1, keepdims=True)
        for values, result in zip(both, spread):
            wanted = (values[sample][:, index] * weights).sum(axis=2)
            np.testing.assert_allclose(result[sample].numpy(), wanted, atol=2e-5)
    np.testing.assert_allclose(spread[0][:, :, 7].numpy(), maps[:, :, 4], atol=1e-4)


def test_with_fewer_than_three_centres_all_are_mixed():
    maps, centres = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 0, 0], [2.0, 0, 0]]])
    (middle,) = spread_from_centres([maps], centres, torch.tensor([[[1.0], [0.0], [0.0]]]))
    assert middle.item() == pytest.approx(2.0)


def test_points_have_the_features_of_the_cube_around_them():
    maps = torch.arange(2 * 3 * 4 * 5).float().view(1, 2, 3, 4, 5)
    points = torch.rand(1, 3, 200, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2  # some lie outside
    (spread,) = spread_from_cubes([maps], points)
    for place, point in enumerate(points[0].T.numpy()):
        cell = [int(np.clip((value + 1) / 2 * side, 0, side - 1)) for value, side in zip(point, (3, 4, 5))]
        assert torch.equal(spread[0, :, place], maps[0][:, cell[0], cell[1], cell[2]])


@pytest.mark.parametrize("protocol", ["full", "linear"])
@pytest.mark.parametrize("voxels", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_every_trained_parameter_gets_a_gradient_and_void_points_give_none(head, voxels, protocol):
    task = Segment(segmenter(head, voxels), protocol=protocol, dice=1.0, layer_decay=0.5).train()
    both = batch(voxels)
    loss = task(both)["loss"]
    loss.backward()
    assert loss.isfinite()
    parameters = [(name, p) for name, p in task.named_parameters() if p.requires_grad]
    assert [name for name, p in parameters if p.grad is None or not p.grad.any()] == []
    assert any("encoder" in name for name, _ in parameters) == (protocol == "full")
    with torch.autocast("cpu", torch.bfloat16):
        assert task(both)["loss"].isfinite()
    both["views"][1][:, -1] = VOID
    assert Segment(segmenter(head, voxels))(both)["loss"].item() == 0


@pytest.mark.parametrize("voxels", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_another_order_of_the_points_gives_the_same_classes_in_that_order(head, voxels):
    model, points = segmenter(head, voxels), table(3, 200)[0]
    order = np.random.default_rng(0).permutation(200)
    x, seen = (part[None] for part in whole_cloud(model.view, read_points(points)))
    with torch.no_grad():  # so that half of the points are of either class
        low, high = model(x, seen)[0]
        model.head.classify.bias[0] += (high - low).median()
    first, second = model.map_of(read_points(points)), model.map_of(read_points(points[order]))
    assert (first[order] == second).mean() > 0.99
    assert len(np.unique(first)) == 2


def test_a_class_does_not_depend_on_which_other_points_are_asked_for():
    model, (x, labelled) = segmenter(), batch(count=2)["views"]
    points = labelled[:, :-1]
    with torch.no_grad():
        whole, part = model(x, points), model(x, points[:, :, 10:30])
    torch.testing.assert_close(whole[:, :, 10:30], part, atol=1e-5, rtol=1e-5)


def test_all_points_of_a_large_cloud_have_a_class_and_those_that_are_none_are_void():
    points = np.random.default_rng(0).random((20000, 3))
    points[[3, 70]] = np.nan
    map_ = segmenter().map_of(read_points(points))
    assert map_.shape == (20000,)
    assert np.flatnonzero(map_ == VOID).tolist() == [3, 70]


@pytest.mark.parametrize("voxels", [False, True])
def test_an_exported_segmenter_says_the_class_of_each_place_that_it_is_given(voxels):
    model = segmenter(voxels=voxels)
    x, _ = batch(voxels, 2)["views"]
    with torch.no_grad():
        (logits,) = model.traced(x)
        if voxels:
            assert logits.shape == (2, 2, 16, 16, 16)
            middle = torch.tensor([[[3.5 / 16 * 2 - 1], [9.5 / 16 * 2 - 1], [0.5 / 16 * 2 - 1]]]).expand(2, 3, 1)
            torch.testing.assert_close(logits[:, :, 3, 9, 0], model(x, middle)[:, :, 0], atol=1e-5, rtol=1e-5)
        else:
            torch.testing.assert_close(logits, model(x, x))
            assert logits.shape == (2, 2, 128)


def test_heads_of_images_are_not_for_points():
    with pytest.raises(UserError, match="the head light is not for points; there are: linear, pointwise"):
        segmenter("light")
    with pytest.raises(UserError, match="did you mean 'channels'"):
        segmenter("pointwise(chanels=3)")
    with pytest.raises(UserError, match="the head pointwise is not for inputs of 3 axes"):
        Segmenter(cloud_encoder(voxels=True), NAMES, [0, 1], head="pointwise")


def test_the_view_of_training_and_of_testing_lie_in_the_same_sphere():
    cloud = read_points(table(0, 64)[0])
    _, points = whole_cloud(make_modality(TEXT).whole((128,)), cloud)
    torch.testing.assert_close(points.T, in_sphere(cloud.points))
