"""`unmask COMMAND`: flags made from the command's dataclass by tyro, errors turned into messages and exit codes.

0 done · 1 a bug (with traceback) · 2 wrong use · 3 data that cannot be used · 4 diverged
5 an export that failed its check · 6 a state that could not be saved · 7 findings of `doctor`
8 another process of the same training ended · 130 Ctrl-C · 138 SIGUSR1 · 143 SIGTERM
"""

import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import tyro

from unmask.cli.first_look import look_first
from unmask.cli.foreign_errors import in_our_words
from unmask.cli.help import overview, page
from unmask.cli.repeated_options import joined_lists
from unmask.cli.settings_file import without_checks, written_settings
from unmask.cli.sizes import plain_sizes
from unmask.cli.synonyms import refuse_empty, refuse_unknown
from unmask.cli.task_options import chosen
from unmask.cli.verb import command, commands, parts_in, saved
from unmask.cli.wrong_words import explain
from unmask.errors import Diverged, Interrupted, Lost, Unsaved, UserError, closest
from unmask.files import no_room
from unmask.registry import given
from unmask.runtime.distributed.launcher import launch, refuse_many
from unmask.runtime.progress import Lines, doing, drop_output, flush_output, settle_streams, working
from unmask.runtime.signals import Listener, name_of
from unmask.runtime.stopwatch import run_by_command_line
from unmask.version import __version__

PRINT = "--print-config"  # says the options as a file for --config, and stops
TOGETHER = ("pretrain",)  # commands that several processes do together


def main(arguments: list[str] | None = None) -> None:
    """The command line. Never returns: it ends the process with one of the exit codes above."""
    if arguments is None:
        run_by_command_line()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    settle_streams()
    with Listener() as listener:
        try:
            code = run(arguments)
            flush_output()
            sys.exit(code)
        except SystemExit:
            flush_output()
            raise
        except BaseException as error:
            listener.answered = True
            if hasattr(signal, "SIGCHLD"):
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises while we explain
            if listener.signum is not None:  # also where a library made an error of its own of the interruption
                _say(error if isinstance(error, Interrupted) else f"stopped by {name_of(listener.signum)}")
                _leave(128 + listener.signum)
            code = _explain(error)
        listener.answered = True
    _leave(code)


def _explain(error: BaseException) -> int:
    """Says what ended the command, and returns its exit code. Raises what is our own bug."""
    error = in_our_words(error) or error
    if isinstance(error, UserError | Diverged | Interrupted | Unsaved | Lost):
        _say(error)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        _say("stopped by Ctrl-C")
        return 130
    if isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
        drop_output()
        return 0
    if isinstance(error, OSError):  # no permission, no space, a file where a folder should be
        _say(f"{error.filename or 'a file'}: {error.strerror or error}")
        return Unsaved.exit_code if no_room(error) else UserError.exit_code
    raise error


def run(arguments: list[str]) -> int:
    """Calls the command that the arguments name; 0 when it is done."""
    options_by_name = commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview(options_by_name))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"unmask {__version__}")
        return 0
    try:
        with given(parts_in(arguments)):
            options = parse(arguments)
            look_first(arguments[0], options)
            silent = launch().rank or "--json" in arguments or arguments[0] == "completion"  # only what is asked
            with contextlib.nullcontext() if silent else working("loading PyTorch"):
                function = _imported(arguments[0])
                doing("getting ready")
                return getattr(function(options), "exit_code", 0)
    except _Refused as caught:
        raise caught.error from None


def _imported(name: str) -> Callable:
    """The function of a command. Modules are no garbage: looking for some meanwhile takes a tenth of the time."""
    gc.disable()
    try:
        return command(name)
    finally:
        gc.enable()


def parse(arguments: list[str]) -> Any:
    """The options of the command that the arguments name, checked; the command itself, which brings torch, is not
    imported. Raises UserError, or SystemExit for options that there are not."""
    options_by_name = commands()
    name, *rest = arguments
    if name not in options_by_name:
        raise UserError(f"no command {name!r}{closest(name, options_by_name)} There are: {', '.join(options_by_name)}")
    if name not in TOGETHER:
        refuse_many(f"unmask {name}")
    print_config, rest = PRINT in rest, [word for word in rest if word != PRINT]
    options = chosen(options_by_name[name], rest)
    if {"-h", "--help"} & {*rest}:
        print(page(name, options))
        sys.exit(0)
    rest = joined_lists(options, plain_sizes(name, options, rest))
    refuse_unknown(name, options_by_name, options, rest)
    refuse_empty(options, rest)
    try:
        direct, default = _direct(options), _default(options, rest)
        given = _parsed(name, direct, _positional(rest), default)
        if print_config:
            print(written_settings(name, given))
            sys.exit(0)
        return given
    except _Refused as caught:
        raise caught.error from None


def _parsed(name: str, options: type, words: list[str], default: object) -> Any:
    """An object of options, made by tyro. Raises UserError for words that it cannot read."""
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            return tyro.cli(options, args=words, prog=f"unmask {name}", default=default)
    except SystemExit:
        error = explain(name, options, words)
        raise error or UserError(boxes.getvalue().strip()) from None


class _Refused(Exception):
    """Carries a UserError past tyro, which would wrap any ValueError in a box of several lines."""

    def __init__(self, error: UserError):
        super().__init__(str(error))
        self.error = error


def _direct(options: type) -> type:
    """The same dataclass of options, whose refusals come through as they are."""

    post_init = getattr(options, "__post_init__", None)
    if post_init is None:
        return options

    def check(self: object) -> None:
        try:
            post_init(self)
        except UserError as error:
            raise _Refused(error) from error

    own = {"__doc__": options.__doc__, "__module__": options.__module__, "__post_init__": check}
    return type(options.__name__, (options,), own)


def _positional(rest: list[str]) -> list[str]:
    """`--data X` is the same as X."""
    result = []
    for argument in rest:
        if argument.startswith("--data="):
            result.append(argument.removeprefix("--data="))
        elif argument != "--data":
            result.append(argument)
    return result


def _default(options: type, rest: list[str]) -> object:
    """With `--config FILE`, that run's settings are the defaults, and the flags change them."""
    for place, argument in enumerate(rest):
        if (argument == "--config" and place + 1 < len(rest)) or argument.startswith("--config="):
            path = argument.partition("=")[2] or rest[place + 1]
            return without_checks(options, saved(options, path))
    return tyro.MISSING_NONPROP


def _may_speak() -> bool:
    from unmask.runtime.distributed.ranks import may_speak  # imports torch

    return may_speak()


def _leave(code: int) -> NoReturn:
    """Ends the process; one of several at once, since tidying up would wait for processes that are no more."""
    if launch().world > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _say(error: object) -> None:
    if launch().world > 1 and not _may_speak():
        return
    console = Lines(stderr=True)
    console.print("unmask:", style="bold red", end=" ")
    console.print(str(error), soft_wrap=True, highlight=False)
