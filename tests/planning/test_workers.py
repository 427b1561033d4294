"""How images reach the device is chosen by what the data is and what was measured, said, and advised on."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from support.configuring import config_of
from support.small import SMALL, sheet_of

import unmask
from unmask.data.modalities.signal import Signal
from unmask.data.modality import Modality, kinds
from unmask.errors import UserError
from unmask.planning.plan import Plan
from unmask.planning.workers import plan_supply, plan_workers
from unmask.runtime.machine import Machine
from unmask.tasks.pages import write_report
from unmask.training.timing import waiting_advice, waiting_share

CPU = Machine("cpu", "2 CPU cores", 2, 2**33, "32", "")
GPU = Machine("cuda", "a GPU", 16, 2**36, "bf16", "")


def plan(**settings):
    chosen = {"in_memory": "auto", "resize": "auto", "views_per_image": 1, "crop_kind": "random", "modality": "image"}
    return Plan(chosen | {"channels": 3, "workers": None, "image_size": [32, 32]} | settings)


def sheet(**facts):
    usual = {"min_size": (32, 32), "max_size": (32, 32), "count": 1000, "checked": 1000, "bits": {"8": 1000}}
    return sheet_of(**usual | facts)


@pytest.mark.parametrize(
    ("facts", "settings", "value", "reason"),
    [
        ({}, {}, "on", "all are 32 x 32"),
        ({"max_size": (32, 33)}, {}, "off", "differ in size"),
        ({"bits": {"16": 1000}}, {}, "off", "more than 8 bits"),
        ({"checked": 900}, {}, "off", "not all images were looked at"),
        ({"min_size": (90, 90), "max_size": (90, 90)}, {}, "off", "above 64 px"),
        ({"count": 10**7, "checked": 10**7}, {}, "off", "fifth of the free memory"),
        ({}, {"crop_kind": "whole"}, "off", "one by one"),
        ({"max_size": (90, 90), "min_size": (90, 90)}, {"in_memory": "on"}, "on", "asked for"),
    ],
)
def test_small_images_of_one_size_live_on_the_device(facts, settings, value, reason):
    made = plan(**settings)
    plan_supply(made, sheet(**facts), CPU, None)
    assert made.settings["in_memory"] == value
    assert reason in made.reasons["in_memory"]
    with pytest.raises(UserError, match="--in-memory on: the images differ in size"):
        plan_supply(plan(in_memory="on"), sheet(max_size=(40, 32)), CPU, None)


def test_packs_are_resized_quickly_and_files_exactly():
    for packed, value in ((None, "exact"), ("original", "exact"), ("jpeg", "fast"), ("raw", "fast")):
        made = plan()
        plan_supply(made, sheet(), CPU, packed)
        assert made.settings["resize"] == value
    assert "simplejpeg" in made.reasons["resize"]


def test_as_many_processes_as_the_measured_speed_asks_for():
    made = plan(in_memory="off")
    assert plan_workers(made, GPU, preparing=1.0, step=0.3) == pytest.approx(0.3)
    assert made.settings["workers"] == 5  # 1.5 x 3.3
    assert "1e+03 ms of a core, a step 300 ms" in made.reasons["workers"]
    made = plan(in_memory="off")
    assert plan_workers(made, GPU, preparing=9.0, step=0.3) == pytest.approx(0.6)
    assert made.settings["workers"] == 15
    assert "45 would be needed" in made.reasons["workers"]
    made = plan(in_memory="off")
    assert plan_workers(made, CPU, preparing=0.1, step=0.3) == pytest.approx(0.4)
    assert (made.settings["workers"], "25%" in made.reasons["workers"]) == (0, True)
    made = plan(in_memory="off", workers=1)
    assert plan_workers(made, GPU, preparing=1.0, step=0.3) == pytest.approx(1.0)


def test_waiting_is_told_with_what_would_help():
    data = config_of(workers=2, image_size=(224, 224)).data
    records = [{"seconds": 10.0, "waiting": 0.5}, {"step": 3, "event": "x"}, {"seconds": 30.0, "waiting": 0.2}]
    assert waiting_share(records) == pytest.approx(9 / 30)
    assert waiting_share([{"seconds": 3.0}]) is None
    text = waiting_advice(0.3, data, "cuda", 8)
    for words in ("30% of the time", "--workers 4", "unmask pack DATA data.pack", "--views-per-image 4"):
        assert words in text
    assert "--format raw" in waiting_advice(0.3, replace(data, packed="jpeg"), "cuda", 8)
    assert "--in-memory" in waiting_advice(0.3, replace(data, packed="raw", image_size=(32, 32)), "cuda", 8)
    sound = waiting_advice(0.3, replace(data, modality="audio", image_size=(64, 48)), "cuda", 8)
    assert "resampled" in sound
    assert "unmask pack" not in sound  # packs hold images only
    assert waiting_advice(0.1, data, "cuda", 8) is None
    assert waiting_advice(None, data, "cuda", 8) is None


@pytest.mark.slow
def test_a_run_records_says_and_reports_how_long_it_waited(photos, tmp_path, monkeypatch, capsys):
    import time

    from unmask.data.datasets.images import Samples

    read = Samples.substitute
    monkeypatch.setattr(Samples, "substitute", lambda self, i: time.sleep(0.02) or read(self, i))  # a slow disk
    run = unmask.pretrain(photos, out=tmp_path / "run", steps=4, in_memory="off", views_per_image=2, **SMALL)
    said = " ".join(capsys.readouterr().out.split())
    summary = json.loads((run.path / "summary.json").read_text())
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert all(0.1 < r["waiting"] <= 1 for r in records if "loss" in r)
    assert summary["waiting"] > 0.1
    assert "waiting for data" in said
    assert "What helps: pack the images once" in said
    assert "crops of each decoded image" in said
    page = write_report(run.path).read_text()
    assert "of the time waiting for data" in page
    assert "What helps: pack the images once" in page


def test_images_in_memory_resume_to_the_same_losses(photos, tmp_path, capsys):
    def losses(out, **options):
        run = unmask.pretrain(photos, out=tmp_path / out, in_memory="on", log_every=1, **SMALL, **options)
        return [json.loads(line)["loss"] for line in open(run.path / "metrics.jsonl") if "loss" in json.loads(line)]

    whole = losses("whole", steps=6, views_per_image=2)
    assert "asked for" in capsys.readouterr().out
    config = unmask.Run(tmp_path / "whole").config
    assert config.data.in_memory == "on"
    from unmask.data.datasets.images import Samples
    from unmask.data.loaders.on_device import InMemory
    from unmask.data.source import open_source
    from unmask.planning.loaders import make_loader

    samples = Samples(open_source(photos), range(24), channels=3)
    assert isinstance(make_loader(config, samples), InMemory)
    assert losses("again", steps=6, views_per_image=2) == whole
    with pytest.raises(UserError, match="do not go evenly into 8"):
        losses("uneven", steps=2, views_per_image=3)


@pytest.mark.parametrize("kind", sorted(kinds()))
@pytest.mark.parametrize("machine", [CPU, replace(GPU, cores=2)])
def test_where_reading_takes_more_than_thirty_percent_the_plan_says_what_makes_it_cheaper(kind, machine):
    few, many = (plan(in_memory="off", modality=kind) for _ in range(2))
    plan_workers(few, machine, preparing=0.2, step=1.0)
    plan_workers(many, machine, preparing=2.0, step=1.0)
    remedy = kinds()[kind].cheaper.format(side=48)
    assert remedy not in few.reasons["workers"]
    assert remedy in many.reasons["workers"]
    assert remedy != Modality.cheaper
    data = replace(config_of().data, modality=kind, image_size=(32, 32))
    if kind != "image":
        said = waiting_advice(0.4, data, "cpu", 2)
        assert remedy in said  # after a run too, and no advice for images
        assert "unmask pack" not in said


def test_clips_are_to_be_as_large_as_the_model_needs_not_as_some_number_says():
    for size, named in (([8, 32, 32], "scale=-2:48"), ([16, 224, 224], "scale=-2:336")):
        made = plan(in_memory="off", modality="video", image_size=size)
        plan_workers(made, CPU, preparing=2.0, step=1.0)
        assert named in made.reasons["workers"]


def test_a_slow_reader_is_measured_and_the_plan_says_what_to_do(tmp_path, monkeypatch, capsys):
    values = np.random.default_rng(0).normal(size=(12, 2, 64)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    decode = Signal.decode
    monkeypatch.setattr(Signal, "decode", lambda self, *given: time.sleep(0.03) or decode(self, *given))
    model = {
        "model": "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)",
        "decoder": "full(dim=16, depth=1, heads=2)",
    }
    unmask.pretrain(
        tmp_path / "a.npy", out=tmp_path / "run", modality="signal", batch=4, steps=1, dry_run=True, **model
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "of the time, which is much" in said
    assert "Parquet in small row groups" in said
