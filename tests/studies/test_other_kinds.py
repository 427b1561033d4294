"""Studies of what are no images: each tunes, compares and ablates on recordings, and speaks of recordings."""

import json
import re

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.tones import RATE, tone

import unmask
from unmask.errors import UserError
from unmask.studies.comparison.judging import unpacked

TINY = {
    "model": "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)",
    "patch_size": 16,
    "batch": 4,
    "workers": 0,
    "precision": "32",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Low and high tones, in folders of splits and classes."""
    folder = tmp_path_factory.mktemp("tones")
    for split, count in (("train", 10), ("test", 6)):
        for label, name in enumerate(("low", "high")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                chance = np.random.default_rng([label, number, len(split)])
                soundfile.write(folder / split / name / f"{number}.wav", tone(float(label), chance), RATE)
    return folder


@pytest.fixture
def drawn(monkeypatch):
    """All words of the figures that are saved."""
    words = []

    def noted(self, *args, **given):
        words.extend(text.get_text() for text in self.findobj(Text))
        return saved(self, *args, **given)

    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", noted)
    return words


def of_images(*texts):
    """Words around "image" in what a person reads: without tags, addresses and names of options and axes."""
    found = []
    for text in texts:
        text = re.sub(r"(?s)<(style|script|head)\b.*?</\1>|<[^>]*>", " ", text)
        text = re.sub(r"--images?[\w-]*|Elsewhere: [^\n]*|!\[[^]]*\]\([^)]*\)", " ", text)
        found += re.findall(r"(?i).{0,60}image.{0,40}", text)
    return found


def read(folder, *names):
    return [next(folder.glob(name)).read_text(encoding="utf-8") for name in names]


def test_tune_judges_recordings_on_recordings(data, tmp_path, capsys, drawn):
    given = {"axes": "mask.ratio=0.5,0.8", "steps": 4, "seeds": 1, "evaluators": "knn", "labels": 0}
    tuned = unmask.tune(data / "train", on=data, out=tmp_path / "out", **given, **TINY)
    told = capsys.readouterr().out
    assert "of 2 classes" in told
    assert "recordings of 2 classes" in told
    assert "4 steps of 4 recordings" in told
    config = json.loads((tuned.path / "study.json").read_text())["config"]
    assert config["data"]["modality"].startswith("audio(")
    assert config["method"]["mask"] == "random(ratio=0.8)"  # of recordings, not of images
    (axis,) = tuned.results["axes"]
    assert {row["value"] for row in axis["rounds"][0]["values"]} == {"50 %", "80 %"}
    assert "accuracy on validation recordings, %" in drawn
    assert any("every labelled recording" in note for note in tuned.results["notes"])
    assert not of_images(told, *drawn, *tuned.results["notes"], *read(tuned.path, "tuning.md", "tuning.html"))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_compare_judges_recordings_frozen_and_fine_tuned(data, tmp_path, jobs, capsys, drawn):
    given = {"methods": ("mae", "simmim"), "images": 16, "labels_per_class": 2, "finetune_epochs": 1, "points": 1}
    compared = unmask.compare(data, out=tmp_path / "out", jobs=jobs, **given, **TINY)
    told = capsys.readouterr().out
    assert "16 train, 4 val, 12 test recordings of 2 classes" in told
    lines = [json.loads(line) for line in (compared.path / "results.jsonl").read_text().splitlines()]
    judged = [result for line in lines for result in (*line.get("results", ()), line) if "correct" in result]
    assert len(judged) == 4 + 3 * 3 + 3 - 2  # random init, raw values by knn and linear; methods; fine-tuned
    assert {len(unpacked(result["correct"])) for result in judged} == {12}
    table, page = read(compared.path, "comparison.md", "comparison.html")
    assert "recordings of tones" in table
    assert "MFLOP/recording" in table
    assert "chance of the test recordings (Wilson)" in page
    assert compared.results["setting"]["budget"] == "16 recordings for each"
    assert not of_images(told, *drawn, *compared.results["notes"], table, page)


@pytest.mark.slow
def test_ablate_varies_options_of_recordings_and_not_what_is_of_images(data, tmp_path, capsys, drawn):
    with pytest.raises(UserError, match=r"--axes ratio .* is of images.*these are recordings: say what to vary"):
        unmask.ablate(data, out=tmp_path / "paper", steps=2, **TINY)
    given = {"axis": "mask.ratio=0.5,0.8", "steps": 2, "seeds": 1, "finetune_epochs": 1}
    ablated = unmask.ablate(data, out=tmp_path / "out", **given, **TINY)
    assert {"0.5", "0.8"} <= {row["label"] for row in ablated.results["axes"][0]["values"]}
    table, page = read(ablated.path, "ablation.md", "ablation.html")
    assert "MFLOP/recording" in table
    assert not of_images(capsys.readouterr().out, *drawn, *ablated.results["notes"], table, page)


@pytest.mark.slow
def test_labels_are_counted_on_recordings(data, tmp_path, capsys, drawn):
    run = unmask.pretrain(data, steps=2, out=tmp_path / "run", **TINY)
    capsys.readouterr()
    given = {"labels_per_class": (1, 2, "all"), "protocols": "knn", "draws": 1, "device": "cpu"}
    curve = unmask.labels(run.path, on=data, out=tmp_path / "labels", **given)
    content = json.loads((tmp_path / "labels" / "labels.json").read_text())
    assert "Wilson over test recordings" in content["intervals"]
    said = [content[name] for name in ("intervals", "sentence", "unit")]
    assert not of_images(capsys.readouterr().out, *drawn, *said, curve.sentence())


def test_methods_that_need_views_of_images_are_refused(data, tmp_path):
    with pytest.raises(UserError, match="simclr"):
        unmask.compare(data, methods="simclr", images=16, labels_per_class=0, out=tmp_path / "out", **TINY)


def test_the_kind_may_be_named(data, tmp_path, capsys):
    given = {"axes": "mask.ratio=0.5,0.8", "steps": 4, "seeds": 1, "evaluators": "knn", "labels": 0, "dry_run": True}
    assert unmask.tune(data, out=tmp_path / "out", modality="signal", **given, **TINY) is None
    assert "signals of 2 classes" in capsys.readouterr().out
