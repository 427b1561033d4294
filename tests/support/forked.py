"""The command line in a process of its own that is there at once: a server that has imported everything forks it.

Starting Python and importing torch takes seconds of a core, and a test that kills runs needs many processes.
"""

import importlib
import multiprocessing
import os
import pkgutil
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import unmask

IMPORTED = [module.name for module in pkgutil.walk_packages(unmask.__path__, "unmask.") if "__" not in module.name]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*IMPORTED, "matplotlib.pyplot", "support.forked"])


def start(*arguments: Any, said: Path | None = None) -> BaseProcess:
    """`unmask ARGUMENTS`, begun; what it prints goes to the file `said`. `wait` for its exit code."""
    process = CONTEXT.Process(target=_command, args=([str(a) for a in arguments], said))
    process.start()
    return process


def wait(process: BaseProcess, seconds: float = 60) -> int | None:
    """The exit code, negative for a signal's number; None if it is still running."""
    process.join(seconds)
    return process.exitcode


def _command(arguments: list[str], said: Path | None) -> None:
    to = os.open(said or os.devnull, os.O_WRONLY | os.O_CREAT)
    os.dup2(to, 1)
    os.dup2(to, 2)
    sys.argv = ["unmask", *arguments]
    sys.exit(importlib.import_module("unmask.cli.main").main(arguments))
