"""Images and words from end to end: trained on captions, searched, judged and classified by words."""

import csv
import json
import shutil

import pytest
import torch
from support.captioned import COLOURS, captioned, shard
from support.small import SMALL

import unmask
from unmask.errors import DataError, UserError
from unmask.runs.text import open_text
from unmask.weights.files import read_weights

QUICK = {key: value for key, value in SMALL.items() if key != "decoder"} | {"log_every": 1, "matmul": "default"}
METHOD = "siglip(text_width=32, text_depth=1, out=32)"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return captioned(tmp_path_factory.mktemp("words") / "photos", each=8, classes=True)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("words") / "run"
    return unmask.pretrain(photos, out=out, method=METHOD, steps=60, lr=3e-3, crop=0.9, **QUICK)


@pytest.mark.slow
def test_words_find_the_images_that_show_them(run, photos, tmp_path, capsys):
    found = unmask.search(run.path, photos, query=["a red square", "blue"], top=4, out=tmp_path / "out", device="cpu")
    by_query = {query: [hit.label for hit in found.hits if hit.query == query] for query in ("a red square", "blue")}
    assert by_query == {"a red square": ["red"] * 4, "blue": ["blue"] * 4}
    assert "a red square" in (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "gallery.png").exists()
    rows = list(csv.DictReader(open(tmp_path / "out" / "results.csv", encoding="utf-8")))
    assert {row["query"] for row in rows} == {"a red square", "blue"}
    image = photos / "green" / "0.png"
    both = unmask.search(run.path, photos, query=["blue", str(image)], top=2, out=tmp_path / "both", device="cpu")
    assert [hit.query for hit in both.hits] == ["blue", "blue", "0.png", "0.png"]
    unmask.search(run.path, photos, query="red " * 30, out=tmp_path / "long", device="cpu")
    assert "tokens are read of 'red red" in capsys.readouterr().out


@pytest.mark.slow
def test_classes_are_told_by_their_names_alone(run, photos, tmp_path, capsys):
    unmask.evaluate(run.path, on=photos, labels_per_class=1, draws=1, device="cpu", templates="a {} square")
    content = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["zero_shot"]["accuracy"] > 0.9
    assert content["zero_shot"]["chance"] == pytest.approx(1 / 3)
    assert content["table"][-1][:2] == ["pretrained", "zero-shot"]
    assert "By words alone" in capsys.readouterr().out
    assert "zero-shot" in (run.path / "report.html").read_text(encoding="utf-8")
    words = ["something blue", "something red"]
    predictions = unmask.predict(run.path, photos / "red", classes=words, out=tmp_path / "p.csv", device="cpu")
    assert predictions.classes == words
    assert set(predictions.labels) == {"something red"}
    with pytest.raises(UserError, match=r"templates 'a photo' has no \{\}"):
        unmask.evaluate(run.path, on=photos, templates="a photo")


@pytest.mark.slow
def test_the_run_keeps_tokenizer_and_text_tower(run, photos, tmp_path):
    model = open_text(run.path)
    assert model.tokenizer.json == (run.path / "tokenizer.json").read_text(encoding="utf-8")
    objective = run.objective()
    tokens = model.tokenizer(["a red square"])
    torch.testing.assert_close(model.words.of_tokens(tokens), objective.vectors_of_texts(tokens))
    assert run.config.method.name.count("vocabulary=") == 1
    before = read_weights(run.path / "text.safetensors")[0]
    again = unmask.pretrain(photos, out=run.path, method=METHOD, steps=60, lr=3e-3, crop=0.9, **QUICK)
    assert again.finished
    assert all(
        torch.equal(value, before[name]) for name, value in read_weights(run.path / "text.safetensors")[0].items()
    )


@pytest.mark.slow
def test_words_are_refused_where_a_run_knows_none(pretrained, photos, tmp_path):
    with pytest.raises(UserError, match=r"'a red shirt' is no file, and .* knows no words"):
        unmask.search(pretrained.path, photos, query="a red shirt", out=tmp_path / "out")
    with pytest.raises(UserError, match=r"red\.jpg does not exist"):
        unmask.search(pretrained.path, photos, query="red.jpg", out=tmp_path / "out")
    with pytest.raises(UserError, match="knows no words: it was not trained with captions"):
        unmask.predict(pretrained.path, photos, classes=["red", "blue"], out=tmp_path / "p.csv")
    with pytest.raises(UserError, match="two or more"):
        unmask.predict(pretrained.path, photos, classes="red")


def test_data_without_captions_is_refused(tmp_path):
    folder = captioned(tmp_path / "photos", each=4)
    (folder / "captions.csv").unlink()
    with pytest.raises(DataError, match=r"siglip learns from captions, and .* has none: put a captions.csv"):
        unmask.pretrain(folder, out=tmp_path / "run", method="siglip", steps=2, **QUICK)


@pytest.mark.slow
def test_a_stream_of_shards_is_learnt_from(tmp_path):
    (tmp_path / "shards").mkdir()
    for number in range(2):
        shard(tmp_path / "shards" / f"{number}.tar", each=4, first=4 * number, text=("txt", "json")[number])
    run = unmask.pretrain(tmp_path / "shards", out=tmp_path / "run", method="siglip(mae=1.0)", steps=3, **QUICK)
    assert run.finished
    assert open_text(run.path).of_texts([f"a {colour} square" for colour in COLOURS]).shape == (3, 256)
    assert (run.path / "panel.png").exists()


def losses(run):
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records if "loss" in record]


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", ["off", "on"])
def test_a_run_goes_on_with_the_very_same_captions(photos, tmp_path, in_memory):
    options = QUICK | {"method": METHOD, "steps": 6, "save_every": 1, "keep_every": 2, "in_memory": in_memory}
    whole = unmask.pretrain(photos, out=tmp_path / "whole", **options)
    out = tmp_path / "stopped"
    shutil.copytree(whole.path, out)
    (out / "summary.json").unlink()
    shutil.copy(whole.path / "step_00000002.ckpt", out / "last.ckpt")
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= 2))
    assert losses(unmask.pretrain(photos, out=out, **options)) == losses(whole)
    assert len(losses(whole)) == 6


@pytest.mark.slow
def test_captions_go_into_a_pack_and_weights_go_on(run, photos, tmp_path):
    unmask.pack(photos, out=tmp_path / "pack")
    packed = unmask.pretrain(
        tmp_path / "pack", out=tmp_path / "run", method=METHOD, steps=2, **QUICK, init=str(run.path)
    )
    assert packed.read("data_sheet.json")["captions"] == run.read("data_sheet.json")["captions"]
    assert (packed.path / "text.safetensors").exists()
