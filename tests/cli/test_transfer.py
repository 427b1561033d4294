"""`transfer` and `predict` from end to end on small data: results, resume, early stopping, and what users do wrong."""

# ruff: noqa: F811  (fixtures are imported, and then named as arguments)

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.tinting import FAST, data, done, place, run, tinted, write  # noqa: F401
from support.transferring import interrupted

import unmask
from unmask.cli.main import main
from unmask.data.datasets.classification import Labelled
from unmask.errors import UserError
from unmask.planning.plan import Plan
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import machine
from unmask.tasks.classification.finetune import finetune
from unmask.tasks.classification.metrics import scores
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.classification.transfer import ClassifyTask
from unmask.tasks.task import Score


def settings_of(encoder, samples, labelled, scratch=False, **given):
    plan = Plan({"protocol": "full", "seed": 0, "flip": "auto", "balanced": "auto"} | given)
    return plan_transfer(plan, len(samples), encoder, scratch, labelled.sheet, machine("cpu", "32"))


def test_a_classifier_is_trained_judged_and_kept(done, run, data):
    assert done.path == run / "classify"
    files = ("config.json", "classifier.safetensors", "metrics.json", "report.html", "confusion.png", "classes.png")
    for name in (*files, "metrics.jsonl", "predictions_test.csv", "data_sheet.json", "summary.json"):
        assert (done.path / name).exists(), name
    rows = list(csv.DictReader((done.path / "predictions_test.csv").open()))
    assert [row["true"] for row in rows] == ["blue"] * 4 + ["red"] * 4
    p = np.array([[float(row["blue"]), float(row["red"])] for row in rows], dtype=np.float32)
    truth = np.array([0] * 4 + [1] * 4)
    again, found = scores(p, truth, ["blue", "red"]), done.metrics["test"]
    assert {k: found[k] for k in ("accuracy", "f1", "confusion")} == {
        k: again[k] for k in ("accuracy", "f1", "confusion")
    }
    assert [row["label"] == row["true"] for row in rows].count(True) == round(8 * found["accuracy"])
    assert done.metrics["val"]["count"] == 6
    page = (done.path / "report.html").read_text()
    assert "data:image/png" in page


def test_the_report_says_where_weights_and_data_come_from(done, run, data):
    page = (done.path / "report.html").read_text()
    assert f"weights: {run} " in page
    assert f'<td>{data}</td><td class="why">asked for' in page


def test_a_loaded_classifier_predicts_paths_and_pixels_as_its_table_says(done, data, capsys, tmp_path):
    classifier = unmask.load(done.path)
    assert classifier.view.crop == 0.9
    table = list(csv.DictReader((done.path / "predictions_test.csv").open()))
    expected = np.array([[float(row["blue"]), float(row["red"])] for row in table])
    found = classifier.predict(data / "test")
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.labels == [row["label"] for row in table]
    paths = [str(data / "test" / row["path"].split("test/")[-1]) for row in table]
    pixels = torch.stack([classifier.view(torch.from_numpy(np.array(Image.open(p))).permute(2, 0, 1)) for p in paths])
    np.testing.assert_allclose(classifier.predict(pixels, batch=3).probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(classifier.predict(pixels.numpy()).probabilities, expected, atol=1e-5)
    # the run's encoder knows where its classifier is
    np.testing.assert_allclose(unmask.load(done.path.parent).predict(pixels).probabilities, expected, atol=1e-5)
    with pytest.raises(UserError, match="pixels must be n x 3 x 32 x 32"):
        classifier.predict(pixels[:, :1])

    (tmp_path / "more").mkdir()
    shutil.copy(paths[0], tmp_path / "more" / "good.png")
    (tmp_path / "more" / "bad.png").write_bytes(b"no image")
    unmask.predict(done.path.parent, tmp_path / "more", out=tmp_path / "p.csv", device="cpu")
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [row["path"] for row in rows] == ["good.png"]
    assert list(rows[0]) == ["path", "label", "blue", "red"]
    assert float(rows[0]["blue"]) == pytest.approx(expected[0, 0], abs=1e-5)
    assert "bad.png" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_transfer_continues_to_the_same_weights_and_figures(done, run, data, place):
    out = place / "again"
    options = dict(on=data, epochs=6, ema=0.6, lr=2e-3, eval_crop=0.9, out=out, **FAST)
    assert interrupted(5, run, **options).exit_code == 143
    assert not (out / "classifier.safetensors").exists()
    with pytest.raises(UserError, match="not finished"):
        unmask.load(out).predict(data)
    mended = unmask.transfer(run, **options)
    assert mended.metrics == done.metrics
    first, second = done.classifier.state_dict(), mended.classifier.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    before = (out / "classifier.safetensors").stat().st_mtime_ns
    assert unmask.transfer(run, **options).path == out  # finished: nothing is done
    assert (out / "classifier.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other settings"):
        unmask.transfer(run, **(options | {"lr": 1e-3}))


def test_early_stopping_ends_training_and_keeps_the_best(run, data, place, monkeypatch):
    seen = []

    def falling(self, classifier, split, settings):
        if split != "val":
            return score(self, classifier, split, settings)
        seen.append({key: value.clone() for key, value in classifier.state_dict().items()})
        accuracy = [0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4][len(seen) - 1]
        return Score(accuracy, {"accuracy": accuracy})

    score = ClassifyTask.score
    monkeypatch.setattr(ClassifyTask, "score", falling)
    found = unmask.transfer(run, on=data, out=place / "early", epochs=50, patience=2, lr=1e-2, **FAST)
    assert len(seen) == 4  # the best is the second; two epochs later it ends
    state = found.classifier.state_dict()
    assert all(torch.equal(state[key], seen[1][key]) for key in state)
    assert json.loads((found.path / "summary.json").read_text())["kept_step"] == 4


@pytest.mark.slow
def test_a_recipe_and_a_saved_configuration_fill_in_what_is_open(run, data, place, capsys):
    first = place / "recipe"
    options = ["--on", str(data), "--device", "cpu", "--precision", "32", "--batch", "8", "--epochs", "1"]
    with pytest.raises(SystemExit) as caught:
        main(["transfer", str(run), *options, "--recipe", "mae_linear_vit_base", "--out", str(first), "--erase", "0.5"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "recipe mae_linear_vit_base" in said
    assert "was published for vit_base" in said
    config = json.loads((first / "config.json").read_text())
    settings = config["settings"]
    assert (settings["protocol"], settings["pooling"], settings["optimizer"]) == ("linear", "cls", "lars")
    assert settings["lr"] == pytest.approx(0.1 * 8 / 256)
    assert (settings["erase"], config["reasons"]["erase"], settings["crop"]) == (0.5, "asked for", 0.08)
    classifier, encoder = unmask.load(first), unmask.load(run)
    assert (classifier.view.crop, classifier.norm_kind) == (0.875, "batch")
    state = encoder.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in classifier.encoder.net.state_dict().items())

    plan = ["transfer", str(run), "--on", str(data), "--config", str(first / "config.json"), "--out", str(place / "c")]
    with pytest.raises(SystemExit) as caught:
        main([*plan, "--lr", "0.5", "--dry-run"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "lars" in said
    assert "0.5" in said
    assert not (place / "c").exists()


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_several_labels_per_image_are_learnt(run, place, kind, tmp_path):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (24, 2))
    bits[:2] = [[1, 1], [0, 0]]
    images = [tinted(1, i) if i % 2 else tinted(0, i) for i in range(24)]
    splits = ["train"] * 16 + ["test"] * 8
    if kind == "npz":
        arrays = np.stack(images)
        on = tmp_path / "several.npz"
        np.savez(on, train_images=arrays[:16], train_labels=bits[:16], test_images=arrays[16:], test_labels=bits[16:])
    else:
        on = tmp_path / "several"
        on.mkdir()
        rows = ["path,labels,split"]
        for i, image in enumerate(images):
            Image.fromarray(image).save(on / f"{i}.png")
            rows.append(f"{i}.png,{'|'.join(n for n, b in zip('xy', bits[i]) if b)},{splits[i]}")
        (on / "labels.csv").write_text("\n".join(rows))
    found = unmask.transfer(run, on=on, out=tmp_path / "out", epochs=1, protocol="linear", **FAST)
    assert found.metrics["test"]["main"] == "auroc"
    assert 0 <= found.metrics["test"]["auroc"] <= 1
    assert found.classifier.multi_label
    answers = found.classifier.predict(on)
    assert answers.probabilities.shape == (24, 2)
    assert all(isinstance(label, list) for label in answers.labels)
    assert "AUROC" in (found.path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["full", "attentive"])
def test_a_small_set_can_be_learnt_by_heart(run, data, protocol):
    encoder = unmask.load(run)
    labelled = Labelled((str(data),), max_side=128, hold_out_val=False)
    samples = labelled.samples("train", 3)
    off = {"randaug": "off", "smoothing": 0.0, "crop": 1.0, "drop_path": 0.0, "lr": 3e-3, "weight_decay": 0.0}
    settings = settings_of(encoder, samples, labelled, protocol=protocol, epochs=40.0, batch=16, **off)
    devices = make_devices(settings)
    first, second = (finetune(encoder, samples, settings, devices).result.eval() for _ in range(2))
    found = first.predict(str(data / "train"))
    assert (found.probabilities.argmax(axis=1) == labelled.labels("train")).mean() == 1.0
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b)  # the same arguments, the same result


# What users do wrong: one clear line, exit code 2 or 3, nothing written.
