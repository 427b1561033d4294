"""`transfer --to segment` from end to end on small data: learning, resume, predictions, figures; and its parts."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo
from support.segmenting import NAMES, scene, write_pairs
from support.small import SMALL
from support.transferring import assert_goes_on_to_the_same, missing

import unmask
from unmask.errors import DataError, UserError
from unmask.studies.label_curve import segmentation as segment_study
from unmask.tasks.segmentation import finetune
from unmask.tasks.segmentation.figures import headline
from unmask.tasks.segmentation.metrics import overlap

FAST = {"to": "segment", "device": "cpu", "precision": "32", "crop_size": 40, "batch": 4, "lr": 3e-3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("segment")


@pytest.fixture(scope="module")
def data(place):
    for split, first, count in (("train", 0, 8), ("val", 20, 2), ("test", 30, 3)):
        write_pairs(place / "data", count, split, first)
    (place / "data" / "classes.json").write_text(json.dumps(NAMES))
    return place / "data"


@pytest.fixture(scope="module")
def run(place, data):
    return unmask.pretrain(data / "images", out=place / "run", steps=2, **SMALL).path


@pytest.fixture(scope="module")
def done(run, data):
    return unmask.transfer(run, on=data, epochs=6, dice=0.5, balanced="on", **FAST)


def test_a_segmenter_is_trained_judged_and_kept(done, run):
    assert done.path == run / "segment"
    assert missing(done.path) == []
    sheet = json.loads((done.path / "data_sheet.json").read_text())
    assert sum(sheet["pixel_shares"]["train"].values()) == pytest.approx(1)
    found = done.metrics
    assert (found["test"]["count"], found["val"]["count"]) == (3, 2)
    assert 0 < found["test"]["miou"] < 1
    assert "data:image/png" in (done.path / "report.html").read_text()
    records = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    looks = [r["val_miou"] for r in records if "val_miou" in r]
    assert max(looks) == pytest.approx(found["val"]["miou"])  # the best weights on val are kept


@pytest.mark.slow
def test_five_images_are_learnt_by_heart(run, place):
    for split in ("train", "test"):
        write_pairs(place / "five", 5, split)
    steady = {"scale": (1.0, 1.0), "class_limit": 1.0, "flip": "off", "distort": "off", "weight_decay": 0.0}
    found = unmask.transfer(run, on=place / "five", out=place / "heart", epochs=160, **(FAST | {"batch": 5}), **steady)
    assert found.metrics["test"]["miou"] > 0.95


def test_what_is_wrong_is_named_before_training_and_the_rest_is_learnt(run, place, capsys):
    folder = write_pairs(place / "own", 12)
    (folder / "classes.json").write_text(json.dumps(NAMES))
    Image.fromarray(scene(0)[1][:-3]).save(folder / "masks" / "000.png")
    (folder / "masks" / "001.png").unlink()
    odd = scene(2)[1]
    odd[4:9] = 77
    Image.fromarray(odd).save(folder / "masks" / "002.png")
    found = unmask.transfer(run, on=folder, out=place / "rest", epochs=1, head="linear", protocol="linear", **FAST)
    before, after = capsys.readouterr().out.split("step 1/")[:2]
    for text in ("3 of 12 images and masks", "000.png: is 40 x 48, its mask 37 x 48", "001.png: has no mask",
                 "002.png: its mask has the unknown class number 77 in 240 pixels"):  # fmt: skip
        assert text in before
    assert "left out" not in after
    assert found.metrics["test"]["count"] == 2
    assert "unknown class number 77" in (found.path / "report.html").read_text()
    encoder, start = unmask.load(found.path).encoder.net.state_dict(), unmask.load(run).net.state_dict()
    assert all(torch.equal(value, encoder[name]) for name, value in start.items())
    with pytest.raises(DataError, match=r"(?s)3 of 12 .* more than 1%.*001\.png: has no mask"):
        unmask.transfer(run, on=folder, out=place / "refused", max_bad=0.01, **FAST)
    assert not (place / "refused").exists()


@pytest.mark.slow
def test_an_interrupted_transfer_continues_to_the_same_weights_and_figures(done, run, data, place):
    assert_goes_on_to_the_same(done, 5, run, on=data, epochs=6, dice=0.5, balanced="on", out=place / "again", **FAST)


def test_predictions_have_the_images_own_sizes_in_python_and_on_the_command_line(done, data, place, capsys):
    sizes = {"a.jpg": (41, 67), "deep/b.png": (90, 31), "a.png": (40, 48)}
    for i, (name, (height, width)) in enumerate(sizes.items()):
        (place / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(i, height, width)).save(place / "new" / name, quality=95)
    (place / "new" / "bad.jpg").write_bytes(b"no image")
    found = unmask.predict(done.path.parent, place / "new", out=place / "maps", device="cpu", batch=3)
    assert "left out: bad.jpg" in capsys.readouterr().out
    assert sorted(found.names) == sorted(sizes)
    again = done.model.predict([place / "new" / name for name in found.names])
    rows = {row["path"]: row for row in csv.DictReader((place / "maps" / "shares.csv").open())}
    for name, file, map_ in zip(found.names, found.files, again.maps):
        stored = Image.open(file)
        assert np.asarray(stored).shape == map_.shape == sizes[name]
        assert np.array_equal(np.asarray(stored), map_)  # numbers and places are the same here
        overlay = place / "maps" / "overlays" / file.relative_to(place / "maps").with_suffix(".jpg")
        assert Image.open(overlay).size == sizes[name][::-1]
        assert float(rows[name]["disc"]) == pytest.approx((map_ == 1).mean(), abs=1e-6)
    assert len(set(found.files)) == 3  # a.jpg and a.png do not write over each other
    assert json.loads((place / "maps" / "classes.json").read_text()) == {str(i): n for i, n in enumerate(NAMES)}
    np.testing.assert_allclose(again.shares().sum(axis=1), 1)
    pixels = np.stack([photo(9, 33, 51)]).transpose(0, 3, 1, 2)
    assert done.model.predict(pixels).maps[0].shape == (33, 51)
    with pytest.raises(UserError, match="pixels must be n x 3 x height x width"):
        done.model.predict(pixels[:, :1])
    with pytest.raises(DataError, match=r"bad\.jpg"):
        done.model.predict(place / "new" / "bad.jpg")
    with pytest.raises(DataError, match="no image could be read"):
        unmask.predict(done.path, place / "new" / "bad.jpg", out=place / "none", device="cpu")
    assert not (place / "none").exists()
    with pytest.raises(UserError, match="names a folder"):
        unmask.predict(done.path, place / "new", out="p.csv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": "upper"}, "did you mean 'upernet'"),
        ({"head": "light(chanels=3)"}, "did you mean 'channels'"),
        ({"void": ("none", "sky")}, "says none and names some"),
        ({"pooling": "cls"}, "--pooling is for --to classify"),
        ({"protocol": "attentive"}, "to segment there are full and linear"),
        ({"crop_size": (32, 32, 32)}, "one number of pixels, or height and width"),
        ({"scale": (2.0, 0.5)}, "smallest <= largest"),
        ({"classes": "nowhere.json"}, "does not exist"),
        ({"to": "classify"}, "--crop-size is for --to segment"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(given, said, run, data, place):
    with pytest.raises(UserError, match=said):
        unmask.transfer(run, on=data, out=place / "wrong", **(FAST | given))
    assert not (place / "wrong").exists()


@pytest.mark.slow
def test_the_label_curve_trains_on_the_same_parts_and_goes_on_where_it_stopped(run, data, place, capsys, monkeypatch):
    options = {"to": "segment", "on": data, "out": place / "curve", "fractions": (0.25,), "draws": 2, "epochs": 1}
    options |= {"crop_size": 40, "device": "cpu", "precision": "32", "protocols": ("full",)}
    seen = []
    real = finetune.make_segment_loader
    monkeypatch.setattr(segment_study, "make_segment_loader", lambda s, *a: seen.append(tuple(s.names)) or real(s, *a))
    curve = unmask.labels(run, **options)
    assert [(p.competitor, p.size, p.per_class, len(p.draws)) for p in curve.points] == [
        ("pretrained", "25 %", 2, 2), ("pretrained", "all", 8, 2), ("from scratch", "25 %", 2, 2),
        ("from scratch", "all", 8, 2)]  # fmt: skip
    assert len(seen) == 8
    assert seen[0::2] == seen[1::2]  # both rivals see the same images
    assert len(set(seen)) == 3  # two parts, and all
    assert "mIoU" in capsys.readouterr().out
    content = json.loads((place / "curve" / "labels.json").read_text())
    assert (content["unit"], content["score"]) == ("training images", "mIoU")
    assert (place / "curve" / "labels.png").exists()
    again = unmask.labels(run, **(options | {"protocols": ("full", "linear"), "draws": 1}))
    assert "are already done" in capsys.readouterr().out
    assert len(seen) == 12  # linear, of one draw: two sizes, two rivals
    assert [p for p in again.points if p.protocol == "full"] == curve.points
    with pytest.raises(UserError, match="knn is not for --to segment"):
        unmask.labels(run, **(options | {"protocols": ("knn",)}))


def test_what_is_no_class_for_transfer_is_none_for_the_label_curve(run, data, place, monkeypatch):
    given = {"to": "segment", "on": data, "fractions": (0.5,), "draws": 1, "epochs": 1, "protocols": ("linear",)}
    given |= {"crop_size": 40, "device": "cpu", "precision": "32", "max_bad": 0.4}
    opened = []
    real = segment_study.read_labelled
    monkeypatch.setattr(
        segment_study,
        "read_labelled",
        lambda make, on, options, *a: opened.append(options) or real(make, on, options, *a),
    )
    plain = unmask.labels(run, out=place / "plain", **given)
    name = plain.classes[0]
    void = unmask.labels(run, out=place / "void", void=name, **given)
    assert void.classes == plain.classes[1:]
    assert [p.accuracy for p in void.points] != [p.accuracy for p in plain.points]
    assert [(options.void, options.max_bad) for options in opened] == [(None, 0.4), ((name,), 0.4)]
    with pytest.raises(UserError):  # finished trainings are of other classes
        unmask.labels(run, out=place / "plain", void=name, **given)


@pytest.mark.parametrize(("option", "value"), [("void", "sky"), ("max_bad", 0.1)])
def test_what_reads_masks_is_refused_for_label_curves_of_classes(option, value, run, data, place):
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is for --to segment"):
        unmask.labels(run, on=data, out=place / "wrong", **{option: value})


def test_a_segmenter_that_answers_one_class_for_every_pixel_is_told_first():
    maps = [(np.zeros((4, 5), np.uint8), np.repeat(np.uint8([0, 0, 0, 1]), 5).reshape(4, 5))]
    words = headline(overlap(maps, ["ground", "cell"]), ["ground", "cell"])
    assert words.startswith("It answers ground for every test pixel, so it tells no classes apart")
    assert "75.0 %. mIoU 37.5 %" in words
