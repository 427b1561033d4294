"""What the runtime chooses on a machine, what it refuses, and how the plan says it."""

import json

import pytest
import torch
from support.small import SMALL

import unmask
from unmask.errors import UserError
from unmask.runtime import machine, openmp
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import CHOICES, RuntimeSettings


@pytest.fixture(autouse=True)
def _as_it_was():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_one_dnn_is_used_only_where_it_is_exact_and_faster(monkeypatch):
    for found, value, word in (
        ((2.0, 4e-7), "onednn", "still fp32"),
        ((3.0, 3e-3), "default", "would not be fp32"),  # a CPU whose oneDNN rounds to bf16
        ((1.1, 4e-7), "default", "not much faster"),
    ):
        monkeypatch.setattr(machine, "_onednn", lambda found=found: found)
        chosen, why = machine.choices("cpu")["matmul"]
        assert (chosen, word in why) == (value, True)
    monkeypatch.setattr(machine, "_onednn", lambda: (3.0, 3e-3))
    with pytest.raises(UserError, match="would not compute in fp32"):
        machine.check(RuntimeSettings(matmul="onednn"))
    assert "default" in machine.tune("cpu", RuntimeSettings(matmul="onednn"))  # a run that began on another machine
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_error_of_one_dnn_is_measured_not_assumed():
    speed, error = machine._onednn()
    assert speed > 0
    assert 0 < error < 0.1
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    rounded = (x.bfloat16() @ x.bfloat16().T).double()
    exact = x.double() @ x.double().T
    assert (rounded - exact).norm() / exact.norm() > machine.EXACT  # what the bound is to catch


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attention": "spda"}, "sdpa"),
        ({"compile": "yes"}, "There are: auto, on, graphs, off"),
        ({"matmul": "tf32", "device": "cpu"}, "CUDA"),
        ({"compile": "graphs", "device": "cpu"}, "CUDA"),
        ({"threads": 0}, "--threads must be from 1"),
        ({"threads": 10_000}, "--threads must be from 1"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words) as caught:
        machine.check(RuntimeSettings(**settings))
    assert "\n" not in str(caught.value)


def test_the_plan_says_every_choice_with_its_reason_and_the_run_keeps_it(tmp_path):
    from unmask.planning.plan import Plan
    from unmask.planning.runtime import plan_runtime

    plan = Plan({"attention": "sdpa", "threads": 1})
    plan_runtime(plan, machine.machine("cpu", "bf16-weights"))
    rows = {name: (value, why) for name, value, why in plan.rows()}
    assert {*CHOICES, "precision", "threads"} <= rows.keys()
    assert rows["attention"] == ("sdpa", "asked for")
    assert rows["precision"][0] == "bf16-weights"
    assert all(why for _, why in rows.values())
    json.dumps(plan.settings)


def test_where_compiling_fails_the_plan_goes_on_without_and_says_so(monkeypatch):
    from unmask.planning import measure
    from unmask.planning.plan import Plan

    tried, measured = [], measure.Measured(1.0, 1, {})
    devices = make_devices(RuntimeSettings())

    def fails_when_compiled(objective, loader, step, *rest):
        tried.append(step.compile)
        if step.compile != "off":
            raise RuntimeError("no compiler here")
        return measured

    monkeypatch.setattr(measure, "_measure", fails_when_compiled)
    plan = Plan({"compile": "graphs", "batch": 8, "accumulate": 1}, {"compile": "so few images"})
    assert measure.trial(lambda: None, lambda first: iter(()), plan, devices, retry=False) is measured
    assert tried == ["graphs", "on", "off"]
    assert "--compile on failed on this machine (RuntimeError: no compiler here)" in plan.reasons["compile"]
    asked = Plan({"compile": "on", "batch": 8, "accumulate": 1}, {"compile": "asked for"})
    with pytest.raises(RuntimeError):  # what was asked for is not changed
        measure.trial(lambda: None, lambda first: iter(()), asked, devices, retry=False)


def test_idle_threads_sleep_on_a_busy_machine_unless_the_user_says_how(monkeypatch):
    import os
    import sys

    for load, own, expected in (
        (9.0, {}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        (0.0, {}, {"GOMP_SPINCOUNT": openmp.BRIEFLY}),
        (9.0, {"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ):
        for name in openmp.VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in own.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load * (os.cpu_count() or 1), 0, 0))
        with monkeypatch.context() as fresh:
            fresh.delitem(sys.modules, "torch")
            openmp.settle_waiting()
        assert {name: os.environ[name] for name in openmp.VARIABLES if name in os.environ} == expected
        assert all(f"{name}={value}" in openmp.waiting() for name, value in expected.items())
    monkeypatch.delenv("OMP_WAIT_POLICY")
    openmp.settle_waiting()  # torch is loaded: it would say what is not so
    assert "torch was imported before unmask" in openmp.waiting()


@pytest.mark.parametrize("threads", [None, 1])
def test_a_run_goes_on_with_its_settings_but_with_the_threads_of_this_machine(photos, tmp_path, monkeypatch, threads):
    from unmask.cli.commands import pretrain

    tuned, options = [], SMALL | {"attention": "sdpa", "threads": threads, "steps": 1}
    unmask.pretrain(photos, out=tmp_path / "run", **options)
    monkeypatch.setattr(pretrain, "tune", lambda device, settings: tuned.append(settings) or "")
    unmask.pretrain(photos, out=tmp_path / "run", dry_run=True, **options)
    assert [(settings.attention, settings.threads) for settings in tuned] == [("sdpa", threads)]


@pytest.mark.parametrize(("gains", "sizes"), [({192: 0.03}, [192]), ({192: 0.9, 768: 2.0}, [192, 768])])
def test_cpus_without_bf16_are_told_by_small_products(gains, sizes, monkeypatch):
    measured = []
    monkeypatch.setattr(machine, "_gain", lambda size: measured.append(size) or gains[size])
    assert machine._bf16_gain.__wrapped__() == gains[sizes[-1]]
    assert measured == sizes


def test_lists_in_a_plan_are_no_sizes():
    from unmask.planning.plan import Plan

    plan = Plan({"image_size": [64, 48], "ratios": [0.5, 1.0, 2.0], "betas": (0.9, 0.999), "jitter": [0.5, 1.5]})
    plan.reasons = dict.fromkeys(plan.settings, "")
    assert [text for _, text, _ in plan.rows()] == ["64 x 48", "0.5, 1, 2", "0.9, 0.999", "0.5, 1.5"]
