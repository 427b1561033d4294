"""Which checkpoints a run keeps: four copies of the weights, however its length changes; one whole state at the end."""

import pytest
import torch
from support.small_training import Crash, losses, records, train

from unmask.training.keeping import Keeping

PLANNED = {"lasting_copies": 4, "tidy": True, "keep_every": 7}  # as by default


def crash_at(step):
    def watch(now, steps):
        if now == step:
            raise Crash
        return {}

    return watch


def names(out):
    return sorted(path.name for path in out.glob("*.ckpt*"))


COPIES = [f"step_000000{step:02}.ckpt" for step in (5, 10, 15, 20)]


@pytest.mark.parametrize(
    "lengths", [[(0, 20)], [(0, 100), (10, 37)], [(0, 10), (4, 200)], [(0, 40), (25, 30), (28, 90)]]
)
def test_there_are_as_many_lasting_copies_as_promised_however_the_length_changes(tmp_path, lengths):
    """lengths: from which step on how many are planned, as with --hours."""
    keeping, step, steps = Keeping(tmp_path, last=1, every=1000, lasting=7, copies=4), 0, lengths[0][1]
    while step < steps:
        step += 1
        steps = next(planned for first, planned in reversed(lengths) if step >= first)
        if keeping.due(step, steps):
            state = {"step": step, "steps": steps, "saves": step, "bad_in_row": 0, "optimizer": torch.ones(9)}
            assert keeping.save(state) is None
            keeping.saved(step, steps)
    copies = sorted(tmp_path.glob("step_*.ckpt"))
    assert len(copies) == 4
    assert copies[-1].name == f"step_{steps:08d}.ckpt"  # the last one is the end


def test_a_finished_run_keeps_one_whole_state_and_copies_of_the_weights(tmp_path):
    out = tmp_path / "run"
    train(out, **PLANNED)
    assert names(out) == ["last.ckpt", *COPIES]
    whole = torch.load(out / "last.ckpt", weights_only=True)
    copy = torch.load(out / COPIES[-1], weights_only=True)
    assert whole.keys() - copy.keys() == {"optimizer"}
    assert all(torch.equal(whole["objective"][name], value) for name, value in copy["objective"].items())
    train(tmp_path / "asked", keep_every=10)  # what a user asks for is kept whole
    assert "optimizer" in torch.load(tmp_path / "asked" / "step_00000010.ckpt", weights_only=True)
    assert "last.1.ckpt" in names(tmp_path / "asked")


def test_a_copy_that_a_killed_process_did_not_come_to_make_is_made_up_for(tmp_path):
    train(tmp_path / "whole", **PLANNED)
    out = tmp_path / "run"
    with pytest.raises(Crash):
        train(out, watch=crash_at(13), **PLANNED)
    (out / "step_00000010.ckpt").unlink()  # as if killed right after last.ckpt of step 10
    train(out, **PLANNED)
    assert names(out) == names(tmp_path / "whole")
    for name in COPIES:
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (out, tmp_path / "whole"))
        assert all(torch.equal(ours["objective"][key], value) for key, value in theirs["objective"].items())


def test_where_only_copies_of_the_weights_are_left_a_run_goes_on_from_them_and_says_so(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Crash):
        train(out, watch=crash_at(13), **PLANNED)
    for name in ("last.ckpt", "last.1.ckpt"):
        (out / name).write_bytes(b"")
    train(out, **PLANNED)
    (event,) = records(out, "no_moments")
    assert event["step"] == 10
    assert max(losses(out)) == 20
    assert names(out) == sorted(["last.ckpt", "last.ckpt.damaged", *COPIES])
