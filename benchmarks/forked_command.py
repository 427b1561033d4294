"""Commands as processes that are there at once: a server that has imported everything forks them.

Starting Python and importing torch takes seconds of a core, and storms of kills and of bad inputs need many processes.
"""

import importlib
import multiprocessing
import os
import pkgutil
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import unmask

IMPORTED = [module.name for module in pkgutil.walk_packages(unmask.__path__, "unmask.") if "__" not in module.name]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*IMPORTED, "forked_command"])


def begin(arguments: list[str], said: Path, folder: Path) -> BaseProcess:
    """`unmask ARGUMENTS` in a folder; what it prints goes to the file `said`."""
    process = CONTEXT.Process(target=_command, args=(arguments, said, folder))
    process.start()
    return process


def finish(process: BaseProcess, seconds: float) -> int | None:
    """The exit code, negative for the number of a signal; None where it had to be killed, being late."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def run(arguments: list[str], said: Path, folder: Path, seconds: float = 300) -> tuple[int | None, float]:
    """The exit code and the seconds that it took."""
    start = time.monotonic()
    return finish(begin(arguments, said, folder), seconds), time.monotonic() - start


def _command(arguments: list[str], said: Path, folder: Path) -> None:
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    os.chdir(folder)
    sys.argv = ["unmask", *arguments]
    sys.exit(importlib.import_module("unmask.cli.main").main(arguments))
