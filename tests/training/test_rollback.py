"""A step that goes wrong: left out without waiting for the device, gone back from, and the end of patience."""

import math

import numpy as np
import pytest
import torch
from rich.console import Console
from support.small_training import Crash, Line, loader, losses, records, train
from torch.utils._python_dispatch import TorchDispatchMode

from unmask.errors import Diverged
from unmask.methods.mae import MAE
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import RuntimeSettings
from unmask.training import checkpoint
from unmask.training.log import Log
from unmask.training.loop import fit
from unmask.training.loss_guard import limit_of
from unmask.training.settings import Fit

SHORT = {"steps": 60, "patience": 3, "warmup": 0, "lr": 0.02}


class Reads(TorchDispatchMode):
    """Counts the times that a value of a tensor is asked for, which on a GPU waits for it."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in str(function) or "is_nonzero" in str(function)
        return function(*args, **(kwargs or {}))


def without(gone, change=lambda number, x: x):
    """A loader that has no batches of these numbers; `change(number, x)` may spoil some."""

    def start(first):
        numbers = (n for n in range(10**6) if n not in gone)
        for place, number in enumerate(numbers):
            if place >= first:
                x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
                yield {"views": [change(number, x)]}

    return start


def run(out, stream, objective=None, watch=lambda step, steps: {}, **options):
    out.mkdir(exist_ok=True)
    config = Fit(**{"batch": 8, "log_every": 2, "save_every": 5} | SHORT | options)
    log = Log(out, Console(quiet=True), 8, 100)
    objective = objective or Line()
    fit(objective, stream, config, out, make_devices(RuntimeSettings()), log, watch)
    return objective


def test_nothing_in_a_step_waits_for_the_device(tmp_path, encoder):
    """Ten more steps between two records ask for no more values, whatever the objective."""
    for name, objective, shape in (
        ("line", Line, (8, 3)),
        ("mae", lambda: MAE(encoder, decoder="full(dim=32, depth=1, heads=2)"), (2, 3, 32, 32)),
    ):
        counts = []
        for steps in (2, 12):
            with Reads() as reads:
                stream = lambda first, shape=shape: iter(lambda: {"views": [torch.rand(shape)]}, None)  # noqa: E731
                run(tmp_path / f"{name}{steps}", stream, objective(), steps=steps, log_every=50, save_every=50)
            counts.append(reads.count)
        assert counts[0] == counts[1], name


def test_other_optimizers_leave_the_step_out_too(tmp_path):
    for optimizer in ("sgd", "lars"):
        kept, objective = {}, Line(bad_steps=(6,))

        def remember(step, steps, kept=kept, objective=objective):
            kept[step] = objective.net.weight.detach().clone()
            return {}

        train(tmp_path / optimizer, objective, remember, optimizer=optimizer, steps=8, lr=1e-3)
        assert torch.equal(kept[5], kept[6])
        assert not torch.equal(kept[6], kept[7])


def test_a_spike_is_left_out_recorded_with_its_limit_and_changes_no_weight(tmp_path):
    kept, objective = {}, Line()
    spoil = lambda number, x: 1e4 * x if number == 41 else x  # noqa: E731

    def remember(step, steps):
        kept[step] = objective.net.weight.detach().clone()
        return {}

    run(tmp_path / "run", without((), spoil), objective, remember, spike=10.0)
    (event,) = records(tmp_path / "run", "skipped")
    assert (event["step"], event["why"]) == (42, "spike")
    assert float(event["loss"]) > 1000 * float(event["limit"])
    assert torch.equal(kept[41], kept[42])
    assert not torch.equal(kept[42], kept[43])
    assert max(losses(tmp_path / "run").values()) < 100  # what is logged is the mean of the steps that count
    run(tmp_path / "off", without((), spoil))
    assert not records(tmp_path / "off", "skipped")
    assert losses(tmp_path / "off")[42] > 1e6


def poison(objective, at, value):
    """What to give as `watch`: spoils the weights once, as a destructive update would."""
    done = []

    def watch(step, steps):
        if step == at and not done:
            done.append(step)
            with torch.no_grad():
                objective.net.weight.fill_(value)
        return {}

    return watch


@pytest.mark.parametrize(("value", "spike"), [(math.nan, None), (1e3, 10.0)])
def test_going_back_equals_a_run_that_never_saw_the_batches(tmp_path, value, spike):
    objective = Line()
    run(tmp_path / "run", without(()), objective, poison(objective, 32, value), spike=spike)
    (event,) = records(tmp_path / "run", "rolled_back")
    assert (event["step"], event["from"], event["batches"]) == (30, 36, [30, 36])
    assert event["why"] == ("spike" if spike else "non-finite")
    other = run(tmp_path / "other", without(range(30, 36)), spike=spike)
    assert losses(tmp_path / "run") == losses(tmp_path / "other")
    assert len(losses(tmp_path / "run")) == 30
    assert all(torch.equal(a, b) for a, b in zip(objective.parameters(), other.parameters()))


@pytest.mark.parametrize("crash", [34, 37])
def test_a_crash_before_or_after_going_back_changes_nothing(tmp_path, crash):
    class Bad(Line):  # by what it is given, so that a second process meets it too
        def forward(self, batch):
            loss = super().forward(batch)["loss"]
            return {"loss": torch.where((batch["views"][0] > 1e4).any(), torch.nan, loss)}

    spoil = lambda number, x: 1e5 + x if 31 < number < 36 else x  # noqa: E731
    run(tmp_path / "whole", without((), spoil), Bad())

    def fail(step, steps):
        if step == crash and (crash < 36 or records(tmp_path / "run", "rolled_back")):
            raise Crash
        return {}

    with pytest.raises(Crash):
        run(tmp_path / "run", without((), spoil), Bad(), fail)
    run(tmp_path / "run", without((), spoil), Bad())
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert records(tmp_path / "run", "rolled_back") == records(tmp_path / "whole", "rolled_back") != []


def test_after_three_times_it_ends_with_a_remedy_and_good_weights(tmp_path):
    objective = Line(bad_steps=range(33, 999))
    with pytest.raises(Diverged, match=r"Going back 3 times.*--lr") as caught:
        run(tmp_path / "run", without(()), objective, keep_every=10, spike=10.0)
    assert caught.value.exit_code == 4
    went = records(tmp_path / "run", "rolled_back")
    assert [event["step"] for event in went] == [30, 25, 20]  # further back each time
    saved = checkpoint.read_newest(tmp_path / "run")[1]
    assert saved["step"] == 20
    assert torch.equal(saved["objective"]["net.weight"], objective.net.weight)
    assert objective.net.weight.isfinite().all()


def test_ordinary_noise_is_never_a_spike():
    rng = np.random.default_rng(0)
    for _ in range(20):
        for noise in (0.0, 0.02, 0.3):
            course = np.linspace(1.3, 0.3, 400) * np.exp(noise * rng.standard_normal(400))
            for place in range(20, 400):
                assert course[place] <= limit_of(course[max(0, place - 100) : place].tolist(), 10.0)
    flat = [0.3 + 0.01 * value for value in rng.standard_normal(100)]
    assert 0.55 < limit_of(flat, 10.0) < 0.65  # twice the usual
    assert limit_of(flat[:19], 10.0) == math.inf  # too few to say


def test_the_share_of_time_that_data_takes_is_recorded(tmp_path):
    import time
    from statistics import median

    def slow(first):
        for batch in loader()(first):
            time.sleep(0.1)
            yield batch

    run(tmp_path / "slow", slow, steps=6)
    run(tmp_path / "fast", loader(), steps=6, watch=lambda step, steps: time.sleep(0.1) or {})
    slowly, quickly = (median(r["waiting"] for r in records(tmp_path / name)) for name in ("slow", "fast"))
    assert slowly > 0.5 > quickly  # medians: on a busy machine any one step may take long
