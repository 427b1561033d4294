"""What a model sees of clouds of points: groups, voxels, turns; few points, equal points, damaged files."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from support.sampling import write_cloud

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import read_points
from unmask.data.modality import make_modality
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.data.transforms.kernels.cloud_view import Turns, drawn, group, in_sphere, rotation
from unmask.errors import UserError

CUBE = """v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1
f 1 2 3 4\nf 5 6 7 8\nf 1 2 6 5\nf 2 3 7 6\nf 3 4 8 7\nf 4 1 5 8\n"""


def cloud_of(count, seed=0, extra=0):
    values = np.random.default_rng(seed).standard_normal((count, 3 + extra)).astype(np.float32)
    return read_points(values if extra == 0 else np.concatenate([values[:, :3], np.abs(values[:, 3:])], axis=1))


def test_a_group_is_a_centre_and_its_nearest_neighbours():
    points = in_sphere(cloud_of(300).points)
    view = group(points, 12, 9)
    groups = view.T.unflatten(0, (12, 9)).numpy()
    tree = cKDTree(points.numpy())
    distances = np.linalg.norm(groups - groups[:, :1], axis=2)
    np.testing.assert_allclose(distances, tree.query(groups[:, 0], k=9)[0], atol=1e-6)
    assert (distances[:, 0] == 0).all()
    centres = groups[:, 0]
    for place in range(1, 12):  # each is the farthest from all before it
        from_centres = cKDTree(centres[:place]).query(points.numpy())[0]
        assert from_centres.max() == pytest.approx(cKDTree(centres[:place]).query(centres[place])[0], abs=1e-6)


def test_the_order_of_points_does_not_matter():
    modality, cloud = make_modality("points(points=200, neighbours=8, features=(), turn='z')"), cloud_of(500)
    shuffled = cloud.at(torch.randperm(500, generator=torch.Generator().manual_seed(3)))
    view, other = (modality.whole((64 * 8,))(part) for part in (cloud, shuffled))
    torch.testing.assert_close(view, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [2, 3, 20])
def test_of_too_few_points_some_are_taken_again(count):
    cloud = cloud_of(count)
    view = make_modality("points(points=64, neighbours=32)").whole((32 * 32,))(cloud)
    assert view.shape == (3, 1024)
    assert view.isfinite().all()
    given = {tuple(row) for row in in_sphere(drawn(cloud, 64, None)[0]).tolist()}
    assert {tuple(row) for row in view.T.tolist()} <= given
    assert len(given) == count


def test_equal_points_make_groups_of_equal_points():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0]]).repeat(50, 1)
    view = group(points, 8, 4).T.unflatten(0, (8, 4))
    assert ((view - view[:, :1]).abs().amax(dim=2) == 0).sum() >= 8
    assert view.isfinite().all()


def test_what_cannot_be_a_cloud_is_a_bad_file_with_its_reason():
    points = make_modality("points(points=16, neighbours=4, features=(), turn='z')")
    with pytest.raises(BadImage, match="lie in one place"):
        points.decode(np.ones((30, 3), np.float32))
    with pytest.raises(BadImage, match="two at least"):
        points.decode(np.array([[1.0, 2, 3]]))
    holed = np.random.default_rng(0).standard_normal((40, 3))
    holed[::2] = np.nan
    decoded = points.decode(holed)
    assert decoded.size == (20,)
    assert any("not finite" in note for note in decoded.notes)
    with pytest.raises(BadImage, match="two at least"):
        points.decode(np.full((40, 3), np.nan))
    with pytest.raises(BadImage, match="has no normals"):
        make_modality("points(features=('normals',))").decode(np.random.default_rng(0).random((40, 3)))


def test_meshes_are_sampled_on_their_surface(tmp_path):
    (tmp_path / "cube.obj").write_text(CUBE)
    modality = open_source(tmp_path, None).modality
    assert "turn='y'" in modality.text  # OBJ's upright axis
    cloud = modality.decode(str(tmp_path / "cube.obj")).content
    points = drawn(cloud, 500, torch.Generator().manual_seed(0))[0]
    on_a_side = (points.abs() < 1e-6) | ((points - 1).abs() < 1e-6)
    assert len(points) == 500
    assert on_a_side.any(dim=1).all()
    one, two = (modality.whole((2048,))(cloud) for _ in range(2))
    assert torch.equal(one, two)
    window = modality.window("random", (2048,), 1.0, False, "exact")
    other = [window(cloud, torch.Generator().manual_seed(n)) for n in (1, 1, 2)]
    assert torch.equal(other[0], other[1])
    assert not torch.equal(other[0], other[2])


def test_a_mesh_without_a_surface_is_its_corners(tmp_path):
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    decoded = make_modality("points(points=16, neighbours=4)").decode(str(tmp_path / "flat.obj"))
    assert decoded.content.faces is None
    assert any("corners only" in note for note in decoded.notes)


@pytest.mark.parametrize("about", ["x", "y", "z", "any", "off"])
def test_turns_are_rotations(about):
    turn = rotation(about, torch.Generator().manual_seed(5))
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(turn) == pytest.approx(1.0, abs=1e-5)
    if about in "xyz":
        kept = torch.eye(3)["xyz".index(about)]
        torch.testing.assert_close(turn @ kept, kept)
    assert torch.equal(turn, torch.eye(3)) == (about == "off")


def test_normals_stay_at_right_angles_to_the_surface():
    chance = torch.Generator().manual_seed(0)
    plane = torch.cat([torch.rand(50, 2, generator=chance), torch.zeros(50, 1)], dim=1)
    values = torch.cat([plane, torch.tensor([0.0, 0, 1]).expand(50, 3)], dim=1)
    turned = Turns("any", normals=3)(values, torch.Generator().manual_seed(1))
    flat = turned[:, :3] - turned[:1, :3]
    assert (flat * turned[:1, 3:]).sum(dim=1).abs().max() < 0.15  # jitter alone
    torch.testing.assert_close(turned[:, 3:].norm(dim=1), torch.ones(50))


def test_colours_and_normals_are_taken_where_all_have_them(tmp_path):
    for name, columns in (("a.xyz", 6), ("b.xyz", 6)):
        rows = np.random.default_rng(1).random((60, columns))
        rows[:, 3:] = (rows[:, 3:] * 255).round()
        np.savetxt(tmp_path / name, rows, header="x y z r g b", fmt="%.4f")
    source = open_source(tmp_path, None)
    assert "features=('colours',)" in source.modality.text
    sheet = inspect(source, max_side=None)[0]
    assert sheet.channels == 6
    assert (sheet.mean["6"][:3], sheet.std["6"][:3]) == ([0.0] * 3, [1.0] * 3)
    assert 0 < sheet.mean["6"][3] < 1
    np.savetxt(tmp_path / "c.xyz", np.random.default_rng(1).random((60, 3)), fmt="%.4f")
    assert "features=()" in open_source(tmp_path, None).modality.text


def test_voxels_hold_the_points_and_nothing_else():
    modality, cloud = make_modality("points(points=80, units='voxels', resolution=16)"), cloud_of(80)
    view = modality.whole((16, 16, 16))(cloud)
    places = ((in_sphere(cloud.points) + 1) / 2 * 16).long().clamp(max=15)
    assert view.sum() == len({tuple(place) for place in places.tolist()})
    assert (view[0, places[:, 0], places[:, 1], places[:, 2]] == 1).all()


def test_one_file_may_hold_many_clouds_and_the_names_of_classes(tmp_path):
    chance = np.random.default_rng(0)
    arrays = {
        f"{split}_points": chance.standard_normal((n, 50, 3)).astype(np.float16)
        for split, n in (("train", 6), ("test", 4))
    }
    labels = {"train_labels": np.arange(6) % 2, "test_labels": np.arange(4) % 2}
    np.savez(tmp_path / "clouds.npz", **arrays, **labels, classes=np.array(["cat", "cow"]))
    source = open_source(tmp_path / "clouds.npz", None)
    assert (source.modality.word, len(source.items)) == ("cloud", 10)
    assert [item.label for item in source.items[:3]] == ["cat", "cow", "cat"]
    assert {item.split for item in source.items} == {"train", "test"}
    assert source.modality.decode(source.raw(7)).size == (50,)
    with pytest.raises(UserError, match="recordings are wanted"):
        open_source(tmp_path / "clouds.npz", "audio")
    np.savez(tmp_path / "flat.npz", points=np.zeros((20, 3)))
    with pytest.raises(Exception, match="an array of 3 axes"):
        open_source(tmp_path / "flat.npz", None)


def test_options_that_cannot_be_are_refused(tmp_path):
    write_cloud(tmp_path / "one", 0, 0)
    sheet = inspect(open_source(tmp_path, None), max_side=None)[0]
    for text in ("points(units='cubes')", "points(turn='w')", "points(features=('colour',))"):
        with pytest.raises(UserError, match="points: "):
            make_modality(text)
    with pytest.raises(UserError, match=r"points\(neighbours=16\)"):
        make_modality("points").choices(sheet, 16, True)


@pytest.mark.slow
def test_pictures_show_a_cloud_and_turn(tmp_path):
    modality = make_modality("points(points=64, neighbours=8, features=(), turn='z')")
    view = modality.whole((128,))(read_points(str(write_cloud(tmp_path / "one", 0, 0))))
    shown = modality.drawn(view)
    assert shown.shape[0] == 3
    assert 0.02 < (shown.amin(dim=0) < 250).float().mean() < 0.9
    hidden = torch.arange(128) < 72
    fewer = modality.drawn(view.masked_fill(hidden, torch.nan))
    assert (fewer.amin(dim=0) < 250).sum() < (shown.amin(dim=0) < 250).sum()
    assert modality.distance(view, view, hidden) == "0.000 radii off"
    path = modality.animate(view, view, hidden, tmp_path / "turning")
    from PIL import Image

    with Image.open(path) as moving:
        assert (moving.n_frames, moving.size[0]) == (36, 3 * shown.shape[2])
