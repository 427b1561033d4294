"""Advice on what are no images: what lies there, whether it is enough, and commands that can be run as they stand."""

import json
import shlex

import numpy as np
import pytest
import rasterio
import soundfile
from rasterio.transform import from_origin
from support.clipmaking import clip
from support.cloudmaking import write_table
from support.joint_samples import write_pairs
from support.tones import RATE, tone
from support.volumemaking import volume, write_volume

import unmask
from unmask.cli.main import parse
from unmask.data.modality import make_modality
from unmask.errors import DataError, UserError
from unmask.runtime.machine import machine
from unmask.studies.advice.commands import Places
from unmask.studies.advice.facts import LabelCounts
from unmask.studies.advice.look import find_other_kind, look_at_kind
from unmask.studies.advice.other_kinds import advise_on

CHANCE = np.random.default_rng(0)


def write_scene(path):
    bands = CHANCE.integers(1, 9999, (5, 24, 24)).astype(np.uint16)
    form = {"driver": "GTiff", "count": 5, "height": 24, "width": 24, "dtype": "uint16", "crs": "EPSG:32614"}
    with rasterio.open(path, "w", **form, transform=from_origin(440280, 3159720, 20, 20)) as file:
        file.write(bands)


def write_signal(path):
    rows = CHANCE.standard_normal((64, 2))
    path.write_text("a,b\n" + "\n".join(f"{a:.4f},{b:.4f}" for a, b in rows))


KINDS = {  # word -> ending, and what writes a file
    "recording": (".wav", lambda path: soundfile.write(path, tone(0.5, CHANCE), RATE)),
    "clip": (".mp4", lambda path: path.write_bytes(clip(count=8))),
    "volume": (".nii.gz", lambda path: write_volume(path, volume(len(path.name))[0])),
    "cloud": (".ply", lambda path: write_table(path, 3, name="")),
    "scene": (".tif", write_scene),
    "signal": (".csv", write_signal),
}


def of_classes(root, word, count=8):
    ending, write = KINDS[word]
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            write(root / name / f"{number:02d}{ending}")
    return root


def commands_of(advice):
    return {command.words[1]: command for command in advice.commands}


@pytest.mark.parametrize("word", [*KINDS, "sample"])
def test_every_kind_gets_commands_that_parse(word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_pairs(tmp_path / "data", 16) if word == "sample" else of_classes(tmp_path / "data", word)
    advice = unmask.advise(data, device="cpu")
    assert advice.word == word
    told = capsys.readouterr().out
    assert f"16 {word}s in" in told
    assert f"2 classes, 8 {word}s to learn from each" in told
    assert list(commands_of(advice)) == ["pretrain", "show", "evaluate", "labels", "compare", "tune"]
    for command in advice.commands:
        assert command.line in told
        assert parse(shlex.split(command.line)[1:]) is not None
    content = json.loads((tmp_path / "advice" / "advice.json").read_text())
    assert [row["line"] for row in content["commands"]] == [command.line for command in advice.commands]
    assert "maps with a class for every" in told or not make_modality(advice.modality).labelled
    assert (tmp_path / "advice" / "advice.html").exists()


def test_without_classes_nothing_is_judged_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "data" / f"{number}.wav", tone(0.5, CHANCE), RATE)
    advice = unmask.advise("data", device="cpu")
    assert list(commands_of(advice)) == ["pretrain", "show", "embed"]
    assert any("nothing can be judged" in text for text in advice.enough)
    assert any("no recording has a class" in text for text in advice.not_known)
    with pytest.raises(DataError, match="no recording has a label; put the recordings"):
        unmask.advise("data", on="data", device="cpu")


@pytest.mark.parametrize(
    ("labels", "told", "tunes"),
    [
        (LabelCounts("", {"a": 400, "b": 400}, 1000), "1,000 recordings to test on (in splits of their own)", True),
        (LabelCounts("", {"a": 400, "b": 400}, 1000), "to within 3 points.", True),
        (LabelCounts("", {"a": 10, "b": 10}, 0), "5 recordings to test on (25 % of those with labels", True),
        (LabelCounts("", {"a": 10, "b": 10}, 0), "so only large differences will show", True),
        (LabelCounts("", {"a": 10, "b": 5}, 0), "The smallest class has 3 recordings to learn from: too few", False),
        (LabelCounts("", {"a": 10, "b": 3}, 40), "The smallest class has 3 recordings to learn from: too few", False),
    ],
)
def test_whether_it_is_enough_follows_the_numbers(labels, told, tunes, tmp_path):
    source = find_other_kind([str(of_classes(tmp_path, "recording", 1))], None)
    places = Places(("data",), ("data",), machine("cpu", "auto").device, lambda name: tmp_path / name)
    advice = advise_on(look_at_kind(source), labels, source.modality, places, named="audio(rate=4000)")
    assert any(told in text for text in advice.enough)
    assert ("tune" in commands_of(advice)) is tunes
    assert "--modality 'audio(rate=4000)'" in commands_of(advice)["compare"].line
    assert parse(list(commands_of(advice)["compare"].words[1:])).modality == "audio(rate=4000)"


def test_the_kind_may_be_named_and_what_is_of_images_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_classes(tmp_path / "data", "recording")
    advice = unmask.advise("data", modality="signal", device="cpu")
    assert advice.word == "signal"
    assert "--modality" in commands_of(advice)["pretrain"].words
    for given in ({"minutes": 1}, {"kind": "xray"}, {"against": "vit_tiny_patch16_224"}):
        with pytest.raises(UserError, match="is for images, and these are recordings"):
            unmask.advise("data", device="cpu", **given)
