"""`unmask ablate` from end to end on a tiny model: what it says is what was measured, and a kill loses nothing."""

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.configuring import config_of
from support.forked import start, wait
from support.small import SMALL
from support.small_training import Crash
from support.two_classes import write

import unmask
from unmask.errors import DataError, UserError
from unmask.evaluation.compare import judge
from unmask.studies.ablation import one_run
from unmask.studies.ablation.axes import NAMES, changed, make_axes, paper, steps_of
from unmask.studies.ablation.findings import BASELINE, finding, interval, records_in, rows, table

TINY = SMALL | {"steps": 3, "finetune_epochs": 1, "seeds": 2}
CONFIG = config_of(decoder="full(dim=32, depth=1, heads=2)")


def without_times(out):
    return {place: {k: v for k, v in cell.items() if k != "seconds"} for place, cell in records_in(out).lines.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), train=12, test=8)


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    return unmask.ablate(data, out=out, axes=("tokens", "target"), **TINY)


@pytest.mark.slow
def test_every_value_and_seed_is_run_once_and_shared_between_axes(study):
    cells = records_in(study.path).lines
    keys = {BASELINE, "length=0.0", "method=mae(symmetric=True)"}
    keys |= {"target=pixels(normalize=False)", "target=pca(components=24)"}
    assert set(cells) == {(key, seed) for key in keys for seed in (0, 1)}
    assert len((study.path / "cells.jsonl").read_text().splitlines()) == 10
    assert study.results["runs"] == study.results["planned"] == 10
    assert not list((study.path / "runs").glob("*"))  # checkpoints of finished runs are gone


@pytest.mark.slow
def test_tables_hold_what_was_measured(study):
    cells = records_in(study.path).lines
    target = next(axis for axis in study.results["axes"] if axis["name"] == "target")
    raw = next(value for value in target["values"] if value["label"] == "raw pixels")
    mine = [cells["target=pixels(normalize=False)", seed] for seed in (0, 1)]
    base = [cells[BASELINE, seed] for seed in (0, 1)]
    assert raw["finetune"]["values"] == [cell["finetune"] for cell in mine]
    assert raw["linear_difference"]["values"] == [m["linear"] - b["linear"] for m, b in zip(mine, base)]
    assert raw["seconds"] == pytest.approx(np.mean([cell["seconds"]["pretrain"] for cell in mine]))
    assert raw["paper"] == {"finetune": 84.9, "linear": 73.5}
    text = (study.path / "ablation.md").read_text()
    mean = np.mean([cell["linear"] for cell in mine])
    line = next(line for line in text.splitlines() if line.startswith("| raw pixels |"))
    assert f"| {100 * mean:.1f} (" in line
    assert "84.9 / 73.5" in line
    assert "| no pretraining |" in text
    for cell in cells.values():
        assert 0 <= cell["linear"] <= 1
        assert 0 <= cell["finetune"] <= 1
    symmetric = cells["method=mae(symmetric=True)", 0]
    assert symmetric["flops"] > 1.3 * base[0]["flops"]
    assert mine[0]["loss"] != base[0]["loss"] != base[1]["loss"]
    assert cells["length=0.0", 0]["loss"] is None


@pytest.mark.slow
def test_there_is_a_image_per_axis_and_one_self_contained_page(study):
    for name in ("tokens", "target"):
        assert Image.open(study.path / f"{name}.png").size[0] > 900
    page = (study.path / "ablation.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert paper()["label"] in page
    assert json.loads((study.path / "ablation.json").read_text()) == study.results


@pytest.mark.slow
def test_killed_and_continued_it_finds_the_same(study, data, tmp_path):
    """Killed after a finished run, while another one is between pretraining and its line."""
    out, options = tmp_path / "killed", TINY | {"seeds": 1, "axes": "tokens"}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    process, deadline = start("ablate", data, "--out", out, *flags), time.monotonic() + 300
    while time.monotonic() < deadline and process.is_alive():
        if records_in(out).lines and list((out / "runs").glob("*/last.ckpt")):
            break
        time.sleep(0.005)
    process.kill()
    assert wait(process) == -signal.SIGKILL
    continues_to_the_same(study, data, out, options)


@pytest.mark.slow
def test_broken_off_between_pretraining_and_its_line_it_finds_the_same(study, data, tmp_path, monkeypatch):
    out, options = tmp_path / "broken", TINY | {"seeds": 1, "axes": "tokens"}

    def fail(*arguments, **named):
        if records_in(out).lines:
            raise Crash
        return judge(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(one_run, "judge", fail)
        with pytest.raises(Crash):
            unmask.ablate(data, out=out, **options)
    continues_to_the_same(study, data, out, options)


@pytest.mark.slow
def test_side_by_side_gives_what_one_after_the_other_gives(study, data, tmp_path):
    unmask.ablate(data, out=tmp_path / "two", axes="tokens", jobs=2, **TINY)
    whole = without_times(study.path)
    assert all(cell == whole[place] for place, cell in without_times(tmp_path / "two").items())


def continues_to_the_same(study, data, out, options):
    assert 1 <= len(records_in(out).lines) < 3
    with open(out / "cells.jsonl", "a") as file:
        file.write('{"key": "target=pca(compo')  # as if killed while writing
    unmask.ablate(data, out=out, **options)
    whole, found = without_times(study.path), without_times(out)
    assert len(found) == 3
    assert all(cell == whole[place] for place, cell in found.items())
    assert len((out / "cells.jsonl").read_text().splitlines()) == 4  # the line that was cut off is still there


@pytest.mark.slow
def test_a_finished_study_computes_nothing_and_another_one_is_refused(study, data, monkeypatch, tmp_path):
    monkeypatch.setattr(one_run, "run_cell", None)
    again = unmask.ablate(data, out=study.path, axes=("tokens", "target"), **TINY)
    assert again.results == study.results
    with pytest.raises(UserError, match="seeds: 2 in the folder, 3 now"):
        unmask.ablate(data, out=study.path, axes=("tokens", "target"), **TINY | {"seeds": 3})
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="no study"):
        unmask.ablate(data, out=tmp_path, **TINY)


@pytest.mark.slow
def test_a_forecast_comes_first_and_a_dry_run_writes_nothing(data, tmp_path, capsys):
    options = {name: value for name, value in TINY.items() if name not in ("steps", "finetune_epochs")}
    assert unmask.ablate(data, out=tmp_path / "out", hours=0.1, dry_run=True, axes="schedule", **options) is None
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr().out
    minutes, seconds = re.search(r"Forecast: (\d+):(\d\d) for 6 different runs x 2 seeds = 12 runs", said).groups()
    assert 0.6 * 360 < 60 * int(minutes) + int(seconds) <= 360
    with pytest.raises(UserError, match="too short"):
        unmask.ablate(data, out=tmp_path / "out", hours=0.0001, axes="schedule", **options)


def test_wrong_use_is_said_in_a_line(data, photos, tmp_path):
    with pytest.raises(UserError, match="did you mean 'ratio'"):
        unmask.ablate(data, axes="ratios")
    with pytest.raises(UserError, match="unmask ablate DATA"):
        unmask.ablate()
    with pytest.raises(DataError, match="label"):
        unmask.ablate(photos, out=tmp_path / "out", **TINY)
    assert not (tmp_path / "out").exists()


def test_axes_change_one_thing_and_know_the_paper_s_values():
    axes, _ = make_axes(NAMES, CONFIG, 800)
    known = {p["key"] for axis in axes for p in paper()["axes"][axis.name]}
    assert {value.paper for axis in axes for value in axis.values} <= known | {None}
    for axis in axes:
        baseline = [value for value in axis.values if value.key == BASELINE]
        assert len(baseline) == 1, axis.name
        for value in axis.values:
            assert len(value.changes) <= (2 if value.label == "none" else 1)
    ratio = axes[0]
    assert [value.x for value in ratio.values] == [10, 20, 30, 40, 50, 60, 70, 75, 80, 90]
    assert steps_of(axes[-1].values[0].changes, 800) == 100
    assert changed(CONFIG, {"length": 2.0, "mask": "x"}, 3) == CONFIG.with_options({"mask": "x", "seed": 3})
    bands, remarks = make_axes(("augmentation",), CONFIG.with_options({"channels": 5}), 8)
    assert len(bands[0].values) == 3
    assert "5 bands" in remarks[0]


def test_the_paper_s_table_is_the_paper_s():
    """Spot checks against table 1 and figure 5, and numbers often quoted wrongly."""
    axes = paper()["axes"]
    ratio = {p["key"]: p for p in axes["ratio"]}
    assert set(ratio) == {"10", "20", "30", "40", "50", "60", "70", "75", "80", "90"}
    assert max(ratio.values(), key=lambda p: p["finetune"])["key"] == "60"
    assert (ratio["75"]["finetune"], ratio["75"]["linear"]) == (84.9, 73.5)
    tokens = {p["key"]: p for p in axes["tokens"]}
    assert (tokens["with"]["finetune"], tokens["with"]["linear"], tokens["with"]["flops"]) == (84.2, 59.6, 3.3)
    baseline = [(p["finetune"], p["linear"]) for points in axes.values() for p in points]
    assert baseline.count((84.9, 73.5)) == len(axes)  # the same run on every axis
    text = (Path(unmask.__file__).parent / "studies" / "ablation" / "mae_table1.json").read_text()
    assert not {"85.9", "71.4", "70.4", "87.8", "85.2"} & set(re.findall(r"\d+\.\d", text))


def test_intervals_are_student_s_and_differences_are_paired_by_seed(tmp_path):
    assert interval([0.5]).low is None
    one = interval([0.1, 0.2, 0.3])
    assert (one.low, one.high) == pytest.approx((0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)  # t 4.303 * 0.1 / sqrt(3)
    axis = make_axes(("tokens",), CONFIG, 8)[0][0]
    for seed, accuracy in enumerate((0.2, 0.5, 0.8)):
        for key, gain in ((BASELINE, 0.0), ("method=mae(symmetric=True)", 0.01 + 0.0001 * seed)):
            cell = {"key": key, "seed": seed, "changes": {}, "flops": 1e6, "images": 10, "loss": 1.0}
            accuracies = {"finetune": accuracy + gain, "linear": accuracy}
            records_in(tmp_path).add(cell | accuracies | {"seconds": {"pretrain": 1.0}})
    found = rows(axis, records_in(tmp_path).lines)
    difference = found[1].difference["finetune"]
    assert difference.apart  # though the accuracies' own intervals overlap almost wholly
    assert not found[1].difference["linear"].apart
    assert "Fine-tuned: different from the baseline beyond the seeds: with +1.0" in finding(found)
    assert "Linear probe: no value differs" in finding(found)
    heading, lines = table(found)
    assert all(len(line) == len(heading) for line in lines)


@pytest.mark.slow  # 15 s
def test_any_option_is_varied_at_equal_flops_and_judged_at_other_sizes(data, tmp_path):
    models = [f"vit_tiny_patch16_224(depth=1, embed_dim={dim}, num_heads=2)" for dim in (24, 96)]
    options = TINY | {"seeds": 1, "steps": 4, "equal": "flops", "sizes": 2}
    study = unmask.ablate(
        data, out=tmp_path / "out", axis=("mask.ratio=0.5,0.75", f"model={','.join(models)}"), **options
    )
    ratio, model = study.results["axes"]
    assert [value["x"] for value in ratio["values"]] == [0.5, 0.75]
    assert "paper" not in study.results
    gflops = [value["gflops"] for value in model["values"]]
    assert max(gflops) < 1.3 * min(gflops)  # to a whole number of steps
    images = [records_in(study.path).lines[key, 0]["images"] for key in (f"model={m}" for m in models)]
    assert images[0] > images[1]
    assert "no power law" in model["scaling"]
    at_sizes = ratio["sizes"]["0.5"]["linear"]
    assert set(at_sizes) == {"1", "2"}
    for name in ("mask.ratio", "mask.ratio-sizes", "model", "model-sizes"):
        assert (study.path / f"{name}.png").exists()
    again = unmask.ablate(data, out=study.path, axis=("mask.ratio=0.5,0.75", f"model={','.join(models)}"), **options)
    assert again.results == study.results
    with pytest.raises(UserError, match="training before its own, which an ablation does not make"):
        unmask.ablate(data, out=tmp_path / "stages", axis="method=beit", **TINY | {"decoder": None})


@pytest.mark.slow
def test_a_diverged_run_is_left_out_and_said(study, data, tmp_path, monkeypatch):
    from unmask.errors import Diverged

    def diverging(bench, key, changes, seed, *rest):
        if "symmetric" in key:
            raise Diverged("too many non-finite steps")
        return records_in(study.path).lines[key, seed]

    monkeypatch.setattr(one_run, "run_cell", diverging)
    found = unmask.ablate(data, out=tmp_path / "out", axes="tokens", **TINY)
    assert [value["label"] for value in found.results["axes"][0]["values"]] == ["without"]
    assert "symmetric=True), seed 0" in found.results["notes"][-1]
