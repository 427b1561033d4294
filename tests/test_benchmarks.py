"""Every benchmark still runs: its whole path, with --smoke, in a process and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = [
    path
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if re.search(r'^if __name__ == "__main__":', path.read_text(encoding="utf-8"), re.M)
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


def test_there_are_benchmarks():
    assert len(SCRIPTS) >= 15
