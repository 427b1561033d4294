"""Files written whole or not at all, flushed before they count, with the permissions that the user wants."""

import os
import stat

import pytest
import torch
from torch import nn

from unmask.files import write_atomically, write_json
from unmask.weights.files import save_state


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_its_folder_after(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def flush(handle):
        calls.append(("flush", os.fstat(handle).st_ino, os.fstat(handle).st_size))
        fsync(handle)

    def rename(source, target):
        calls.append(("rename", os.stat(source).st_ino, os.stat(source).st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    write_atomically(tmp_path / "a.bin", lambda part: part.write_bytes(b"12345"))
    file, folder = (tmp_path / "a.bin").stat().st_ino, tmp_path.stat().st_ino
    assert calls[:2] == [("flush", file, 5), ("rename", file, 5)]
    assert [(what, inode) for what, inode, _ in calls[2:]] == [("flush", folder)]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_get_the_permissions_of_the_users_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save_state(nn.Linear(2, 2), tmp_path / "weights.safetensors", {})
        write_json(tmp_path / "facts.json", {})
        write_atomically(tmp_path / "state.pt", lambda part: torch.save({}, part))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_nothing_stays_of_a_file_that_could_not_be_written(tmp_path):
    (tmp_path / "a.txt").write_text("before")

    def fail(part):
        part.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_atomically(tmp_path / "a.txt", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"
