"""Clouds with a class for every point: where labels are found, which do not fit, that they stay with their points."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cloudmaking import NAMES, TEXT, VOXELS, table, write_table, write_tables

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.clouds.ply import write_ply
from unmask.data.codecs.points import read_exactly, read_points
from unmask.data.datasets.clouds import SegmentedClouds
from unmask.data.modality import make_modality
from unmask.data.source import open_source
from unmask.data.transforms.labelled.points import PointsView, whole_cloud
from unmask.errors import DataError, UserError


def opened(*places, text=TEXT, **options):
    said = []
    data = SegmentedClouds(tuple(map(str, places)), modality=make_modality(text), say=said.append, **options)
    return data, "\n".join(said)


def truth_of(data, name):
    place = [scene.name for _, scene in data.scenes].index(name)
    return data.map(place)


@pytest.mark.parametrize("name", ["label", "scalar_Label", "class", "part", "segmentation"])
def test_labels_are_a_property_of_the_points_of_each_file(name, tmp_path):
    for split, first, count in (("train", 0, 3), ("val", 10, 1), ("test", 20, 2)):
        write_tables(tmp_path, count, split, first, name=name)
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    data, said = opened(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert (data.classes, data.numbers) == (NAMES, [0, 1])
    assert f"6 clouds: labelled by '{name.lower()}' in their own files" in said
    cloud, truth = data.segments("test", 3).whole(1)
    points, labels = table(21)
    assert np.array_equal(cloud.points.numpy(), points)
    assert np.array_equal(truth, labels)


@pytest.mark.parametrize(
    ("clouds", "labels", "ending"),
    [("clouds", "labels", ".npy"), ("cat/points", "cat/points_label", ".seg"), ("", "", ".seg"),
     ("train", "train/labels", ".txt"), ("points/train", "labels/train", ".labels")],
)  # fmt: skip
def test_labels_are_files_of_the_clouds_names(clouds, labels, ending, tmp_path):
    for number in range(5):
        points, numbers = table(number)
        (tmp_path / clouds).mkdir(parents=True, exist_ok=True)
        np.savetxt(tmp_path / clouds / f"c{number}.pts", points, fmt="%.7g")
        place = tmp_path / labels / f"c{number}{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, numbers) if ending == ".npy" else np.savetxt(place, numbers + 1, fmt="%d")
    data, said = opened(tmp_path)
    assert "labels of 5 clouds are files of their names" in said
    assert data.numbers == ([0, 1] if ending == ".npy" else [1, 2])
    name = next(scene.name for _, scene in data.scenes if scene.name.endswith("c3.pts"))
    assert np.array_equal(truth_of(data, name), table(3)[1])
    source = open_source(tmp_path, None)
    assert (source.modality.text.split("(")[0], len(source.items)) == ("points", 5)  # to pretrain on the same folder


def test_one_file_holds_many_clouds_their_labels_and_the_names_of_the_parts(tmp_path):
    arrays = {"parts": np.array(["surface", "support"])}
    for split, numbers in (("train", range(4)), ("test", range(10, 13))):
        made = [table(number) for number in numbers]
        arrays[f"{split}_points"] = np.stack([points for points, _ in made])
        arrays[f"{split}_point_labels"] = np.stack([labels for _, labels in made])
    np.savez(tmp_path / "tables.npz", **arrays)
    data, _ = opened(tmp_path / "tables.npz")
    assert data.classes == ["surface", "support"]
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 4, "val": 0, "test": 3}
    for row, number in enumerate(range(10, 13)):
        assert np.array_equal(data.segments("test", 3).whole(row)[1], table(number)[1])
    np.savez(tmp_path / "short.npz", **(arrays | {"train_point_labels": arrays["train_point_labels"][:3]}))
    with pytest.raises(DataError, match="train_point_labels has 3 entries, train_points has 4"):
        opened(tmp_path / "short.npz")
    np.savez(tmp_path / "bare.npz", **{name: array for name, array in arrays.items() if "labels" not in name})
    with pytest.raises(DataError, match=r"(?s)7 of 7 clouds and labels of .*has no label for its points.*point_labels"):
        opened(tmp_path / "bare.npz")


def test_the_classification_of_las_files_is_their_label(tmp_path):
    laspy = pytest.importorskip("laspy")
    for number in range(4):
        points, labels = table(number)
        file = laspy.create(file_version="1.4", point_format=6)
        file.x, file.y, file.z = points.T
        file.classification = np.where(labels == 1, 6, 2)
        file.write(str(tmp_path / f"{number}.las"))
    data, said = opened(tmp_path)
    assert data.numbers == [2, 6]
    assert "labelled by 'classification'" in said
    assert np.array_equal(truth_of(data, "2.las"), table(2)[1])


def test_numbers_below_0_and_255_are_no_class_and_points_that_are_not_finite_have_none(tmp_path):
    write_tables(tmp_path, 4)
    points, labels = table(1)
    labels[:5], labels[5:8] = -1, VOID
    points[9] = np.nan
    columns = {axis: points[:, n] for n, axis in enumerate("xyz")}
    write_ply(tmp_path / "001.ply", columns | {"label": labels.astype(np.int32)})
    data, said = opened(tmp_path)
    wanted = labels.copy()
    wanted[[*range(8), 9]] = VOID
    assert np.array_equal(truth_of(data, "001.ply"), wanted)
    assert "255 is void, neither learnt nor judged" in said
    split = next(s for s, rows in data.splits.items() if 1 in rows)
    content = data.segments(split, 3).image(data.splits[split].index(1))
    assert len(content.points) == 79
    assert np.array_equal(content.labels.numpy(), np.delete(wanted, 9))


def test_labels_that_do_not_fit_are_named_with_the_reason_and_the_others_are_used(tmp_path):
    write_tables(tmp_path / "clouds", 9, name="")
    labels = tmp_path / "labels"
    labels.mkdir()
    for number in range(9):
        np.savetxt(labels / f"{number:03d}.txt", table(number)[1], fmt="%d")
    np.savetxt(labels / "000.txt", table(0)[1][:-3], fmt="%d")
    np.savetxt(labels / "001.txt", table(1)[1] + 0.5, fmt="%.1f")
    np.savetxt(labels / "002.txt", np.zeros((80, 2)), fmt="%d")
    (labels / "003.txt").unlink()
    (labels / "004.txt").write_text("top\nleg\n")
    np.savetxt(labels / "other.txt", table(1)[1], fmt="%d")
    data, said = opened(tmp_path, max_bad=0.9)
    for line in ("clouds/000.ply: its labels are 77 numbers, it has 80 points", "clouds/001.ply: its labels are no ",
                 "clouds/002.ply: its labels are 80 x 2 of float64, not one whole number for each",
                 "clouds/003.ply: has no label for its points", "clouds/004.ply: its labels are no lines of one whole",
                 "labels/other.txt: holds labels of no cloud here"):  # fmt: skip
        assert line in said, line
    assert sum(map(len, data.splits.values())) == 4
    with pytest.raises(DataError, match="6 of 10 clouds and labels of"):
        opened(tmp_path, max_bad=0.1)


def test_what_cannot_be_learnt_from_is_refused_in_words(tmp_path):
    write_tables(tmp_path / "none", 4, name="")
    with pytest.raises(DataError, match=r"(?s)4 of 4 clouds and labels of .*none cannot be used.*neither a property"):
        opened(tmp_path / "none")
    write_tables(tmp_path / "one", 4, labels=np.full(80, 3))
    with pytest.raises(DataError, match=r"two classes or more can be told apart; the labels of .* have 3 alone"):
        opened(tmp_path / "one")
    points, labels = table(0)
    columns = {axis: points[:, n] for n, axis in enumerate("xyz")} | {"label": labels + np.float32(0.25)}
    (tmp_path / "real").mkdir()
    for number in range(4):
        write_ply(tmp_path / "real" / f"{number}.ply", columns)
    with pytest.raises(DataError, match=r"(?s)its labels \(label\) are no whole numbers"):
        opened(tmp_path / "real")
    with pytest.raises(UserError, match="does not exist"):
        opened(tmp_path / "nowhere")


def test_labels_of_faces_are_refused_and_those_of_corners_are_carried_to_the_surface(tmp_path):
    corners = np.random.default_rng(0).random((12, 3)).astype(np.float32)
    faces = np.array([[n, (n + 1) % 12, (n + 5) % 12] for n in range(12)] + [[0, 3, 7]])
    labels = (corners[:, 0] > 0.5).astype(np.int32)
    columns = {axis: corners[:, n] for n, axis in enumerate("xyz")}
    for number in range(4):
        write_ply(tmp_path / f"{number}.ply", columns | {"label": labels}, faces)
    data, _ = opened(tmp_path)
    assert np.array_equal(data.segments("train", 3).whole(0)[1], labels)
    drawn = PointsView(data.modality.window("random", (128,), 1.0, False, "exact"))
    _, labelled = drawn(data.segments("train", 3).image(0), torch.Generator().manual_seed(0))
    assert labelled.shape == (4, 64)
    assert set(labelled[-1].unique().tolist()) == {0.0, 1.0}
    (tmp_path / "labels").mkdir()
    for number in range(4):
        np.savetxt(tmp_path / "labels" / f"{number}.seg", np.zeros(len(faces)), fmt="%d")
    with pytest.raises(DataError, match="13 numbers, it has 12 points: labels of the faces of a mesh are not read"):
        opened(tmp_path)


@pytest.mark.parametrize("text", [TEXT, VOXELS, TEXT.replace("'z'", "'any'")])
def test_labels_follow_their_points_through_turns_stretches_and_jitter(text, tmp_path):
    write_table(tmp_path / "0.ply", 0, 200, labels=np.arange(200))
    write_tables(tmp_path, 2, first=1)
    data, _ = opened(tmp_path, text=text)
    split = next(s for s, rows in data.splits.items() if 0 in rows)
    size = (16, 16, 16) if "voxels" in text else (128,)
    view = PointsView(data.modality.window("random", size, 1.0, False, "exact"))
    cloud = data.segments(split, 1 if "voxels" in text else 3).image(data.splits[split].index(0))
    for seed in range(5):
        x, labelled = view(cloud, torch.Generator().manual_seed(seed))
        again = view(cloud, torch.Generator().manual_seed(seed))
        assert torch.equal(labelled, again[1])
        assert tuple(x.shape[1:]) == size
        chosen = labelled[-1].long()  # each point of the cloud is a class of its own
        assert len(chosen.unique()) == 64
        ones = torch.cat([cloud.points[chosen], torch.ones(64, 1)], dim=1)  # but for jitter, what is done is linear
        residual = ones @ torch.linalg.lstsq(ones, labelled[:3].T).solution - labelled[:3].T
        assert residual.abs().max() < 0.06


@given(st.integers(2, 400), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_all_points_of_a_file_are_asked_for_where_the_model_sees_its_view(count, seed):
    """What is drawn of a cloud lies among all of its points, moved and scaled alike."""
    cloud = read_points(np.random.default_rng(seed).standard_normal((count, 3)) * 7 + 3)
    x, points = whole_cloud(make_modality(TEXT).whole((128,)), cloud)
    assert points.shape == (3, count)
    nearest = (x.T[:, None] - points.T).norm(dim=2).amin(dim=1)
    assert nearest.max() < 1e-5
    step = (points[:, 1:] - points[:, :1]).norm(dim=0) / (cloud.points[1:] - cloud.points[:1]).norm(dim=1)
    assert (step / step[0] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_written_ply_is_read_back_to_the_bit(kind, tmp_path):
    points = (np.random.default_rng(0).random((50, 3)) * 1e3 + 5e5).astype(kind)
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    columns = {axis: points[:, n] for n, axis in enumerate("xyz")}
    write_ply(tmp_path / "a.ply", columns | {"label": np.arange(50, dtype=np.uint8)}, faces)
    cloud, coordinates = read_exactly(str(tmp_path / "a.ply"))
    assert np.array_equal(coordinates, points.astype(np.float64))
    assert np.array_equal(cloud.labels.numpy(), np.arange(50))
    assert np.array_equal(cloud.faces.numpy(), faces)
    with open(tmp_path / "a.ply", "rb") as file:
        assert (b"property double x" if kind is np.float64 else b"property float x") in file.read(400)


def test_points_know_their_rows_of_the_file(tmp_path):
    values = np.random.default_rng(0).random((40000, 3))
    values[::4] = np.nan
    cloud = read_points(values)
    assert (cloud.stored, len(cloud.points)) == (40000, 30000)
    assert np.array_equal(cloud.of_file.numpy(), np.flatnonzero(np.arange(40000) % 4))
    some = cloud.at(torch.tensor([5, 2]))
    assert some.of_file.tolist() == [cloud.of_file[5].item(), cloud.of_file[2].item()]
    assert some.stored == 40000
    kept = make_modality(TEXT).decode(np.random.default_rng(0).random((40000, 3))).content
    assert (len(kept.points), kept.stored) == (1 << 15, 40000)


def test_labels_may_lie_apart_and_in_several_places(tmp_path):
    write_tables(tmp_path / "a", 3, name="")
    for number in range(3):
        (tmp_path / "truth").mkdir(exist_ok=True)
        np.save(tmp_path / "truth" / f"{number:03d}.npy", table(number)[1])
    apart, said = opened(tmp_path / "truth", images=tmp_path / "a")
    assert "labels of 3 clouds are files of their names" in said
    assert np.array_equal(truth_of(apart, "001.ply"), table(1)[1])
    write_tables(tmp_path / "b", 3, first=5)
    write_tables(tmp_path / "c", 3, first=9)
    both, _ = opened(tmp_path / "b", tmp_path / "c")
    assert np.array_equal(truth_of(both, "c/010.ply"), table(10)[1])
    name = both.source.items[4].name
    assert name.endswith("010.ply")
    assert np.array_equal(read_points(both.source.raw(4)).points.numpy(), table(10)[0])


def test_two_files_of_labels_for_one_cloud_are_a_question(tmp_path):
    write_tables(tmp_path / "clouds", 3)
    (tmp_path / "labels").mkdir()
    for name in ("labels/000.seg", "labels/000.txt"):
        np.savetxt(tmp_path / name, table(0)[1], fmt="%d")
    with pytest.raises(DataError, match="are labels of one cloud: keep the file that is meant"):
        opened(tmp_path)
    (tmp_path / "labels" / "000.txt").unlink()
    data, said = opened(tmp_path)  # one has a file, the others their own property
    assert "labels of 1 cloud are files" in said
    assert "2 clouds: labelled by 'label'" in said
    assert data.numbers == [0, 1]
