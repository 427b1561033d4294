"""`transfer --to segment` of clouds from end to end on small data: learning, resume, predictions, export; mistakes."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score
from support.cloudmaking import NAMES, TEXT, VOXELS, table, write_table, write_tables
from support.transferring import RIVALS, assert_goes_on_to_the_same, missing

import unmask
from unmask.data.annotations.legend import VOID
from unmask.data.codecs.points import read_exactly, read_points
from unmask.errors import UserError
from unmask.tasks.segmentation.points.figures import headline
from unmask.tasks.segmentation.points.metrics import cloud_overlap

TINY = {
    "model": "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)",
    "decoder": "full(dim=16, depth=1, heads=2)",
    "steps": 2,
    "batch": 4,
}
FAST = {"to": "segment", "device": "cpu", "precision": "32", "batch": 4, "lr": 3e-3, "head": "pointwise(channels=32)"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("clouds")


@pytest.fixture(scope="module")
def data(place):
    for split, first, count in (("train", 0, 8), ("val", 20, 2), ("test", 30, 3)):
        write_tables(place / "data", count, split, first)
    (place / "data" / "classes.json").write_text(json.dumps(NAMES))
    return place / "data"


@pytest.fixture(scope="module")
def run(place, data):
    return unmask.pretrain(data, out=place / "run", modality=TEXT, **TINY).path


@pytest.fixture(scope="module")
def done(run, data):
    return unmask.transfer(run, on=data, epochs=3, **FAST)


@pytest.mark.slow
def test_a_segmenter_of_clouds_is_trained_judged_and_kept(done, run):
    assert done.path == run / "segment"
    assert missing(done.path) == []
    test = done.metrics["test"]
    assert (test["count"], test["pixels"], test["main"], done.metrics["val"]["count"]) == (3, 240, "miou", 2)
    assert np.array(test["confusion"]).sum() == 240
    low, high = test["miou_interval"]
    assert low - 1e-6 <= test["miou"] <= high + 1e-6  # of all test clouds alike
    records = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    assert max(r["val_miou"] for r in records if "val_miou" in r) == pytest.approx(done.metrics["val"]["miou"])
    rows = list(csv.DictReader((done.path / "images_test.csv").open()))
    right = [float(row["pixel_accuracy"]) for row in rows]
    assert right == sorted(right)
    assert np.mean(right) == pytest.approx(test["pixel_accuracy"], abs=1e-5)  # all have as many points
    page = (done.path / "report.html").read_text()
    for words in ("segmented clouds", "confusion matrix of points", "mean over clouds", "CLOUDS"):
        assert words in page, words


@pytest.mark.slow
def test_an_interrupted_transfer_of_clouds_continues_to_the_same_weights_and_figures(done, run, data, place):
    assert_goes_on_to_the_same(done, 3, run, on=data, epochs=3, out=place / "again", **FAST)


@pytest.mark.slow
@pytest.mark.parametrize("text", [TEXT, VOXELS], ids=["groups", "voxels"])
def test_parts_are_learnt_and_predicted_for_the_points_of_each_file(text, data, place):
    kind = "voxels" if "voxels" in text else "groups"
    run = unmask.pretrain(data, out=place / kind / "run", modality=text, **TINY).path
    trained = unmask.transfer(run, on=data, out=place / kind / "learnt", epochs=40, **FAST)
    test = trained.metrics["test"]
    assert test["pixel_accuracy"] > 0.85, test  # two thirds are of one class
    assert test["miou"] > 0.65, test
    new = place / kind / "new"
    write_table(new / "a.ply", 50, 300, name="")  # more points than the model sees
    points, labels = table(51)
    far = points.astype(np.float64) / 3 + (4.5e5, 5.4e6, 100)
    far[4] = np.nan
    (new / "deep").mkdir()
    np.savetxt(new / "deep" / "a.xyz", far, fmt="%.9f")
    (new / "bad.ply").write_bytes((new / "a.ply").read_bytes()[:300])
    written = unmask.predict(trained.path, new, out=place / kind / "maps", device="cpu")
    assert written.names == ["a.ply", "deep/a.xyz"]
    stored = np.loadtxt(new / "deep" / "a.xyz")
    truths = (table(50, 300), (np.delete(stored, 4, axis=0), np.delete(labels, 4)))
    for path, (wanted, true) in zip(written.files, truths):
        cloud, coordinates = read_exactly(str(path))
        assert np.array_equal(coordinates, wanted.astype(np.float64))  # in their own order and coordinates
        assert (cloud.labels.numpy() == true).mean() > 0.75
        assert len(np.unique(cloud.features["colours"].numpy(), axis=0)) == 2
    rows = list(csv.DictReader((place / kind / "maps" / "shares.csv").open()))
    assert [row["path"] for row in rows] == written.names
    shares = np.array([[float(row[name]) for name in NAMES] for row in rows])
    np.testing.assert_allclose(shares, written.shares, atol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    with Image.open(place / kind / "maps" / "overlays" / "deep" / "a.gif") as moving:
        assert moving.n_frames == 36
    maps = trained.model.predict([new / "deep" / "a.xyz"]).maps
    assert maps[0][4] == VOID
    assert np.array_equal(np.delete(maps[0], 4), read_points(str(written.files[1])).labels.numpy())
    assert len(trained.model.predict(points[None]).maps[0]) == 80
    exported = unmask.export(trained.path, to="onnx", out=place / kind / "exported")
    assert any(exported.folder.rglob("*.onnx"))


@pytest.mark.slow
def test_the_label_curve_of_clouds_is_of_miou(run, data, place):
    options = {"to": "segment", "on": data, "out": place / "curve", "fractions": (0.5,), "draws": 1, "epochs": 1}
    curve = unmask.labels(run, **options, device="cpu", precision="32", head="pointwise(channels=16)")
    content = json.loads((place / "curve" / "labels.json").read_text())
    assert (content["unit"], content["score"]) == ("training clouds", "mIoU")
    half = {(p.protocol, p.competitor, p.per_class) for p in curve.points if p.size == "50 %"}
    assert half == {(*rival, 4) for rival in RIVALS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": "upernet"}, "not for points; there are: linear, pointwise"),
        ({"crop_size": 100}, "no whole number of units"),
        ({"side": 64}, "--side is not for clouds: clouds are brought into a sphere of radius 1"),
        ({"class_limit": 0.5}, "--class-limit is not for clouds: clouds are seen whole"),
        ({"distort": "on"}, "--distort on is for images"),
        ({"flip": "on"}, "a mirrored shape may be another one"),
    ],
)
def test_what_cannot_work_for_clouds_is_refused_with_the_reason(given, said, run, data, place):
    with pytest.raises(UserError, match=said):
        unmask.transfer(run, on=data, out=place / "wrong", **(FAST | given))
    assert not (place / "wrong").exists()


def test_iou_of_clouds_is_that_of_scikit_learn_and_void_points_do_not_count():
    chance = np.random.default_rng(0)
    pairs = [
        (chance.integers(0, 3, 50 + n).astype(np.uint8), chance.integers(0, 4, 50 + n).astype(np.uint8))
        for n in range(5)
    ]
    pairs[1][1][:20] = VOID
    result, rows = cloud_overlap(pairs, ["a", "b", "c", "d"])
    guess, truth = (np.concatenate(side) for side in zip(*pairs))
    judged = truth != VOID
    wanted = jaccard_score(truth[judged], guess[judged], average=None)
    assert [entry["iou"] for entry in result["per_class"]] == pytest.approx(wanted.tolist())
    assert result["miou"] == pytest.approx(wanted.mean())
    assert result["pixel_accuracy"] == pytest.approx((guess == truth)[judged].mean())
    for row, (answer, true) in zip(rows, pairs):
        known = true != VOID
        present = np.union1d(answer[known], true[known])
        own = jaccard_score(true[known], answer[known], labels=present, average=None)
        assert row["miou"] == pytest.approx(own.mean())
    assert result["cloud_miou"] == pytest.approx(np.mean([row["miou"] for row in rows]))
    for entry in result["per_class"]:
        low, high = entry["interval"]
        assert low <= entry["iou"] <= high
    low, high = result["miou_interval"]
    assert low < result["miou"] < high
    assert "5 test clouds" in headline(result, ["a", "b", "c", "d"])
    alone, _ = cloud_overlap(pairs[:1], ["a", "b", "c", "d"])
    assert alone["miou_interval"] is None
