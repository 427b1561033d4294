"""Signals: heard while the main thread is busy, never swallowed, left to the parent by workers."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from unmask.errors import Interrupted
from unmask.runtime import signals
from unmask.runtime.signals import Listener, StopRequest


def swallow_everything():
    try:
        signal.raise_signal(signal.SIGTERM)
    except:  # noqa: E722
        pass


class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def convert():
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException as error:
        raise ValueError("a damaged image") from error


def convert_and_forget():
    try:
        convert()
    except ValueError:
        pass


@pytest.mark.parametrize("loss", [swallow_everything, convert_and_forget, lambda: Destroyed() and None])
def test_an_interruption_that_somebody_swallowed_is_raised_again(loss, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # pytest's keeps what a destructor raised

    def command():
        with Listener():
            loss()
            for _ in range(1000):  # the interpreter looks for signals between instructions
                time.sleep(0.001)

    with pytest.raises(Interrupted):
        command()


class Broken:
    def __del__(self):
        raise ValueError("broken")


def test_what_a_destructor_lost_is_told_but_for_what_is_raised_again(monkeypatch, capfd):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest has its own

    def command(lost):
        with Listener():
            lost()
            for _ in range(1000):
                time.sleep(0.001)

    with pytest.raises(Interrupted):
        command(Destroyed)
    assert "Traceback" not in capfd.readouterr().err
    with Listener():
        Broken()
    assert "ValueError: broken" in capfd.readouterr().err
    assert sys.unraisablehook is sys.__unraisablehook__


def test_what_catches_the_faults_of_a_decoder_does_not_catch_an_interruption():
    def command():
        with Listener():
            try:
                signal.raise_signal(signal.SIGTERM)
            except (Exception, RuntimeError):
                raise AssertionError("swallowed") from None

    with pytest.raises(Interrupted) as caught:
        command()
    assert caught.value.exit_code == 143


def test_a_signal_is_said_while_a_long_call_keeps_the_handlers_waiting(capfd):
    with Listener() as listener, StopRequest() as stop:
        lock = threading.Lock()
        lock.acquire()
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start()
        start = time.monotonic()
        while time.monotonic() - start < 0.1:
            torch.ones(200, 200) @ torch.ones(200, 200)
        deadline = time.monotonic() + 1
        while listener.signum is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.signum == signal.SIGTERM
    said = capfd.readouterr().err
    assert "unmask: SIGTERM: ending after this step and its checkpoint; a second signal ends at once\n" in said


BUSY = """
import signal, sys, time
import numpy as np
from unmask.runtime.signals import Listener, StopRequest
with Listener(), StopRequest():
    print("ready", flush=True)
    np.linalg.svd(np.random.default_rng(0).normal(size=(3000, 3000)))  # one call, in which no handler runs
"""


@pytest.mark.slow
def test_a_second_signal_ends_a_process_at_once_also_in_the_middle_of_a_long_call():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    time.sleep(0.2)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert b"SIGTERM: ending" in process.stderr.readline()
    assert time.monotonic() - sent < 1
    time.sleep(signals.SAME + 0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(2) == 143


def test_the_same_signal_to_a_process_and_to_its_group_is_one():
    with Listener() as listener, StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert stop.signum == listener.signum == signal.SIGTERM


def test_a_forked_worker_leaves_signals_to_its_parent():
    with Listener() as listener:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os.write(writer, b"alive")
            os._exit(0)
        assert os.read(reader, 5) == b"alive"
        os.waitpid(child, 0)
        time.sleep(0.05)
        assert listener.signum is None


def test_handlers_are_as_they_were_after_a_command():
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with Listener(), StopRequest():
        assert [signal.getsignal(number) for number in signals.SIGNALS] != before
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
