"""Checkpoints: rolling, with a checksum, written whole or not at all; damaged ones are passed over aloud."""

import errno
import io
import json
import os
import shutil
import signal

import pytest
import torch
from support.forked import CONTEXT, wait
from support.small_training import Crash, die_while_saving, losses, records, train

from unmask.errors import Unsaved, UserError
from unmask.training import checkpoint, log
from unmask.training.checkpoint import Damaged, Facts, read_facts, read_state, verify, write_state
from unmask.training.keeping import Keeping


def steps(out):
    return {path.name: torch.load(path, weights_only=True)["step"] for path in out.glob("*.ckpt")}


def crash_at(place):
    def fail(step, steps):
        if step == place:
            raise Crash
        return {}

    return fail


@pytest.fixture
def whole(tmp_path):
    train(tmp_path / "whole")
    return losses(tmp_path / "whole")


def test_any_byte_that_changes_and_any_cut_is_noticed(tmp_path):
    path = tmp_path / "last.ckpt"
    write_state(path, {"step": 3, "weight": torch.arange(50.0)}, Facts(3, 1, True))
    assert read_facts(path) == (3, 1, True)
    assert read_state(path)["weight"][7] == 7
    content = path.read_bytes()
    for place in [*range(0, len(content), 7), *range(len(content) - 150, len(content))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(Damaged):
            verify(path)
    for length in (0, 1, 21, len(content) // 2, len(content) - 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(Damaged):
            verify(path)


def test_the_last_few_and_the_best_are_kept(tmp_path):
    scores = {4: 0.5, 8: 0.7, 12: 0.6, 16: 0.7}
    watch = lambda step, steps: {"score": scores[step], "probe_knn": scores[step]} if step in scores else {}  # noqa: E731
    train(tmp_path / "run", watch=watch, keep_last=3)
    assert steps(tmp_path / "run") == {"last.ckpt": 20, "last.1.ckpt": 15, "last.2.ckpt": 10, "best.ckpt": 8}
    train(tmp_path / "one", keep_last=1)
    assert steps(tmp_path / "one") == {"last.ckpt": 20}


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "both"])
def test_a_damaged_newest_checkpoint_costs_a_few_steps_and_is_said(tmp_path, whole, how):
    out = tmp_path / "run"
    with pytest.raises(Crash):
        train(out, watch=crash_at(13))
    content = (out / "last.ckpt").read_bytes()
    middle = len(content) // 2
    bad = {"cut": content[:middle], "empty": b""}.get(how, content[:middle] + b"\x55" + content[middle + 1 :])
    (out / "last.ckpt").write_bytes(bad)
    if how == "both":
        (out / "last.1.ckpt").write_bytes(b"")
        with pytest.raises(UserError, match=r"last\.ckpt and last\.1\.ckpt in .* are damaged"):
            train(out)
        return
    train(out)
    assert losses(out) == whole
    (event,) = records(out, "damaged")
    assert (event["step"], event["file"]) == (5, "last.ckpt")
    assert steps(out) == {"last.ckpt": 20, "last.1.ckpt": 15}
    assert (out / "last.ckpt.damaged").read_bytes() == bad


@pytest.mark.parametrize("fault", [False, True])
def test_a_checkpoint_put_in_place_of_the_last_is_gone_on_from(tmp_path, whole, fault):
    """And the later ones are out of the way: a fault afterwards does not bring the run back to them."""
    out = tmp_path / "run"
    train(out, keep_every=5)
    (out / "last.ckpt").unlink()  # its bytes are those of another name too
    shutil.copy(out / "step_00000005.ckpt", out / "last.ckpt")
    assert checkpoint.newest(out) == out / "last.ckpt"
    with pytest.raises(Crash):
        train(out, watch=crash_at(13), keep_every=5)
    left = {"last.1.ckpt", *(f"step_000000{step}.ckpt" for step in (10, 15, 20))}
    assert {event["file"] for event in records(out, "left")} == left
    assert {path.name for path in out.glob("*.left")} == {f"{name}.left" for name in left}
    assert steps(out) == {"last.ckpt": 10, "last.1.ckpt": 5, "step_00000005.ckpt": 5, "step_00000010.ckpt": 10}
    if fault:
        (out / "last.ckpt").unlink()
        (out / "step_00000010.ckpt").write_bytes(b"")
    train(out, keep_every=5)
    assert losses(out) == whole
    assert len(records(out, "left")) == 4  # once


def test_a_file_that_unmask_did_not_write_is_no_checkpoint(tmp_path):
    torch.save({"step": 1}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt .* is damaged"):
        train(tmp_path)


def full_disk(monkeypatch, when, code=errno.ENOSPC):
    """`torch.save` writes half and fails whenever `when(step)`."""
    save = torch.save

    def fail(content, file):
        if not when(content["step"]):
            return save(content, file)
        buffer = io.BytesIO()
        save(content, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(torch, "save", fail)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path, whole, monkeypatch, code):
    out = tmp_path / "run"
    full_disk(monkeypatch, lambda step: step == 10, code)
    with pytest.raises(Crash):
        train(out, watch=crash_at(12))
    assert steps(out) == {"last.ckpt": 5}  # untouched, and half a file does not take up the room
    assert not list(out.glob(".*"))
    (event,) = records(out, "unsaved")
    assert (event["step"], event["reason"]) == (10, os.strerror(code))
    train(out)
    assert losses(out) == whole


def test_a_disk_that_stays_full_ends_with_a_message_and_loses_only_what_was_not_saved(tmp_path, whole, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        full_disk(patch, lambda step: step > 5)
        with pytest.raises(Unsaved, match=r"after step 20 .*No space left.*same command continues") as caught:
            train(out)
    assert caught.value.exit_code == 6
    assert steps(out) == {"last.ckpt": 5}
    train(out)
    assert losses(out) == whole


def test_a_disk_that_gives_back_other_bytes_is_noticed_before_anything_is_replaced(tmp_path, monkeypatch):
    write = checkpoint._Hashing.write

    def rot(self, data):
        kept = write(self, data)
        self.file.seek(-1, os.SEEK_CUR)
        self.file.write(b"\x01")
        return kept

    keeper = Keeping(tmp_path, last=2, every=5, lasting=0)
    state = {"step": 5, "steps": 20, "saves": 1, "bad_in_row": 0, "weight": torch.ones(9)}
    assert keeper.save(state) is None
    monkeypatch.setattr(checkpoint._Hashing, "write", rot)
    assert "other bytes than were written" in (keeper.save(state | {"step": 10, "saves": 2}) or "")
    assert steps(tmp_path) == {"last.ckpt": 5}


def test_records_that_find_no_room_are_written_later(tmp_path, whole, monkeypatch):
    out, opened = tmp_path / "run", open

    class Full:
        """Takes half a line, as a disk does that gets full in the middle of it."""

        def __init__(self, path):
            self.path = path

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, text):
            with opened(self.path, "a") as file:
                file.write(text[: len(text) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    full = []
    monkeypatch.setattr(log, "open", lambda path, *a, **k: Full(path) if full else opened(path, *a, **k), raising=False)

    def watch(step, steps):
        full[:] = [True] if 5 <= step < 11 else []
        return {}

    train(out, watch=watch)
    assert losses(out) == whole
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == sorted(whole)


@pytest.mark.slow
def test_killed_while_saving_nothing_is_lost(tmp_path, whole):
    out = tmp_path / "run"
    process = CONTEXT.Process(target=die_while_saving, args=(out,))  # this one has threads, which no fork survives
    process.start()
    assert wait(process) == -signal.SIGKILL
    assert (out / ".last.ckpt.part").exists()
    assert steps(out) == {"last.ckpt": 5}
    train(out)
    assert losses(out) == whole
    assert not list(out.glob(".*"))


def test_an_image_that_finds_no_room_does_not_end_a_run(tmp_path, whole):
    def watch(step, steps):
        if step == 7:
            raise OSError(errno.ENOSPC, "No space left on device", "film/7.png")
        return {}

    train(tmp_path / "run", watch=watch)
    assert losses(tmp_path / "run") == whole
    (event,) = records(tmp_path / "run", "unwritten")
    assert event["step"] == 7
