"""`transfer --to segment` from end to end on small data: learning, resume, predictions, figures; and its parts."""

import csv
import json
import signal

import numpy as np
import pytest
import torch
from conftest import photo
from PIL import Image
from segmenting import NAMES, scene, write_pairs
from small import SMALL

import unmask
from unmask.encoder import create_encoder
from unmask.errors import DataError, Interrupted, UserError
from unmask.keeper import Keeper
from unmask.overlap import overlap
from unmask.segment_plan import class_weights
from unmask.segmenter import Segmenter
from unmask.sliding import most_probable, places, slide
from unmask.tasks.segment import Segment, dice_loss

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


def small_encoder(**options):
    text = ", ".join(f"{k}={v}" for k, v in ({"depth": 4, "embed_dim": 32, "num_heads": 2} | options).items())
    return create_encoder(f"vit_tiny_patch16_224({text})", image_size=(32, 32), patch_size=8, mean=(90.0,) * 3,
                          std=(60.0,) * 3)  # fmt: skip


def segmenter(head="light(channels=16)", **options):
    torch.manual_seed(0)
    return Segmenter(small_encoder(), NAMES, [0, 1, 2], head=head, **options)


def batch(count=2, size=40):
    both = [np.concatenate([p.transpose(2, 0, 1), t[None]]) for p, t in (scene(i, size, size) for i in range(count))]
    return {"views": [torch.from_numpy(np.stack(both))]}


@pytest.mark.parametrize("protocol", ["full", "linear"])
@pytest.mark.parametrize("head", ["linear", "light(channels=16)", "upernet(channels=16, auxiliary_channels=8)"])
def test_every_trained_parameter_of_every_head_gets_a_gradient(head, protocol):
    task = Segment(segmenter(head), protocol=protocol, layer_decay=0.5)
    task.train()
    task(batch())["loss"].backward()
    for name, parameter in task.named_parameters():
        inside = name.startswith("segmenter.encoder")
        assert parameter.requires_grad == (not (inside and protocol == "linear") and not _idle(name, head)), name
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == parameter.requires_grad, name
    assert task.encoder.training == (protocol == "full")
    scale = {name: task.treatment(name, p)[0] for name, p in task.named_parameters()}
    assert scale["segmenter.encoder.net.pos_embed"] == 0.5**5
    assert scale["segmenter.encoder.net.blocks.3.norm1.weight"] == 0.5
    assert {value for name, value in scale.items() if not name.startswith("segmenter.encoder")} == {1.0}


def _idle(name, head):
    """The encoder's last norm, where the head takes maps without it."""
    return head != "linear" and name.startswith("segmenter.encoder.net.norm.")


def test_one_window_is_the_whole_picture_and_batches_change_nothing():
    model = segmenter(window=(32, 40)).eval()
    picture = torch.from_numpy(photo(3, 32, 40)).permute(2, 0, 1)
    whole = model(picture[None])[0].argmax(dim=0).numpy()
    (found,) = model.maps([(picture, (32, 40))])
    assert np.array_equal(found, whole)
    others = [
        torch.from_numpy(photo(i, h, w)).permute(2, 0, 1) for i, (h, w) in enumerate([(50, 33), (32, 95), (20, 20)])
    ]
    shown = [(p, tuple(p.shape[1:])) for p in [picture, *others]]
    one, many = ([*model.maps(shown, batch=size)] for size in (1, 7))
    assert [m.shape for m in many] == [size for _, size in shown]
    assert all((a == b).mean() > 0.999 for a, b in zip(one, many))


def test_overlapping_windows_are_averaged_and_nothing_is_left_out():
    assert places(10, 6) == [0, 4]
    assert places(6, 6) == [0]
    assert places(20, 6) == [0, 4, 8, 12, 14]
    picture = torch.zeros(1, 6, 10)
    calls = []

    def run(x):
        calls.append(len(x))
        number = float(len(calls))  # the second window says otherwise, more loudly
        logits = torch.zeros(len(x), 2, 6, 6)
        logits[:, 0], logits[:, 1] = 1.0, 0.0 if number == 1 else 1.5
        return logits

    (found,) = slide(run, [(picture, (6, 10))], window=(6, 6), side=6, fill=torch.zeros(1), batch=1)
    assert calls == [1, 1]
    assert found.tolist() == [[0] * 6 + [1] * 4] * 6  # columns 4 and 5 see both: 1.0 against a mean of 0.75


def test_enlarging_in_strips_equals_torchs(monkeypatch):
    logits = torch.randn(4, 9, 13, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(logits[None], (50, 31), mode="bilinear")[0].argmax(dim=0).numpy()
    monkeypatch.setattr("unmask.sliding.STRIP", 4 * 31 * 7)
    assert (most_probable(logits, (50, 31)) == expected).mean() > 0.999


def test_figures_equal_an_independent_computation():
    rng = np.random.default_rng(0)
    truths = [rng.integers(0, 4, size).astype(np.uint8) for size in ((30, 20), (7, 9))]  # class 4 is nowhere
    answers = [np.where(rng.random(t.shape) < 0.6, t, rng.integers(0, 5, t.shape)).astype(np.uint8) for t in truths]
    truths[0][:5] = 255
    found = overlap(zip(answers, truths), list("abcde"))
    a, t = (np.concatenate([x.ravel() for x in xs]) for xs in (answers, truths))
    a, t = a[t != 255], t[t != 255]
    iou = [((a == c) & (t == c)).sum() / ((a == c) | (t == c)).sum() for c in range(4)]
    recall = [(a == c)[t == c].mean() for c in range(4)]
    assert [c["iou"] for c in found["per_class"]] == [*map(pytest.approx, iou), None]
    assert found["miou"] == pytest.approx(np.mean(iou))
    assert found["pixel_accuracy"] == pytest.approx((a == t).mean())
    assert found["mean_accuracy"] == pytest.approx(np.mean(recall))
    assert found["per_class"][4] == {"name": "e", "share": 0.0, "answered": pytest.approx((a == 4).mean()), "iou": None,
                                     "accuracy": None}  # fmt: skip
    assert np.sum(found["confusion"]) == found["pixels"] == len(t)


def test_the_loss_leaves_void_out_and_weighs_classes():
    task = Segment(segmenter(), weights=[1.0, 2.0, 4.0], dice=1.0)
    data = batch()
    data["views"][0][:, -1] = 255
    found = task(data)
    assert float(found["loss"]) == 0.0
    logits = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 2, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    truth[0, 0] = 255
    known = truth != 255
    flat, labels = logits.permute(0, 2, 3, 1)[known], truth[known]
    expected = torch.nn.functional.cross_entropy(flat, labels, weight=torch.tensor([1.0, 2.0, 4.0]))
    share = flat.softmax(dim=1)
    dice = [2 * share[labels == c, c].sum() / (share[:, c].sum() + (labels == c).sum()) for c in (0, 1)]
    torch.testing.assert_close(dice_loss(logits, truth), 1 - torch.stack(dice).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(task._loss(logits, truth), expected + 1 - torch.stack(dice).mean(), rtol=1e-4, atol=1e-5)
    assert class_weights(np.array([100.0, 400.0, 1.0, 0.0])) == [1.0, 0.5, 10.0, 0.0]


def test_a_segmenter_is_trained_judged_and_kept(done, run):
    assert done.path == run / "segment"
    for name in ("config.json", "segmenter.safetensors", "metrics.json", "report.html", "overlays.png", "classes.png",
                 "confusion.png", "pictures_test.csv", "data_sheet.json", "summary.json"):  # fmt: skip
        assert (done.path / name).exists(), name
    sheet = json.loads((done.path / "data_sheet.json").read_text())
    assert sum(sheet["pixel_shares"]["train"].values()) == pytest.approx(1)
    found = done.metrics
    assert (found["test"]["count"], found["val"]["count"]) == (3, 2)
    assert 0 < found["test"]["miou"] < 1
    assert "data:image/png" in (done.path / "report.html").read_text()
    records = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    looks = [r["val_miou"] for r in records if "val_miou" in r]
    assert max(looks) == pytest.approx(found["val"]["miou"])  # the best weights on val are kept


def test_five_pictures_are_learnt_by_heart(run, place):
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
    for text in ("3 of 12 pictures and masks", "000.png: is 40 x 48, its mask 37 x 48", "001.png: has no mask",
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


def test_an_interrupted_transfer_continues_to_the_same_weights_and_figures(done, run, data, place, monkeypatch):
    out, of = place / "again", Keeper.of

    def broken(self, task):
        look = of(self, task)
        return lambda step, steps: signal.raise_signal(signal.SIGTERM) or {} if step == 5 else look(step, steps)

    options = dict(on=data, epochs=6, dice=0.5, balanced="on", out=out, **FAST)
    monkeypatch.setattr(Keeper, "of", broken)
    with pytest.raises(Interrupted):
        unmask.transfer(run, **options)
    assert not (out / "segmenter.safetensors").exists()
    monkeypatch.setattr(Keeper, "of", of)
    mended = unmask.transfer(run, **options)
    first, second = done.model.state_dict(), mended.model.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert mended.metrics == done.metrics


def test_predictions_have_the_pictures_own_sizes_in_python_and_on_the_command_line(done, data, place, capsys):
    sizes = {"a.jpg": (41, 67), "deep/b.png": (90, 31), "a.png": (40, 48)}
    for i, (name, (height, width)) in enumerate(sizes.items()):
        (place / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(i, height, width)).save(place / "new" / name, quality=95)
    (place / "new" / "bad.jpg").write_bytes(b"no picture")
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
    with pytest.raises(DataError, match="no picture could be read"):
        unmask.predict(done.path, place / "new" / "bad.jpg", out=place / "none", device="cpu")
    assert not (place / "none").exists()
    with pytest.raises(UserError, match="names a folder"):
        unmask.predict(done.path, place / "new", out="p.csv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": "upper"}, "did you mean 'upernet'"),
        ({"pooling": "cls"}, "--pooling is for --to classify"),
        ({"protocol": "attentive"}, "segment has full, and linear"),
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
