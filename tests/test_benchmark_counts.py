"""The gate on counts of a training step: see benchmarks/counts.py, which also rewrites the limits."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parent.parent / "benchmarks" / "counts.py"


@pytest.fixture(name="counts", scope="module")
def _counts():
    spec = importlib.util.spec_from_file_location("counts", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["counts"] = module
    spec.loader.exec_module(module)
    return module


def test_a_training_step_costs_no_more_than_it_did(counts):
    grown, _ = counts.compare(counts.counted(), counts.limits())
    assert not grown, "\n".join([*grown, counts.ADVICE, f"torch {torch.__version__}"])


def test_a_step_never_waits_for_the_device(counts):
    limits = counts.limits()
    assert [limits[case]["host_syncs"] for case in counts.CASES] == [0] * len(counts.CASES)


def test_the_counter_sees_launches_waits_and_memory(counts):
    x = torch.ones(4, 4)
    with counts.Counter() as counter:
        y = (x @ x).relu()  # two kernels, two tensors
        y.t()[2:]  # views cost nothing
        y.mul_(2.0)  # a kernel without new memory
        float(y.sum())  # another tensor, and a wait
    assert (counter.kernels, counter.allocations, counter.bytes, counter.syncs) == (5, 3, 64 + 64 + 4, 1)
    with counts.Counter() as counter:
        x[x > 0]
    assert counter.syncs >= 1  # how much that is, only the device knows


def test_what_grew_is_named_with_how_to_accept_it(counts):
    limits = {"fp32": {"kernels": 100, "host_syncs": 0}, "loader": {"bytes_per_sample": 10}}
    found = {"fp32": {"kernels": 103, "host_syncs": 1}, "loader": {"bytes_per_sample": 40}}
    grown, _ = counts.compare(found, limits)
    assert grown == ["fp32, host_syncs: 1, the limit is 0", "fp32, kernels: 103, the limit is 100 (+3.0%)",
                     "loader, bytes_per_sample: 40, the limit is 10 (+300.0%)"]  # fmt: skip
    assert counts.compare({"fp32": {"kernels": 101, "host_syncs": 0}, "loader": {"bytes_per_sample": 10}}, limits) == (
        [],
        [],
    )
    assert "counts.py --write" in counts.ADVICE


def test_the_performance_page_shows_the_records(tmp_path, monkeypatch):
    import json

    monkeypatch.syspath_prepend(FILE.parent)
    import page

    text = page.PAGE.read_text(encoding="utf-8")
    assert page.render(text) == text, "write it anew: python benchmarks/page.py"
    (tmp_path / "a.json").write_text(json.dumps({"title": "A"}))
    (tmp_path / "a.txt").write_text("1.5x")
    (tmp_path / "b.json").write_text(json.dumps({"title": "B"}))
    marks = "\n".join(f"<!-- record {mark} -->\nold\n<!-- end -->" for mark in ("a run a", "c run c", "*"))
    shown = page.render(marks, tmp_path)
    assert "1.5x" in shown
    assert "old" not in shown
    assert "Not run yet. To run it: `run c`" in shown
    assert shown.count("b.json") == 2
    assert page.render(shown, tmp_path) == shown
