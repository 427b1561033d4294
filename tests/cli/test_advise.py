"""`advise` from end to end on small folders: the answer, the page, the command as printed, mistakes."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image
from support.photos import photo
from support.shardmaking import shards
from support.small import SMALL

import unmask
from unmask.cli.main import run
from unmask.errors import DataError, UserError
from unmask.studies.advice import trial


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of small photographs in a folder whose name has to be quoted, and one broken file."""
    root = tmp_path_factory.mktemp("advise") / "it's my $data"
    for split, count in (("train", 16), ("test", 4)):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(photo(i + 100 * (label == "b"), 24, 24)).save(root / split / label / f"{i}.png")
    (root / "train" / "a" / "bad.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def advice(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answer")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return unmask.advise(data, out="advice", device="cpu"), folder / "advice"


def test_the_answer_names_what_was_seen_and_every_ground(advice, capsys):
    given, folder = advice
    assert given.facts.images == 33
    assert (given.facts.classes, given.facts.labels_per_class, given.facts.channels) == (2, 16, 3)
    text = given.text()
    for part in ("33 images to learn from", "Advice, with its grounds", "Cost", "Not known", "Run"):
        assert part in text
    assert all(f"[{statement.source}]" in text for statement in given.statements)
    page = (folder / "advice.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 8
    assert "http" not in page.split("<body")[1].replace("github.com", "")  # nothing is loaded from elsewhere
    assert "Data sheet" in page
    content = json.loads((folder / "advice.json").read_text(encoding="utf-8"))
    assert content["commands"][-1]["line"] == given.commands[-1].line
    assert {statement["rule"] for statement in content["statements"]} >= {"start.too-few"}
    assert content["facts"]["bad_share"] == pytest.approx(1 / 33)


@pytest.mark.slow  # 4 s
def test_the_printed_command_runs_as_printed(advice, data, tmp_path, monkeypatch):
    given, _ = advice
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(given.commands[-1].line)
    assert program == "unmask"
    assert str(data) in words
    assert run([*words, "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"kind": "x-ray"}, UserError, "did you mean 'xray'"),
        ({"on": "unlabelled"}, DataError, "no image has a label"),
        ({"data": "empty"}, DataError, "no images in"),
        ({"data": "nowhere"}, UserError, "nowhere"),
        ({"data": "broken"}, DataError, "cannot be used"),
        ({"out": "unlabelled", "data": "unlabelled"}, UserError, "is the data itself"),
        ({"out": "unlabelled/0.png"}, UserError, "is a file"),
        ({"against": "no_such.pth", "data": "unlabelled"}, UserError, "no_such.pth"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(options, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "unlabelled", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    Image.fromarray(photo(0, 24, 24)).save(tmp_path / "unlabelled" / "0.png")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=text):
        unmask.advise(**({"data": "unlabelled"} | options), device="cpu")
    assert sorted(tmp_path.rglob("*")) == before


def test_one_image_and_many_bands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bands = np.random.default_rng(0).normal(size=(1, 16, 16, 5)).astype(np.float32)
    np.savez("scene.npz", images=bands)
    given = unmask.advise("scene.npz", device="cpu")
    assert given.facts.start == "scratch"
    assert given.facts.kind == "bands"
    assert (tmp_path / "advice" / "advice.html").exists()
    assert "too few images" in given.text()


@pytest.mark.slow
def test_a_stream_is_looked_at_without_its_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "shards", [6, 6])
    given = unmask.advise("shards/s-{00..01}.tar", device="cpu")
    assert given.facts.images == 12
    assert given.facts.classes == 0
    assert "'shards/s-{00..01}.tar'" in given.commands[-1].line


def test_a_trial_needs_labels_and_time(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="give --on LABELLED"):
        unmask.advise(data / "train" / "a", minutes=5, device="cpu")
    with pytest.raises(UserError, match=r"--minutes 0\.1 leaves no time"):
        unmask.advise(data, minutes=0.1, device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # 20 s
def test_a_trial_compares_methods_and_weights_on_the_images(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"FIXED": 0.0, "EACH": 0.0, "LEAST": 2.0, "RIVALS": ("mae", "simmim")}.items():
        monkeypatch.setattr(trial, name, value)
    trials = []
    monkeypatch.setattr("unmask.cli.commands.advise.measured_statements", lambda made, facts: trials.append(made) or [])
    mine = unmask.pretrain(data, out="mine", steps=1, **SMALL).path
    given = unmask.advise(data, minutes=0.1, against="mine", out="advice", device="cpu")
    page = (tmp_path / "advice" / "advice.html").read_text(encoding="utf-8")
    results = json.loads((tmp_path / "advice" / "trial" / "comparison.json").read_text(encoding="utf-8"))
    assert {a["contestant"] for a in results["accuracies"]} >= {"mae", "random init", "raw pixels", str(mine.resolve())}
    assert "Tried here" in page
    assert results["sentence"] in page.replace("&#39;", "'")
    assert any("The trial made" in text for text in given.not_known)
    assert trials[0].weights == [str(mine.resolve())]  # given by a relative path


def test_what_a_trial_cannot_do_is_said_in_the_words_of_advise(data, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise UserError("--hours 0.01 does not pay for one step of dino")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unmask.cli.commands.advise.compare", refuse)
    with pytest.raises(UserError, match=r"the trial that --minutes 20 asks for cannot be made: .* one step of dino"):
        unmask.advise(data, minutes=20, device="cpu")
