"""The loop: exact resume, what happens to non-finite steps, signals, accumulation, time budgets."""

import json
import signal

import pytest
import torch
from rich.console import Console
from support.small_training import Crash, Line, losses, train
from torch import nn

from unmask.errors import Diverged, Interrupted, UserError
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import RuntimeSettings
from unmask.training import checkpoint
from unmask.training.log import Log, duration
from unmask.training.loop import fit
from unmask.training.optimizer import groups
from unmask.training.schedule import learning_rate, peak_rate
from unmask.training.settings import Fit


@pytest.mark.parametrize("crashes", [(3,), (7, 13), (1, 2, 19)])
def test_a_crashed_run_continues_with_identical_losses_and_weights(tmp_path, crashes):
    whole = train(tmp_path / "whole")

    for crash in crashes:

        def fail(step, steps, crash=crash):
            if step == crash:
                raise Crash
            return {}

        with pytest.raises(Crash):
            train(tmp_path / "broken", watch=fail)
    mended = train(tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 10
    for a, b in zip(whole.parameters(), mended.parameters()):
        assert torch.equal(a, b)


def test_a_torn_last_line_of_the_metrics_is_mended(tmp_path):
    def fail(step, steps):
        if step == 9:
            with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
                file.write('{"step": 9, "lo')
            raise Crash
        return {}

    with pytest.raises(Crash):
        train(tmp_path / "run", watch=fail)
    train(tmp_path / "run")
    assert sorted(losses(tmp_path / "run")) == list(range(2, 21, 2))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_first_and_names_its_exit_code(tmp_path, number):
    def hit(step, steps):
        if step == 8:
            signal.raise_signal(number)
        return {}

    with pytest.raises(Interrupted) as caught:
        train(tmp_path / "run", watch=hit)
    assert caught.value.exit_code == 128 + number
    assert checkpoint.read_newest(tmp_path / "run")[1]["step"] == 8
    assert signal.getsignal(number) is not None
    train(tmp_path / "run")
    train(tmp_path / "whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_non_finite_step_is_left_out_and_recorded(tmp_path):
    objective = train(tmp_path / "run", Line(bad_steps=(6,)))
    assert all(p.isfinite().all() for p in objective.parameters())
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    events = [json.loads(line) for line in text.splitlines() if '"event"' in line]
    assert [(e["step"], e["event"], e["loss"]) for e in events] == [(6, "skipped", "nan")]
    assert [round(20 * p) for p, good in objective.told if not good] == [6]  # a teacher hears not to move then
    last = json.loads(text.splitlines()[-1])
    assert last["skipped"] == 1


def test_a_non_finite_step_leaves_weights_and_moments_alone(tmp_path):
    kept = {}

    def remember(step, steps):
        kept[step] = [p.detach().clone() for p in objective.parameters()]
        return {}

    objective = Line(bad_steps=(6,))
    train(tmp_path / "run", objective, remember)
    assert all(torch.equal(a, b) for a, b in zip(kept[5], kept[6]))
    assert not all(torch.equal(a, b) for a, b in zip(kept[6], kept[7]))


def test_repeated_non_finite_steps_stop_with_step_rate_and_remedy_and_lose_nothing(tmp_path):
    with pytest.raises(Diverged, match=r"step 12, learning rate 0\.\d+.*--lr") as caught:
        train(tmp_path / "run", Line(bad_steps=range(9, 99)), patience=3, rollbacks=0)
    assert caught.value.exit_code == 4
    saved = checkpoint.read_newest(tmp_path / "run")[1]
    assert saved["step"] == 5  # the last that was saved after a good step
    assert all(value.isfinite().all() for value in saved["objective"].values())


def test_accumulation_changes_nothing_but_memory(tmp_path):
    class Plain(Line):
        def forward(self, batch):
            (x,) = batch["views"]
            return {"loss": (self.net(x) - x.sum(dim=1, keepdim=True)).square().mean()}

    def parts(first, micro):
        place = first
        while True:
            step, part = divmod(place, 8 // micro)
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            yield {"views": [x[part * micro : (part + 1) * micro]]}
            place += 1

    weights = []
    for accumulate in (1, 4):
        out = tmp_path / str(accumulate)
        out.mkdir()
        config = Fit(steps=10, batch=8, lr=0.05, accumulate=accumulate, log_every=1, save_every=5)
        objective, micro = Plain(), 8 // accumulate
        log = Log(out, Console(quiet=True), 8, 100)
        fit(objective, lambda first, m=micro: parts(first, m), config, out, make_devices(RuntimeSettings()), log)
        weights.append(objective.net.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_gradient(tmp_path):
    train(tmp_path / "free")
    train(tmp_path / "tight", clip=1e-3)
    norms = [json.loads(line)["grad_norm"] for line in (tmp_path / "tight" / "metrics.jsonl").read_text().splitlines()]
    assert max(norms) > 1e-3  # what is recorded is the norm before clipping
    assert losses(tmp_path / "free") != losses(tmp_path / "tight")


def test_a_time_budget_ends_in_time_even_when_steps_get_slow(tmp_path):
    import time

    def slow(step, steps):
        time.sleep(0.05)
        return {}

    start = time.monotonic()
    train(tmp_path / "run", watch=slow, steps=1000, seconds=1.0, log_every=1)
    assert time.monotonic() - start < 3
    records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert 5 <= len(records) < 40
    assert json.loads(records[-1])["lr"] < 0.02  # the cosine came down, it was not cut off


def test_a_time_budget_keeps_the_time_of_the_last_look_which_follows_the_last_step(tmp_path, monkeypatch):
    """Such as a probe, which takes long and comes at the end once more."""
    import time

    from unmask.training import loop

    budgets = []
    monkeypatch.setattr(loop, "steps_in_time", lambda state, budget, *_: budgets.append(budget) or state.steps)

    def watch(step, steps):
        time.sleep(0.2 if step == 4 else 0)
        return {}

    train(tmp_path / "run", watch=watch, steps=8, seconds=100.0, log_every=2)
    assert min(budgets[:2]) > 99.8 >= max(budgets[2:])
    assert len(budgets) == 4


def test_lasting_checkpoints_are_kept(tmp_path):
    train(tmp_path / "run", keep_every=10)
    assert sorted(p.name for p in (tmp_path / "run").glob("*.ckpt")) == [
        "last.1.ckpt",
        "last.ckpt",
        "step_00000010.ckpt",
        "step_00000020.ckpt",
    ]
    assert torch.load(tmp_path / "run" / "step_00000010.ckpt", weights_only=True)["step"] == 10
    assert not list((tmp_path / "run").glob(".*.part"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (9, "9 s"), (60, "1 min"), (231, "3 min 51 s"), (3599.7, "1 h"), (7325, "2 h 2 min")],
)
def test_a_duration_names_its_units(seconds, words):
    assert duration(seconds) == words


def test_the_schedule_is_mae_s():
    rate = [learning_rate(s, steps=100, warmup=10, peak=2.0) for s in range(101)]
    assert rate[0] == 0
    assert rate[5] == 1.0
    assert rate[10] == 2.0
    assert abs(rate[55] - 1.0) < 1e-9
    assert abs(rate[100]) < 1e-9
    assert abs(peak_rate(4096, 768) - 2.4e-3) < 1e-12


def test_vectors_are_not_decayed_and_tokens_are():
    objective = Line()
    objective.token = nn.Parameter(torch.zeros(1, 1, 2))
    decayed, free = groups(objective, 0.05)
    assert {p.ndim for p in decayed["params"]} == {2, 3}
    assert [p.ndim for p in free["params"]] == [1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"accumulate": 0}])
def test_impossible_settings_are_refused(tmp_path, wrong):
    with pytest.raises(UserError):
        train(tmp_path / "run", **wrong)
