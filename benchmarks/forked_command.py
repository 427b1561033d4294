"""Commands as processes that are there at once: a server that has imported everything forks them.

Starting Python and importing torch takes seconds of a core, and storms of kills and of bad inputs need many processes.
"""

import importlib
import math
import multiprocessing
import os
import pkgutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import unmask

IMPORTED = [module.name for module in pkgutil.walk_packages(unmask.__path__, "unmask.") if "__" not in module.name]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*IMPORTED, "forked_command"])


def begin(arguments: list[str], said: Path, folder: Path, setup: Callable[[], None] | None = None) -> BaseProcess:
    """`unmask ARGUMENTS` in a folder; what it prints goes to the file `said`. setup: called there first."""
    process = CONTEXT.Process(target=_command, args=(arguments, said, folder, setup))
    process.start()
    return process


def work(process: BaseProcess, limit: float = math.inf, longest: float = 600) -> float:
    """Waits until a process has used so many seconds of a core, or has ended, or `longest` seconds are over; returns
    the seconds of a core. Unlike the clock, they tell how far it is, however busy the machine is. Linux only."""
    used, per_second, deadline = 0.0, os.sysconf("SC_CLK_TCK"), time.monotonic() + longest
    with suppress(OSError):  # it has just ended
        while used < limit and time.monotonic() < deadline and not connection.wait([process.sentinel], 0.005):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / per_second  # by itself and by the system for it
    return used


def finish(process: BaseProcess, seconds: float) -> int | None:
    """The exit code, negative for the number of a signal; None where it had to be killed, being late."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def run(
    arguments: list[str], said: Path, folder: Path, seconds: float = 300, setup: Callable[[], None] | None = None
) -> tuple[int | None, float]:
    """The exit code and the seconds that it took."""
    start = time.monotonic()
    return finish(begin(arguments, said, folder, setup), seconds), time.monotonic() - start


def _command(arguments: list[str], said: Path, folder: Path, setup: Callable[[], None] | None) -> None:
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    os.chdir(folder)
    if setup is not None:
        setup()
    sys.argv = ["unmask", *arguments]
    sys.exit(importlib.import_module("unmask.cli.main").main(arguments))
