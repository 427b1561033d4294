"""Every benchmark still runs: its whole path, with --smoke, in a process and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import contenders
import kill_storm
import limits
import pytest
import side_by_side
from side_by_side import Variant

ROOT = Path(__file__).parent.parent
SCRIPTS = [
    path
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if not path.stem.startswith("same_numbers")  # it compares two trees: the test below
    and re.search(r'^if __name__ == "__main__":', path.read_text(encoding="utf-8"), re.M)
]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_smoke_run_goes_through_and_leaves_the_results_alone(script, tmp_path):
    results = ROOT / "benchmarks" / "results"
    before = {path: path.stat().st_mtime_ns for path in [*results.iterdir(), *(ROOT / "docs").rglob("*")]}
    cwd, out = tmp_path / "cwd", tmp_path / "out"
    cwd.mkdir()
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--smoke", "--out", str(out)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "smoke run, the figures mean nothing" in done.stdout
    assert not list(cwd.iterdir()), "a smoke run writes into --out only"
    after = {path: path.stat().st_mtime_ns for path in [*results.iterdir(), *(ROOT / "docs").rglob("*")]}
    assert after == before, "a smoke run leaves the records and the pages as they are"


@pytest.mark.slow
def test_the_tree_computes_the_same_numbers_as_the_last_commit_in_a_short_run(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("there is no history to take a commit from")
    command = [sys.executable, str(ROOT / "benchmarks" / "same_numbers.py"), "--smoke", "--before", "HEAD"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "all equal" in done.stdout


def test_what_the_storm_of_kills_does_not_compare_is_what_the_docs_list():
    text = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    section = text.split("## What the clock decides")[1].split("\n## ")[0]
    listed = set(re.findall(r"`(\w+)`", section.split("In pages")[0]))
    assert kill_storm.CLOCK == listed


def test_there_are_benchmarks():
    assert len(SCRIPTS) >= 15


def test_a_variant_that_fails_is_left_out_with_its_reason_and_another_becomes_the_baseline(tmp_path, capsys):
    toys = [Variant(str(count), "side_by_side.py:sums", {"count": count}) for count in (0, 10, 20)]
    record = side_by_side.compare("toys", "Toys", toys, baseline="0", rounds=1, out=tmp_path, in_process=True)
    assert record["baseline"] == "10"
    assert record["summary"].keys() == {"10", "20"}
    assert "0: left out, it failed: ValueError: count must be at least 1" in (tmp_path / "toys.txt").read_text()
    assert "0 is left out: ValueError" in capsys.readouterr().err
    none = side_by_side.compare("none", "None", toys[:1], baseline="0", rounds=1, out=tmp_path, in_process=True)
    assert none["summary"] == {}


@pytest.mark.slow
def test_a_variant_that_never_answers_does_not_hold_the_others_up(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "LONGEST", 6)
    (tmp_path / "toys.py").write_text("import time\n\ndef idle():\n    time.sleep(600)\n")
    toys = [Variant("idle", f"{tmp_path}/toys.py:idle"), Variant("sums", f"{tmp_path}/sums.py:sums", {"count": 10})]
    (tmp_path / "sums.py").write_text("def sums(count):\n    return lambda: count\n")
    record = side_by_side.compare("toys", "Toys", toys, baseline="sums", rounds=1, out=None)
    assert record["errors"] == {"idle": "no answer within 6 s"}
    assert record["summary"].keys() == {"sums"}


def test_bf16_is_not_measured_on_a_cpu_that_emulates_it_and_that_is_said(monkeypatch, capsys):
    both = [Variant(name, "contenders.py:step", {"precision": name}) for name in ("32", "bf16")]
    assert contenders.measurable(both, "cuda") == (both, {})
    for module in (contenders, limits):
        monkeypatch.setattr(module, "lacks_bf16", lambda device: "it emulates bf16")
    measured, facts = contenders.measurable(both, "cpu")
    assert measured == both[:1]
    assert facts == {"not measured": "bf16, since it emulates bf16"}
    assert limits.peaks("cpu", 16).keys() == {"fp32"}
    assert limits.allowed_precision(None, "cpu") == limits.allowed_precision("32", "cpu") == "32"
    assert "bf16 is not measured, fp32 is: it emulates bf16" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--precision bf16 is not measured: it emulates bf16"):
        limits.allowed_precision("bf16", "cpu")
