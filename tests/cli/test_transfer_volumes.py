"""`transfer --to segment` of volumes from end to end on small data: learning, resume, predictions; and its parts."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.spatial.distance import dice as dissimilarity
from support.transferring import RIVALS, assert_goes_on_to_the_same, missing
from support.volumemaking import AFFINE, TURNED, turned, volume, volume_encoder, write_labelled, write_volume

import unmask
from unmask.data.annotations.legend import VOID
from unmask.errors import UserError
from unmask.models.segmenter import Segmenter
from unmask.tasks.segmentation.objective import Segment, dice_loss
from unmask.tasks.segmentation.volumes.figures import headline
from unmask.tasks.segmentation.volumes.metrics import dice_of, volume_overlap
from unmask.tasks.segmentation.volumes.predict import place_of
from unmask.tasks.segmentation.volumes.segmenter import VolumeSegmenter

NAMES = ["ground", "ball", "box"]
TINY = {
    "model": "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)",
    "image_size": (12, 16, 12),
    "patch_size": 4,
}
FAST = {"to": "segment", "device": "cpu", "precision": "32", "batch": 2, "lr": 3e-3, "head": "unetr(channels=16)"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("volumes")


@pytest.fixture(scope="module")
def data(place):
    for split, first, count in (("train", 0, 4), ("val", 20, 2), ("test", 30, 3)):
        write_labelled(place / "data", count, split, first)
    (place / "data" / "classes.json").write_text(json.dumps(NAMES))
    return place / "data"


@pytest.fixture(scope="module")
def run(place, data):
    return unmask.pretrain(
        data / "images", out=place / "run", steps=2, batch=4, decoder="full(dim=16, depth=1, heads=2)", **TINY
    ).path


@pytest.fixture(scope="module")
def done(run, data):
    return unmask.transfer(run, on=data, epochs=4, **FAST)


@pytest.mark.slow
def test_a_segmenter_of_volumes_is_trained_judged_and_kept(done, run):
    assert done.path == run / "segment"
    assert missing(done.path) == []
    test = done.metrics["test"]
    assert (test["count"], done.metrics["val"]["count"], test["main"], test["background"]) == (3, 2, "dice", "ground")
    records = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    assert max(r["val_dice"] for r in records if "val_dice" in r) == pytest.approx(done.metrics["val"]["dice"])
    rows = list(csv.DictReader((done.path / "images_test.csv").open()))
    means = [float(row["dice"]) for row in rows]
    assert means == sorted(means)
    assert np.mean([[float(row["ball"]), float(row["box"])] for row in rows]) == pytest.approx(test["dice"], abs=1e-5)
    page = (done.path / "report.html").read_text()
    assert "segmented volumes" in page
    assert "Dice is measured on each whole volume" in page


@pytest.mark.slow
def test_an_interrupted_transfer_of_volumes_continues_to_the_same_weights_and_figures(done, run, data, place):
    assert_goes_on_to_the_same(done, 3, run, on=data, epochs=4, out=place / "again", **FAST)


@pytest.mark.slow
def test_volumes_are_learnt_by_heart_and_predicted_where_they_lie(run, place):
    for split in ("train", "test"):
        write_labelled(place / "two", 2, split)
    steady = {"scale": (1.0, 1.0), "distort": "off", "weight_decay": 0.0}
    trained = unmask.transfer(run, on=place / "two", out=place / "heart", epochs=150, **FAST, **steady)
    assert trained.metrics["test"]["dice"] > 0.85
    values, labels = volume(1)
    write_volume(place / "new" / "a.nii.gz", values)
    write_volume(place / "new" / "deep" / "b.nii.gz", turned(values), TURNED)
    (place / "new" / "bad.nii.gz").write_bytes((place / "new" / "a.nii.gz").read_bytes()[:300])
    written = unmask.predict(trained.path, place / "new", out=place / "maps", device="cpu")
    assert written.names == ["a.nii.gz", "deep/b.nii.gz"]
    straight, other = (nib.load(path) for path in written.files)
    for image, affine, truth in ((straight, AFFINE, labels), (other, TURNED, turned(labels))):
        np.testing.assert_allclose(image.affine, affine)
        assert image.shape == truth.shape
        assert np.nanmean(dice_of(np.asarray(image.dataobj), truth, 3)[1:]) > 0.85
    assert np.array_equal(np.asarray(other.dataobj), turned(np.asarray(straight.dataobj)))
    np.testing.assert_allclose(written.millilitres[0], written.shares[0] * values.size * 2 / 1000)
    assert (place / "maps" / "overlays" / "deep" / "b.png").exists()
    maps = trained.model.predict([place / "new" / "deep" / "b.nii.gz"]).maps
    assert np.array_equal(maps[0], np.asarray(other.dataobj))
    exported = unmask.export(trained.path, to="onnx", out=place / "exported")
    assert any(exported.folder.rglob("*.onnx"))


@pytest.mark.slow
def test_the_label_curve_of_volumes_is_of_dice(run, data, place):
    options = {"to": "segment", "on": data, "out": place / "curve", "fractions": (0.5,), "draws": 1, "epochs": 1}
    curve = unmask.labels(run, **options, device="cpu", precision="32", head="unetr(channels=16)")
    content = json.loads((place / "curve" / "labels.json").read_text())
    assert (content["unit"], content["score"]) == ("training volumes", "Dice")
    half = {(p.protocol, p.competitor, p.per_class) for p in curve.points if p.size == "50 %"}
    assert half == {(*rival, 2) for rival in RIVALS}
    assert 0 <= min(p.accuracy for p in curve.points) <= max(p.accuracy for p in curve.points) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": "upernet"}, "not for inputs of 3 axes; there are: linear, unetr"),
        ({"head": "unetr(chanels=3)"}, "did you mean 'channels'"),
        ({"crop_size": (10, 12, 12)}, "no whole number of units"),
        ({"class_limit": 0.5}, "is for images"),
    ],
)
def test_what_cannot_work_for_volumes_is_refused_with_the_reason(given, said, run, data, place):
    with pytest.raises(UserError, match=said):
        unmask.transfer(run, on=data, out=place / "wrong", **(FAST | given))
    assert not (place / "wrong").exists()


@pytest.mark.parametrize("patch", [4, 8, 6])
@pytest.mark.parametrize("head", ["unetr(channels=16)", "linear"])
def test_heads_of_volumes_give_finite_logits_of_every_voxel_and_all_of_them_learn(head, patch):
    size = (2 * patch, patch, 2 * patch)
    encoder = volume_encoder(size=size, patch=patch, depth=4)
    task = Segment(VolumeSegmenter(encoder, NAMES, [0, 1, 2], head=head), dice=1.0).train()
    both = torch.cat([torch.rand(2, 1, *size), torch.randint(0, 3, (2, 1, *size)).float()], dim=1)
    both[:, 1, 0] = VOID
    loss = task({"views": [both]})["loss"]
    loss.backward()
    assert loss.isfinite()
    assert [
        name for name, p in task.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ] == []
    model = task.result.eval()
    with torch.no_grad():
        assert model(both[:, :1]).shape == (2, 3, *size)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(both[:, :1]).isfinite().all()


def test_heads_of_images_are_not_for_volumes_and_the_other_way_round():
    with pytest.raises(UserError, match="the head light is not for inputs of 3 axes; there are: linear, unetr"):
        Segmenter(volume_encoder(), NAMES, [0, 1, 2], head="light")


def test_dice_is_that_of_scipy_and_a_class_that_neither_has_does_not_count():
    chance = np.random.default_rng(0)
    pairs = [
        (chance.integers(0, 3, (5, 6, 7)).astype(np.uint8), chance.integers(0, 4, (5, 6, 7)).astype(np.uint8))
        for _ in range(4)
    ]
    pairs[1] = tuple(np.where(map_ == 2, 0, map_) for map_ in pairs[1])  # without class 2 on both sides
    result, table = volume_overlap(pairs, ["ground", "a", "b", "c"], background=0)
    for (predicted, truth), row in zip(pairs, table):
        for number in range(4):
            if (predicted == number).any() or (truth == number).any():
                assert row[number] == pytest.approx(
                    1 - dissimilarity((predicted == number).ravel(), (truth == number).ravel())
                )
            else:
                assert np.isnan(row[number])
    assert np.isnan(table[1, 2])
    assert (table[:, 3] == 0).all()  # in the truth, and never predicted
    entries = {entry["name"]: entry for entry in result["per_class"]}
    assert (entries["b"]["volumes"], entries["a"]["volumes"]) == (3, 4)
    assert result["dice"] == pytest.approx(np.mean([np.nanmean(table[:, k]) for k in (1, 2, 3)]))
    words = headline(result, ["ground", "a", "b", "c"])
    assert "not counted: b in 1 of the volumes" in words
    nothing, _ = volume_overlap(
        [(np.zeros((2, 2, 2), np.uint8), pairs[0][1][:2, :2, :2])], ["ground", "a", "b", "c"], 0
    )
    assert headline(nothing, ["ground", "a", "b", "c"]).startswith("It finds no structure in any volume")


def test_voxels_of_no_class_count_for_nothing():
    truth = np.array([[[0, 1], [VOID, 1]]], np.uint8)
    assert dice_of(np.array([[[0, 1], [1, 1]]], np.uint8), truth, 2).tolist() == [1, 1]
    logits = torch.zeros(1, 2, 1, 2, 2)
    logits[:, 0], logits[:, 1] = torch.tensor([[[9.0, -9], [9, -9]]]), torch.tensor([[[-9.0, 9], [-9, 9]]])
    assert dice_loss(logits, torch.from_numpy(truth).long()[None]) < 1e-3


def test_maps_of_volumes_of_one_stem_do_not_write_over_each_other():
    taken = {place_of("a/b.nii.gz", {}): None}
    assert [str(place) for place in taken] == ["a/b.nii.gz"]
    assert str(place_of("a/b.npy", taken)) == "a/b.npy.nii.gz"
    assert str(place_of("../x.tif", {})) == "x.nii.gz"
