"""What a user can ask of a run's caution, through `pretrain`: determinism to the byte, spikes, kept checkpoints."""

import os

import pytest
import torch
from support.small import SMALL
from torch import nn

import unmask
from unmask.errors import UserError
from unmask.planning.safety import short_of_room
from unmask.runtime.determinism import WORKSPACE, determinism, early
from unmask.training.optimizer import make_optimizer, update
from unmask.training.settings import Fit
from unmask.training.speed.bf16_weights import lower


def test_two_deterministic_runs_give_the_same_bytes_and_say_so(photos, tmp_path, monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    seen = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: seen.append(on))
    runs = [
        unmask.pretrain(photos, out=tmp_path / name, steps=3, deterministic=True, spike=6, keep_last=3, **SMALL)
        for name in "ab"
    ]
    assert seen == [True, False] * 2  # and what was before is put back
    one, two = [(run.path / "encoder.safetensors").read_bytes() for run in runs]
    assert one == two
    config = runs[0].config
    assert config.runtime.deterministic is True
    assert "same bytes" in config.record.reasons["deterministic"]
    assert (config.training.keep_last, config.training.rollbacks, config.training.spike) == (3, 3, 6.0)
    assert os.environ[WORKSPACE] == ":4096:8"


def test_determinism_refuses_what_cannot_be_and_an_environment_that_forbids_it(monkeypatch):
    with determinism(True):
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.raises(RuntimeError, match="deterministic"):
            torch.nn.functional.max_unpool2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.long), 2)
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv(WORKSPACE, ":8:8")
    with pytest.raises(UserError, match=":4096:8 or :16:8"):
        early(True)


@pytest.mark.parametrize("wrong", [{"spike": 0}, {"spike": "on"}, {"keep_last": 0}, {"rollbacks": -1}])
def test_impossible_caution_is_refused(photos, tmp_path, wrong):
    with pytest.raises(UserError, match="--" + next(iter(wrong)).replace("_", "-")):
        unmask.pretrain(photos, out=tmp_path / "run", steps=1, **SMALL, **wrong)


def test_no_limit_for_spikes_and_no_going_back_can_be_asked_for(photos, tmp_path):
    run = unmask.pretrain(photos, out=tmp_path / "run", steps=1, spike="off", rollbacks=0, **SMALL)
    assert (run.config.training.spike, run.config.training.rollbacks) == (None, 0)
    assert run.config.options()["spike"] == "off"


def test_masters_of_low_weights_are_left_alone_too():
    from support.small_training import Line

    objective = Line()
    lower(objective)
    optimizer = make_optimizer(objective)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for good in (True, False, True):
        before = [p.detach().clone() for p in objective.parameters()]
        for p in objective.parameters():
            p.grad = torch.full_like(p, 1.0 if good else float("nan"))
        update(optimizer, torch.tensor(good))
        same = all(torch.equal(a, b) for a, b in zip(before, objective.parameters()))
        assert same != good
    assert isinstance(objective.net, nn.Linear)


def test_a_folder_that_cannot_be_written_is_refused_at_once(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, how: place != tmp_path)  # tests may run as root, who may always
    with pytest.raises(UserError, match="read-only"):
        unmask.pretrain(photos, out=tmp_path / "not" / "there", **SMALL)
    assert not (tmp_path / "not").exists()


def test_a_disk_without_room_for_all_checkpoints_is_said_before_training(tmp_path, monkeypatch):
    import shutil

    objective = nn.Linear(2**10, 2**10, bias=False)
    training = Fit(steps=40, batch=1, lr=1.0, keep_last=2, keep_every=10)
    for free, said in (
        (12 * 2**20 * 7, None),
        (12 * 2**20 * 7 - 1, "7 checkpoints of 12 MB do not fit into the 84 MB"),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: shutil._ntuple_diskusage(1, 1, free))
        found = short_of_room(objective, training, tmp_path)
        assert found is None if said is None else said in (found or "")
