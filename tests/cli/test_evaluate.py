"""`evaluate`, `embed`, `--probe` and `demo`'s data from end to end, on a small run."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.small import SMALL

import unmask
from unmask.data.datasets.classification import Labelled
from unmask.errors import DataError, UserError
from unmask.evaluation import attentive
from unmask.evaluation.best_features import best_features


@pytest.mark.slow
def test_evaluate_compares_writes_and_says_one_sentence(run, labelled, capsys):
    verdict = unmask.evaluate(run.path, on=labelled, labels_per_class=(1, 5), draws=3, device="cpu")
    content = json.loads((run.path / "evaluation.json").read_text())
    assert {"pretrained", "random init", "raw pixels"} == {s["competitor"] for s in content["scores"]}
    assert {"knn", "linear"} == {s["evaluator"] for s in content["scores"]}
    assert content["counts"]["test"] == 16
    for score in content["scores"]:
        assert score["low"] <= score["accuracy"] <= score["high"]
        assert [f["labels_per_class"] if "labels_per_class" in f else next(iter(f.values())) for f in score["few"]] == [
            1,
            5,
        ]
    assert content["sentence"] in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")
    assert verdict.sentence() == content["sentence"]
    assert Image.open(run.path / "evaluation.png").size[0] > 600
    page = (run.path / "report.html").read_text()
    assert "Did pretraining help?" in page
    assert "random init" in page


@pytest.mark.slow
def test_evaluate_is_deterministic(run, labelled):
    first, second = (
        unmask.evaluate(run.path, on=labelled, labels_per_class=(1,), draws=2, device="cpu").to_json() for _ in range(2)
    )
    assert first == second


def test_the_random_rival_is_the_same_encoder_at_other_weights(run):
    from unmask.models.state import at_random

    encoder = unmask.load(run.path)
    rival = at_random(encoder, 0)
    assert rival.arguments == encoder.arguments
    assert rival.mean.tolist() == encoder.mean.tolist()
    own, other = encoder.net.state_dict(), rival.net.state_dict()
    assert own.keys() == other.keys()
    assert not np.allclose(own["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"], atol=1e-2)
    assert np.allclose(own["pos_embed"], other["pos_embed"])


def test_images_without_labels_are_refused_with_what_to_do(run, photos):
    with pytest.raises(DataError, match=r"labels\.csv"):
        unmask.evaluate(run.path, on=photos, device="cpu")


@pytest.mark.slow
def test_values_out_of_the_encoder_s_range_are_said_before_judging(run, labelled, tmp_path, capsys):
    for path in sorted(labelled.rglob("*.png")):
        small = tmp_path / "0 to 1" / path.relative_to(labelled).with_suffix(".tif")
        small.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(Image.open(path).convert("L"), np.float32) / 255).save(small)
    options = {"labels_per_class": (), "draws": 1, "device": "cpu", "out": tmp_path / "out"}
    for place, expected in ((labelled, 0), (tmp_path / "0 to 1", 1)):
        unmask.evaluate(run.path, on=place, **options)
        assert capsys.readouterr().out.count("values are not in the encoder's range") == expected


def test_bad_images_are_left_out_of_judging(labelled):
    (labelled / "test" / "red" / "broken.png").write_bytes(b"")
    said = []
    data = Labelled((str(labelled),), max_side=128, say=said.append)
    assert len(data.splits["test"]) == 16
    assert "broken.png" in said[0]


def test_splits_are_respected_and_what_is_missing_is_held_out(labelled, tmp_path):
    data = Labelled((str(labelled),), max_side=128)
    names = {split: {data.source.items[i].name for i in indices} for split, indices in data.splits.items()}
    assert all("test" in name for name in names["test"])
    assert not names["train"] & names["val"]
    assert len(names["train"] | names["val"]) == 24
    flat = Labelled((str(labelled / "train"),), max_side=128)
    found = [set(indices) for indices in flat.splits.values()]
    assert sum(map(len, found)) == 24
    assert not found[0] & found[2]
    assert len(found[2]) == 6


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embed_writes_features_paths_and_labels(run, labelled, tmp_path, suffix):
    out = unmask.embed(run.path, labelled, out=tmp_path / f"f.{suffix}", device="cpu")
    if suffix == "npz":
        with np.load(out) as content:
            features, keys = content["features"], set(content.files)
    else:
        table = pq.read_table(out)
        features, keys = np.stack(table["features"].to_numpy()), set(table.column_names)
    assert features.shape == (40, 48)
    assert {"features", "paths"} <= keys
    assert any("label" in key for key in keys)


def test_embed_gives_the_encoder_s_own_features(run, photos, tmp_path):
    import torch

    from unmask.data.transforms.kernels.crop import WholeImage

    out = unmask.embed(run.path, photos, out=tmp_path / "f.npz", device="cpu")
    image = torch.from_numpy(np.asarray(Image.open(photos / "003.png"))).permute(2, 0, 1)
    encoder = unmask.load(run.path)
    with torch.no_grad():
        want = encoder(WholeImage((32, 32))(image)[None]).units.mean(dim=1)[0].numpy()
    with np.load(out) as content:
        place = [str(p).endswith("003.png") for p in content["paths"]].index(True)
        np.testing.assert_allclose(content["features"][place], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("options", "words"), [({"out": "f.csv"}, "parquet"), ({"pooling": "max"}, "mean4")])
def test_embed_refuses_what_it_cannot_do(run, photos, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        unmask.embed(run.path, photos, **{"out": tmp_path / "f.npz", "device": "cpu"} | options)


@pytest.mark.slow
def test_a_probe_judges_during_training(photos, labelled, tmp_path):
    run = unmask.pretrain(photos, out=tmp_path / "run", epochs=2, probe=labelled, probe_every=1, **SMALL)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    probes = [(r["step"], r["probe_linear"]) for r in records if "probe_linear" in r]
    assert [step for step, _ in probes] == [3, 6]
    assert all(0 <= accuracy <= 1 for _, accuracy in probes)


def test_the_demo_s_halves_share_no_pixel_and_never_change():
    from unmask.data.sources.demo import Demo

    source = Demo()
    assert {item.split for item in source.items} == {"train", "test"}
    assert len({item.label for item in source.items}) == 12
    assert source.read(0).shape == (32, 32, 3)
    assert np.array_equal(source.read(7), Demo().read(7))
    left = [source.read(i) for i, item in enumerate(source.items) if item.split == "train"][:40]
    assert len({image.tobytes() for image in left}) == 40


@pytest.mark.slow
def test_the_best_features_are_named_in_the_file_and_used_where_none_are_given(run, labelled, tmp_path, capsys):
    unmask.evaluate(run.path, on=labelled, draws=1, labels_per_class=2, device="cpu")
    path = run.path / "evaluation.json"
    content = json.loads(path.read_text())
    assert content["features"].keys() == {"knn", "linear", "attentive", "knn on attentive"}
    chosen = {score["evaluator"]: score["pooling"] for score in content["scores"][:2]}
    assert {name: content["features"][name]["pooling"] for name in chosen} == chosen
    content["features"]["linear"] |= {"pooling": "cls", "val_accuracy": 1.01}
    path.write_text(json.dumps(content))
    vectors = {}
    for name in ("auto", "cls", "mean"):
        with np.load(
            unmask.embed(run.path, labelled, out=tmp_path / f"{name}.npz", pooling=name, device="cpu")
        ) as file:
            vectors[name] = file["features"]
    np.testing.assert_array_equal(vectors["auto"], vectors["cls"])
    assert not np.array_equal(vectors["auto"], vectors["mean"])
    assert "Features: cls, the best by linear on the validation split" in capsys.readouterr().out
    content["features"]["knn"] |= {"whiten": True, "pooling": "mean", "val_accuracy": 1.01}
    path.write_text(json.dumps(content))
    query = labelled / "test" / "red" / "000.png"
    options = {"query": query, "device": "cpu", "out": tmp_path / "s"}
    whitened = unmask.search(run.path, labelled, **options)
    assert "Features are whitened" in capsys.readouterr().out
    assert whitened.hits != unmask.search(run.path, labelled, pooling="mean", **options).hits
    path.write_text(json.dumps(content | {"weights": "others"}))
    unmask.search(run.path, labelled, **options)
    assert "Features: mean (evaluation.json is of other weights)" in capsys.readouterr().out


def test_the_attentive_probe_computes_in_fp32_whatever_the_encoder_does(run, labelled):
    data, enabled = Labelled((str(labelled),), max_side=128), []
    for _ in attentive._tokens(unmask.load(run.path), data, "val", "cpu", torch.bfloat16):
        enabled.append(torch.is_autocast_enabled("cpu"))
    assert enabled
    assert not any(enabled)


@pytest.mark.parametrize(
    "winner",
    ["attentive", "knn(whiten=True)", *(pytest.param(name, marks=pytest.mark.slow) for name in ("linear", "knn"))],
)
def test_predict_answers_with_the_best_classifier_on_frozen_features(
    run, labelled, tmp_path, capsys, winner, monkeypatch
):
    evaluators, by = ("linear", winner) if winner != "linear" else ("linear",), winner.split("(")[0]

    def with_winner(*arguments):
        best = best_features(*arguments)
        best[by]["val_accuracy"] = 1.01
        return best

    monkeypatch.setattr("unmask.cli.commands.evaluate.best_features", with_winner)
    verdict = unmask.evaluate(run.path, on=labelled, evaluators=evaluators, draws=1, labels_per_class=2, device="cpu")
    content = json.loads((run.path / "evaluation.json").read_text())
    assert f"by {by} (101.0%" in content["best_features"]
    with safe_open(run.path / "evaluation.safetensors", "pt") as file:
        assert any(name.startswith("pool.") for name in file.keys()) == (winner == "attentive")
    capsys.readouterr()
    answers = unmask.predict(run.path, labelled / "test", out=tmp_path / "p.csv", device="cpu")
    said = " ".join(capsys.readouterr().out.split())
    whitened = ", whitened" if "whiten" in winner else ""
    assert f"By {by} on frozen {content['features'][by]['pooling']} features{whitened}, the best" in said
    share = np.mean([a == b.split("/")[-2] for a, b in zip(answers.labels, answers.names)])
    own = content["attentive"]["accuracy"] if winner == "attentive" else verdict.score("pretrained", winner).accuracy
    assert share == pytest.approx(own, abs=0.07)  # one image: other precision
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, atol=1e-5)
    again = unmask.load(run.path).predict(labelled / "test")
    np.testing.assert_allclose(again.probabilities, answers.probabilities, atol=1e-5)


@pytest.mark.slow
def test_an_attentive_pooling_that_wins_is_kept_and_used(run, labelled, tmp_path, capsys):
    unmask.evaluate(run.path, on=labelled, draws=1, labels_per_class=2, device="cpu")
    path = run.path / "evaluation.json"
    content = json.loads(path.read_text())
    for name in ("attentive", "knn on attentive"):
        content["features"][name]["val_accuracy"] = 1.01
    path.write_text(json.dumps(content))
    query, options = labelled / "test" / "red" / "000.png", {"device": "cpu", "out": tmp_path / "s"}
    with np.load(unmask.embed(run.path, labelled, out=tmp_path / "a.npz", device="cpu")) as file:
        vectors = file["features"]
    assert "Features: attentive, the best by attentive" in capsys.readouterr().out
    with np.load(unmask.embed(run.path, labelled, out=tmp_path / "m.npz", pooling="attentive", device="cpu")) as file:
        np.testing.assert_array_equal(vectors, file["features"])
    encoder = unmask.load(run.path)
    assert vectors.shape == (40, encoder.dim)
    result = unmask.search(run.path, labelled, query=query, compare=True, **options)
    assert "Features: attentive, the best by knn on attentive" in capsys.readouterr().out
    assert result.hits[0].same == "same file"
    unmask.select(run.path, labelled / "test", most=2, by="diverse", **options)
    assert "Features: attentive" in capsys.readouterr().out
    (run.path / "evaluation.safetensors").unlink()
    with pytest.raises(UserError, match="no pooling 'attentive'; unmask evaluate RUN --on LABELLED learns one"):
        unmask.embed(run.path, labelled, out=tmp_path / "b.npz", device="cpu")


@pytest.mark.slow
def test_what_evaluate_kept_is_refused_for_other_weights_and_judges_are_checked(run, labelled, tmp_path):
    with pytest.raises(UserError, match="unmask evaluate RUN --on LABELLED keeps one on frozen features"):
        unmask.predict(run.path, labelled, out=tmp_path / "p.csv", device="cpu")
    unmask.evaluate(run.path, on=labelled, evaluators="linear", draws=1, labels_per_class=2, device="cpu")
    path = run.path / "encoder.safetensors"
    state = load_file(path)
    save_file({name: value + 0.01 for name, value in state.items()}, path)
    with pytest.raises(UserError, match="belongs to other weights than the run's own"):
        unmask.predict(run.path, labelled, out=tmp_path / "p.csv", device="cpu")
    with pytest.raises(UserError, match="give knn, linear or both"):
        unmask.evaluate(run.path, on=labelled, evaluators="attentive", device="cpu")
    with pytest.raises(UserError, match="--evaluators attentiv: none of these, did you mean 'attentive'"):
        unmask.evaluate(run.path, on=labelled, evaluators=("knn", "attentiv"), device="cpu")
