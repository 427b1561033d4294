"""The calculator of docs/scale.md: what it reads off the code, and its arithmetic."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "scale.py"
KNOWN = {"ViT-B/16": 111_907_840, "ViT-L/16": 329_541_888, "ViT-H/14": 657_074_508}  # of MAE's reference code


@pytest.fixture(scope="module")
def scale():
    import sys

    spec = importlib.util.spec_from_file_location("scale", FILE)
    module = sys.modules["scale"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(scale):
    model, patch, _ = scale.MODELS["ViT-B/16"]
    return scale.facts(model, patch)


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("ViT-L/16", "ViT-H/14")]


@pytest.mark.parametrize("name", ["ViT-B/16", *LARGE])
def test_parameters_are_those_of_the_reference(scale, base, name):
    model, patch, _ = scale.MODELS[name]
    found = base if name == "ViT-B/16" else scale.facts(model, patch)
    assert found.parameters == KNOWN[name]
    assert found.trained < found.parameters


def test_bytes_between_gpus_are_those_of_rings(scale, base):
    assert scale.sent(100, 8, "ddp") == 2 * 7 / 8 * 400
    assert scale.sent(100, 8, "fsdp2") == 3 * 7 / 8 * 400
    assert scale.sent(100, 1, "ddp") == 0


def test_shards_save_memory_and_cost_time_only_where_they_must(scale, base):
    shared = {"traffic": 241, "cluster": scale.Cluster(), "most": 256, "batch": 256 * 64, "gpus": 64}
    ddp, fsdp2 = (scale.step(base, strategy=strategy, **shared) for strategy in ("ddp", "fsdp2"))
    assert fsdp2["state_gb"] < 0.2 * ddp["state_gb"]
    assert fsdp2["sent_mb"] == pytest.approx(1.5 * ddp["sent_mb"])
    assert ddp["efficiency"] == fsdp2["efficiency"] == 1  # the wire is hidden behind the computing
    slow = shared | {"cluster": replace(scale.Cluster(), network=1.0)}
    assert scale.step(base, strategy="ddp", **slow)["efficiency"] < 0.9


def test_the_speed_of_one_gpu_is_the_traffic_aware_limit(scale, base):
    one = scale.step(base, 241, scale.Cluster(), gpus=1, batch=256, strategy="ddp", most=256)
    assert one["images_per_second"] == pytest.approx(8000, rel=0.1)
