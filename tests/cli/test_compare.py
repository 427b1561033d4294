"""`unmask compare` from end to end on tiny models: one encoder, budget and judge; stopped, continued, extended."""

import json
import signal
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.forked import start, wait
from support.small import SMALL
from support.two_classes import write

import unmask
from unmask.errors import DataError, UserError
from unmask.runtime.machine import machine
from unmask.studies.comparison.pieces import FIELDS
from unmask.studies.engine import Records

TINY = {name: value for name, value in SMALL.items() if name not in ("decoder", "batch")}
TINY |= {"batch": 4, "images": 8, "labels_per_class": 2, "finetune_epochs": 1, "points": 2}
METHODS = ("mae(decoder=full(dim=16, depth=1, heads=2))", "simclr")
MAE, SIMCLR = METHODS


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), train=12, test=8)


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    return unmask.compare(data, methods=METHODS, out=out, **TINY)


def records_in(out):
    return Records(out / "results.jsonl", FIELDS).lines


def without_times(out):
    kept = {}
    for key, line in records_in(out).items():
        results = [{k: v for k, v in result.items() if k != "seconds"} for result in line.get("results", ())]
        kept[key] = {k: v for k, v in line.items() if k not in ("seconds", "results")} | {"r": results}
    return kept


@pytest.mark.slow
def test_every_contestant_meets_every_judge(study):
    lines = records_in(study.path)
    judged = {(key[1], result["judge"]) for key, line in lines.items() for result in line.get("results", ())}
    trained = {*METHODS, "random init"}
    assert judged == {(name, judge) for name in trained for judge in ("knn", "linear", "attentive")} | {
        ("raw pixels", "knn"), ("raw pixels", "linear"),
    }  # fmt: skip
    assert {key[1] for key in lines if key[0] == "finetune"} == trained
    assert [key[3] for key in lines if key[:2] == ("frozen", MAE)] == ["0.5", "1"]
    accuracies = {(a["contestant"], a["judge"], a["share"]): a for a in study.results["accuracies"]}
    assert all(0 <= a["low"] <= a["mean"] <= a["high"] <= 1 for a in accuracies.values())
    assert len(study.results["differences"]) == 6 + 6 + 3 + 3  # pairs; raw pixels have no tokens and are not tuned


@pytest.mark.slow
def test_all_see_as_many_images_with_the_same_encoder(study):
    setting = json.loads((study.path / "study.json").read_text())["setting"]
    configs = [one["config"] for one in setting["contestants"] if one["config"]]
    assert len({json.dumps(config["model"]["timm"]) for config in configs}) == 1
    assert {config["training"]["steps"] * config["training"]["batch"] for config in configs} == {8}
    assert {line["images"] for line in records_in(study.path).values() if line["piece"] == "train"} == {8}


@pytest.mark.slow
def test_a_training_is_a_run_that_other_commands_open(study):
    folders = sorted((study.path / "runs").iterdir())
    assert [folder.name for folder in folders if folder.name.startswith("simclr")] == ["simclr-0"]
    assert all(unmask.load(folder).dim == 48 for folder in folders)
    assert not list((study.path / "runs").rglob("last*.ckpt"))


@pytest.mark.slow
def test_page_table_and_figure_say_the_same(study):
    page = (study.path / "comparison.html").read_text()
    assert study.results["sentence"].split(".")[0] in page.replace("&#39;", "'")
    assert "No method was tuned" in page
    assert "But all trained on batches of 4 images, as asked for" in page
    assert "attentive probe" in page
    assert "data:image/png" in page
    assert json.loads((study.path / "comparison.json").read_text()) == study.results
    with Image.open(study.path / "comparison.png") as figure:
        assert min(figure.size) > 200
    first = next(a for a in study.results["accuracies"] if a["share"] == 1)
    assert f"{100 * first['mean']:.1f} (" in (study.path / "comparison.md").read_text()


@pytest.mark.slow
def test_a_finished_study_does_nothing_again_and_grows(study, data, monkeypatch):
    before = without_times(study.path)
    unmask.compare(data, methods=METHODS, out=study.path, **TINY)
    assert without_times(study.path) == before
    grown = unmask.compare(data, methods="simmim", out=study.path, **TINY | {"labels_per_class": 0})
    after = without_times(study.path)
    assert {key: after[key] for key in before} == before
    assert {key[1] for key in after.keys() - before.keys()} == {"simmim"}
    assert {a["contestant"] for a in grown.results["accuracies"]} >= {*METHODS, "simmim"}
    with pytest.raises(UserError, match="images: 8"):
        unmask.compare(data, methods=METHODS, out=study.path, **TINY | {"images": 12})


@pytest.mark.slow
def test_killed_and_continued_it_finds_the_same(study, data, tmp_path):
    out, deadline = tmp_path / "killed", time.monotonic() + 300
    options = TINY | {"methods": SIMCLR, "labels_per_class": 0}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    process = start("compare", data, "--out", out, *flags)
    while time.monotonic() < deadline and process.is_alive():
        if (out / "results.jsonl").exists() and list((out / "runs").glob("*/last.ckpt")):
            break
        time.sleep(0.005)
    process.kill()
    assert wait(process) == -signal.SIGKILL
    unmask.compare(data, out=out, **options)
    whole = without_times(study.path)
    assert all(line == whole[key] for key, line in without_times(out).items())


@pytest.mark.slow
def test_side_by_side_gives_what_one_after_the_other_gives(data, tmp_path, monkeypatch):
    monkeypatch.setattr("unmask.studies.engine.machine", lambda *chosen: replace(machine(*chosen), cores=2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of two processes on two cores; weights differ in their last digits with these
    try:
        unmask.compare(data, methods=METHODS, out=tmp_path / "one", **TINY)
    finally:
        torch.set_num_threads(threads)
    unmask.compare(data, methods=METHODS, out=tmp_path / "two", jobs=2, **TINY)
    weights = [
        {path.parent.name: path.read_bytes() for path in (tmp_path / out / "runs").rglob("encoder.safetensors")}
        for out in ("one", "two")
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == len(METHODS)
    assert without_times(tmp_path / "two") == without_times(tmp_path / "one")


@pytest.mark.slow
def test_published_weights_and_seeds_are_judged_too(study, data, tmp_path):
    run = next((study.path / "runs").glob("simclr-0"))
    options = TINY | {"evaluators": "knn", "labels_per_class": 0, "seeds": 2}
    found = unmask.compare(data, methods="mae", against=str(run), out=tmp_path / "out", **options)
    names = [a["contestant"] for a in found.results["accuracies"] if a["share"] == 1]
    assert names == ["mae", "random init", "raw pixels", str(run)]
    assert len(next(a for a in found.results["accuracies"] if a["share"] == 1)["values"]) == 2
    gap = next(d for d in found.results["differences"] if d["second"] == str(run) and d["first"] == "mae")
    assert gap["pairs"] == 2


@pytest.mark.slow
def test_a_dry_run_plans_and_writes_nothing(data, tmp_path, capsys):
    assert unmask.compare(data, methods="simclr", out=tmp_path / "out", dry_run=True, **TINY) is None
    assert not (tmp_path / "out").exists()
    assert "Forecast: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ("mae", "mae")}, "names mae twice"),
        ({"methods": "simclrr"}, "no method 'simclrr', did you mean 'simclr'"),
        ({"methods": ()}, "which --methods"),
        ({"images": None}, "one of --hours, --images and --flops; none is given"),
        ({"flops": 1e9}, "got --images and --flops"),
        ({"images": 3}, "does not pay for one step of"),
        ({"images": None, "flops": 10.0}, "does not pay for one step of"),
        ({"images": None, "hours": 1e-9}, "does not pay for one step of"),
        ({"evaluators": "lineer"}, "did you mean 'linear'"),
        ({"evaluators": (), "labels_per_class": 0}, "nothing would be judged"),
        ({"methods": "simclr(mask=block)"}, "simclr has no --mask"),
        ({"methods": "ijepa(mask=random)"}, "multiblock"),
        ({"against": "timm:vit_tinny_patch16_224"}, "vit_tinny_patch16_224"),
        ({"batch": 1, "methods": "simclr"}, "--batch is 2 or more"),
    ],
)
def test_mistakes_are_named(data, change, words, tmp_path):
    with pytest.raises(UserError, match=words):
        unmask.compare(data, out=tmp_path / "out", **TINY | {"methods": METHODS} | change)
    assert not (tmp_path / "out" / "study.json").exists()


def test_data_without_labels_is_refused(photos, tmp_path):
    with pytest.raises(DataError, match=r"no image in .* has a label"):
        unmask.compare(photos, out=tmp_path / "out", methods="mae", **TINY)
