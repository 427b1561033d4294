"""One command at a time writes into a folder."""

import fcntl
import json
import os

import pytest

from unmask.errors import UserError
from unmask.files import MARK
from unmask.runtime.lock import Locks, hold


def in_child(action):
    """The exit code of a forked process."""
    child = os.fork()
    if not child:
        try:
            action()
        except UserError as error:
            os._exit(len(str(error)) % 100 + 100)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refused(out, command="pretrain"):
    def action():
        Locks.open.clear()  # what a process of its own knows
        with Locks():
            hold(out, command)

    return in_child(action) >= 100


def test_a_second_process_is_refused_and_the_first_is_named(tmp_path):
    out = tmp_path / "a" / "run"
    with Locks():
        hold(out, "pretrain")
        assert refused(out)
        facts = json.loads((out / MARK).read_text())
        assert (facts["process"], facts["host"]) == (os.getpid(), os.uname().nodename)
        (out / "config.json").touch()
    assert not refused(out)


def test_the_refusal_says_process_host_and_command(tmp_path):
    (tmp_path / MARK).write_text('{"command": "transfer", "process": 77, "host": "node3", "since": "noon"}')
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        file = open(tmp_path / MARK, "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX)
        os.write(ready[1], b"1")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(UserError, match=r"written by process 77 on node3, unmask transfer, since noon"), Locks():
        hold(tmp_path, "pretrain")
    os.write(done[1], b"1")
    os.waitpid(child, 0)
    with Locks():
        hold(tmp_path, "pretrain")  # a lock ends with its process


def test_a_killed_process_leaves_no_lock(tmp_path):
    def killed():
        Locks.open.clear()
        Locks().__enter__()
        hold(tmp_path, "pack")
        os.kill(os.getpid(), 9)

    assert in_child(killed) == -9
    assert not refused(tmp_path)


def test_a_refused_command_leaves_no_folder_behind(tmp_path):
    with Locks():
        hold(tmp_path / "a" / "b", "pretrain")
    assert not (tmp_path / "a").exists()


def test_commands_of_one_process_may_share_a_folder_and_keep_the_lock(tmp_path):
    with Locks():
        hold(tmp_path, "demo")
        with Locks():
            hold(tmp_path, "pretrain")
        assert refused(tmp_path)


def test_results_may_be_added_to_a_run_while_it_trains_by_one_command_at_a_time(tmp_path):
    with Locks():
        hold(tmp_path, "evaluate", within=True)
        assert not refused(tmp_path)
        (tmp_path / "config.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
