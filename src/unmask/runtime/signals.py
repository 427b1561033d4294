"""Signals that ask a process to end: heard at once, never lost, answered where nothing is left half done.

Python runs a handler between two instructions of the main thread. A long call, such as a backward pass, keeps it
waiting; and what it raises can be swallowed on the way out: by a bare `except`, a destructor, a callback of C code. So:

- the number of a signal is written into a pipe (signal.set_wakeup_fd), and a thread at its other end says at once that
  it was heard; at a second signal the thread ends the process;
- what is raised, `Interrupted`, is no `Exception`, and is raised again whenever it disappears before it was answered.

SIGUSR1 is what SLURM sends on request some time before a job's end (docs/scale.md).
"""

import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import ClassVar

from unmask.errors import Interrupted
from unmask.runtime.distributed.launcher import launch

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
SAME = 0.25  # seconds: `timeout` and others send a signal to a process and to its group, so that it comes twice
SAME_OF_MANY = 10.0  # ... and a launcher passes on what its processes got already
AGAIN = 255  # in the pipe: the number of no signal
SHOW_CURSOR = "\x1b[?25h"  # which a live bar hides


def name_of(signum: int) -> str:
    return "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name


def is_same(seconds: float) -> bool:
    """Whether a signal that comes so long after the first one is the same request."""
    return seconds < (SAME_OF_MANY if launch().world > 1 else SAME)


class Listener:
    """Of a command line: `with Listener() as listener:` around all that the process does, in its main thread.

    A signal raises `Interrupted`, unless a `StopRequest` is open, which asks for the end of a step.
    """

    current: ClassVar["Listener | None"] = None

    def __init__(self):
        self.signum: int | None = None  # of the first signal
        self.answered = False  # the command line knows of it
        self.when, self.manner = 0.0, "now"
        self._resent, self._raised = 0, None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Listener":
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._outer, Listener.current = Listener.current, self
        self._hook, sys.unraisablehook = sys.unraisablehook, self._tell_of_others
        threading.Thread(target=self._listen, args=(reader,), daemon=True, name="signals").start()
        return self

    def __exit__(self, *_: object) -> None:
        Listener.current, self.answered = self._outer, True
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writer)  # ends the thread

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.answered or (self._raised is not None and self._raised() is not None):
            return  # the command is ending, or what was raised is on its way
        others = ": another process of this training ended, or the job was told to stop" if launch().world > 1 else ""
        error = Interrupted(f"stopped by {name_of(signum)}{others}", signum)
        self._raised = weakref.ref(error, self._ask_again)
        try:
            raise error
        finally:
            del error  # else this frame, which the traceback holds, would keep it alive where nobody else does

    def _tell_of_others(self, lost: "sys.UnraisableHookArgs") -> None:
        """What a destructor or a callback lost is told with its traceback, but for what is raised again."""
        if not isinstance(lost.exc_value, Interrupted):
            self._hook(lost)

    def _ask_again(self, _: object) -> None:
        """Called when what was raised is no more: somebody has swallowed it. Raised here it would be lost once more."""
        if not self.answered:
            os.write(self._writer, bytes([AGAIN]))

    def _listen(self, reader: int) -> None:
        """In a thread of its own, which imports nothing: the main thread may hold the lock of imports."""
        with contextlib.suppress(OSError):
            while numbers := os.read(reader, 64):
                for number in numbers:
                    if number == AGAIN and self.signum is not None:
                        self._resent += 1
                        os.kill(os.getpid(), self.signum)
                    elif number in SIGNALS:
                        self._hear(number)
        os.close(reader)

    def _hear(self, signum: int) -> None:
        if self._resent:
            self._resent -= 1
        elif self.signum is None:
            self.signum, self.when = signum, time.monotonic()
            if not self.answered:
                _tell(f"{name_of(signum)}: ending {self.manner}; a second signal ends at once")
        elif not is_same(time.monotonic() - self.when):
            _tell("a second signal: ended at once")
            os._exit(128 + signum)


class StopRequest:
    """`with StopRequest() as stop:` and look at `stop.signum` where a loop can end; a second signal ends at once."""

    def __init__(self):
        self.signum: int | None = None
        self.when = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._listener = Listener.current
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            if self._listener is not None:
                self._listener.manner = "after this step and its checkpoint"
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.manner = "now"
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self.when = signum, time.monotonic()
            if self._listener is None:
                _tell(f"{name_of(signum)}: ending after this step; a second signal ends at once")
        elif self._listener is None and not is_same(time.monotonic() - self.when):
            self.__exit__()
            signal.raise_signal(signum)


def leave_signals_to_parent() -> None:
    """In a worker process: a terminal, `timeout` or a job's end signal all processes, but the loop still needs its
    workers for the step that it is in. They end when it does."""
    if threading.current_thread() is threading.main_thread():
        if Listener.current is not None:
            signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """In a worker process of torch's, after its own handlers are set: SIGTERM counts only where the parent sends it."""
    leave_signals_to_parent()
    if hasattr(signal, "sigwaitinfo"):  # not on macOS; there, workers end once their parent has
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _after_fork() -> None:
    if Listener.current is not None:  # else this is no command of ours
        leave_signals_to_parent()
        Listener.current = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)  # a signal may come before a worker is set up


def _tell(text: str) -> None:
    """A line on stderr, by the system's own call: Python's streams may be locked, or belong to a live bar."""
    if launch().rank:
        return
    with contextlib.suppress(OSError, ValueError):
        on_terminal = os.isatty(2)
        os.write(2, f"{SHOW_CURSOR + chr(10) if on_terminal else ''}unmask: {text}{chr(10)}".encode())
