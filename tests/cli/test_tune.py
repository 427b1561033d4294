"""`unmask tune` from end to end on a tiny model: rounds, judging, pages, and nothing lost by a kill."""

import json
import re
import shutil
import signal
import time

import pytest
from support.forked import start, wait
from support.small import SMALL
from support.two_classes import write

import unmask
from unmask.errors import DataError, UserError
from unmask.studies.comparison.judging import unpacked
from unmask.studies.engine import Records
from unmask.studies.tuning.run import FIELDS, RECORDS

TINY = SMALL | {"steps": 4, "seeds": 1, "evaluators": "knn"}
AXES = ("mask.ratio=0.5,0.6,0.75,0.9", "patch_size=4,8")


def records(out):
    lines = Records(out / RECORDS, FIELDS).lines
    return {place: {k: v for k, v in line.items() if k != "seconds"} for place, line in lines.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), train=16, test=6)


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    return unmask.tune(data, out=tmp_path_factory.mktemp("study") / "out", axes=AXES, **TINY)


@pytest.mark.slow
def test_rounds_are_run_judged_and_written(study, data):
    runs = records(study.path)
    ratio, patch = study.results["axes"]
    assert [len(done["values"]) for done in ratio["rounds"]] == [4, 3]
    assert [done["share"] for done in ratio["rounds"]] == [0.5, 1.0]
    whole = {key for key, share, _ in runs if share == "1"}
    assert len(whole) == 3 + 1  # the patch size's own value has been run
    for line in runs.values():
        assert len(unpacked(line["correct"])) == 32  # train and val; the test split is not looked at
    flops = [line["flops"] for (_, share, _), line in runs.items() if share == "1"]
    assert max(flops) < 2.1 * min(flops)  # to a whole number of steps, of four
    assert not list((study.path / "runs").glob("*"))
    page = (study.path / "tuning.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:|https://)', page)
    assert ratio["finding"] in page.replace("&#39;", "'")
    assert "arxiv.org/abs/2111.06377" in page
    assert json.loads((study.path / "tuning.json").read_text()) == study.results
    assert study.results["next"].startswith("unmask pretrain")
    assert f"--model '{TINY['model']}'" in study.results["next"]  # what the study was given, the next run gets too
    assert patch["axis"] == "patch_size"


@pytest.mark.slow
def test_killed_and_continued_or_side_by_side_it_finds_the_same(data, tmp_path):
    out, options = tmp_path / "killed", TINY | {"axes": AXES[0]}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    process, deadline = start("tune", data, "--out", out, *flags), time.monotonic() + 300
    while time.monotonic() < deadline and process.is_alive():
        if (out / RECORDS).exists() and list((out / "runs").glob("*/last.ckpt")):
            break
        time.sleep(0.005)
    process.kill()
    assert wait(process) == -signal.SIGKILL
    whole = tmp_path / "whole"  # of the same plan: what is measured for one, such as --matmul, may differ under load
    whole.mkdir()
    for name in (".unmask", "study.json"):
        shutil.copy(out / name, whole)
    unmask.tune(data, out=out, jobs=2, **options)
    unmask.tune(data, out=whole, **options)
    mine = records(out)
    assert len(mine) == 4 + 3
    assert mine == records(whole)
    with pytest.raises(UserError, match="seeds: 1 in the folder, 2 now"):
        unmask.tune(data, out=out, **options | {"seeds": 2})


def test_wrong_use_is_said_in_a_line(data, photos, tmp_path, capsys):
    with pytest.raises(UserError, match="did you mean 'ratio'"):
        unmask.tune(data, axes="ratios")
    with pytest.raises(UserError, match="unmask tune DATA"):
        unmask.tune()
    with pytest.raises(UserError, match="one judge"):
        unmask.tune(data, evaluators=("knn", "linear"))
    with pytest.raises(UserError, match="no evaluator 'lineer', did you mean 'linear'"):
        unmask.tune(data, evaluators="lineer")
    with pytest.raises(DataError, match="label"):
        unmask.tune(photos, out=tmp_path / "out", **TINY)
    with pytest.raises(UserError, match="too short"):
        unmask.tune(data, out=tmp_path / "out", hours=0.0001, **TINY | {"steps": None})
    assert unmask.tune(data, out=tmp_path / "out", dry_run=True, axes=AXES, **TINY) is None
    said = capsys.readouterr().out
    assert "mask.ratio: 0.5; 0.6; 0.75*; 0.9 (rounds: 4 at 50%, 3 at 100%; the last with 1 seed)" in said
    assert "for at most 9 runs" in said
    assert not (tmp_path / "out").exists()
