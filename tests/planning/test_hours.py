"""`--hours` is the time of the whole command: imports, measuring, training and the report."""

import re
import subprocess
import sys
import time

import pytest
import torch

from unmask.errors import UserError
from unmask.planning.length import finishing, in_time, plan_length
from unmask.planning.plan import Plan
from unmask.runtime import stopwatch
from unmask.runtime.machine import Machine
from unmask.training.settings import TrainingSettings

GPU = Machine("cuda", "a GPU", 8, 2**36, "bf16", "")
OPEN = {"method": "mae", "steps": None, "epochs": None, "probe": None, "batch": 10, "warmup": None, "log_every": None}
OPEN |= {"save_every": None, "keep_every": None}


@pytest.mark.parametrize("hours", [0.01, 0.1, 1.0, 8.0])
@pytest.mark.parametrize("spent", [3.0, 20.0])
def test_the_plan_keeps_time_for_what_was_spent_and_for_the_end(hours, spent):
    steps, seconds = plan_length(Plan(OPEN | {"hours": hours}), 1000, 0.1, GPU, spent)
    assert seconds is not None
    assert spent + seconds + finishing(hours) == pytest.approx(3600 * hours)
    assert 0.9 * seconds < steps * 0.1 <= seconds
    assert 5 <= finishing(hours) < 0.26 * 3600 * hours
    assert finishing(8.0, 10**9) > finishing(8.0) + 20  # a large checkpoint takes its time


def test_hours_that_are_over_before_training_are_refused_with_what_would_do():
    with pytest.raises(
        UserError, match=r"--hours 0.002 \(0:07\) leaves no time to train: the start took 12 s"
    ) as caught:
        plan_length(Plan(OPEN | {"hours": 0.002}), 1000, 0.5, GPU, 12.0)
    (enough,) = re.findall(r"give --hours (\S+)", str(caught.value))
    assert plan_length(Plan(OPEN | {"hours": float(enough)}), 1000, 0.5, GPU, 12.0)[0] >= 5


def test_the_loop_gets_what_is_left_when_it_starts():
    settings = {"steps": 10, "batch": 1, "lr": 1.0}
    training = TrainingSettings(**settings, hours=0.1, seconds=300.0)
    fresh = in_time(training, 0, 100.0, begun=False)
    assert fresh.seconds == pytest.approx(360 - 100 - finishing(0.1), abs=0.01)
    assert in_time(training, 0, 40.0, begun=True).seconds == 260.0  # the start of a resumed run counts too
    untimed = TrainingSettings(**settings, epochs=1.0)
    assert in_time(untimed, 0, 40.0, begun=False) is untimed


def test_a_command_begins_with_its_process_and_a_call_with_its_imports():
    stopwatch.began()  # what others left behind
    now = time.monotonic()
    assert 0 <= stopwatch.began() - now < 1
    stopwatch.imported(7.0)
    assert stopwatch.began() == pytest.approx(time.monotonic() - 7, abs=1)
    assert stopwatch.began() == pytest.approx(time.monotonic(), abs=1)  # said once
    stopwatch.run_by_command_line()
    assert stopwatch.began() == stopwatch._Begun.package < now
    assert stopwatch.began() >= now


@pytest.mark.slow
@pytest.mark.parametrize("called", ["command", "python"])
def test_the_whole_command_ends_in_time_and_uses_it(tmp_path, called):
    """Two thirds of a minute on a machine that others use too."""
    hours, size = 40 / 3600, "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"
    options = {"model": size, "decoder": "full(dim=32, depth=1, heads=2)", "batch": 16, "device": "cpu", "hours": hours}
    if called == "command":
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "unmask", "pretrain", "demo", "--out", "run", *flags]
    else:
        command = [sys.executable, "-c", f"import unmask; unmask.pretrain('demo', out='run', **{options!r})"]
    start = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    took = time.monotonic() - start
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert 0.6 * 40 < took < 1.15 * 40, f"{took:.1f} s\n{done.stdout[-2000:]}"
    copies = sorted((tmp_path / "run").glob("step_*.ckpt"))
    assert len(copies) == 4, copies
    assert not (tmp_path / "run" / "last.1.ckpt").exists()
    (times,) = re.findall(r"in all [\d,]+ MB, ([\d.]+) times the encoder", done.stdout)
    assert float(times) < 16
    assert "optimizer" not in torch.load(copies[-1], weights_only=True)
