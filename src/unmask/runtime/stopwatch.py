"""When the command at hand began: `--hours` means all of it, from the first import to the report."""

import time


class _Begun:
    """What `began` needs to know of the time before a command's own code runs; monotonic seconds."""

    package = time.monotonic()  # when unmask was imported, some milliseconds after Python started
    command_line: float | None = None  # when a process began that was started for one command
    importing = 0.0  # seconds that calls from Python spent importing their commands


def run_by_command_line() -> None:
    """Says that this process was started for one command."""
    _Begun.command_line = _Begun.package


def imported(seconds: float) -> None:
    """Says that a call from Python had to import its command first."""
    _Begun.importing += seconds


def began() -> float:
    """The monotonic time at which the command began. To be called once by a command, at its start: a command that it
    calls, or a later one in the same process, has its own beginning."""
    command_line, importing = _Begun.command_line, _Begun.importing
    _Begun.command_line, _Begun.importing = None, 0.0
    return time.monotonic() - importing if command_line is None else command_line
