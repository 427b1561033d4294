"""The console, and what its last line shows: what is being done, a bar for long steps, the training; on a terminal.

Elsewhere nothing moves: there are plain lines only. One thing is shown at a time, so that all of it goes through here.
"""

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

T = TypeVar("T")
PLAIN_WIDTH = 160  # characters where there is no terminal
IN_ASCII = {"·": "-", "→": "->", "…": "...", "≥": ">=", "≤": "<=", "±": "+-", "µ": "u"}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and ends of lines
LEAST_BAR = 8  # characters that a bar needs to be worth drawing


class _Terminal:
    """The terminal of this process while `working` is entered."""

    console: Console | None = None
    status: Status | None = None


@runtime_checkable
class Update(Protocol):
    def __call__(self, done: int | None = None, total: int | None = None, words: str | None = None) -> None: ...


class Lines(Console):
    """A console that takes text as it is: in the names of files, [brackets] are no markup, :words: no emoji, and
    control characters, which could move the cursor or hide what the terminal shows, are written out: \\x1b."""

    def __init__(self, *, width: int | None = None, stderr: bool = False):
        super().__init__(width=width, stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(harmless(text), **options)

    def on_broken_pipe(self) -> None:
        """The reader, such as `head`, has seen enough. The work goes on, and what it says is dropped."""
        self.quiet = True
        drop_output()


def harmless(text: str) -> str:
    """Control characters written out, as \\x1b."""
    return CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def make_console() -> Console:
    """The terminal, or plain text 160 columns wide where there is none."""
    console = _Terminal.console or Lines()
    return console if console.is_terminal else Lines(width=PLAIN_WIDTH)


def settle_streams() -> None:
    """What a terminal's encoding does not have is written in other signs, not refused. Call it first."""
    codecs.register_error("unmask", _in_other_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where something else took its place
            stream.reconfigure(errors="unmask")


def flush_output() -> None:
    """What is printed is written now, where a reader that left is no fault, and not while Python ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def drop_output() -> None:
    """From now on nobody reads what this process writes."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _in_other_signs(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors: ASCII that reads alike, or the number of the sign (also of bytes that are no
    text)."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(IN_ASCII.get(s) or s.encode("ascii", "backslashreplace").decode() for s in signs), error.end


def make_say(console: Console) -> Callable[[str], None]:
    """Prints a line as it is: lines are not wrapped, brackets not taken for markup."""
    return lambda text: console.print(text, soft_wrap=True, markup=False)


@contextmanager
def working(words: str) -> Iterator[None]:
    """Shows on a terminal what is being done whenever no bar is shown, until the block ends: see `doing`."""
    console = Lines()
    if not console.is_terminal:
        yield
        return
    status = console.status(_one_line(words), spinner=_spinner(console))
    _Terminal.console, _Terminal.status = console, status
    status.start()
    try:
        yield
    finally:
        _Terminal.console = _Terminal.status = None
        status.stop()


def doing(words: str) -> None:
    """Says what is done from now on, on the last line of the terminal; nothing where `working` was not entered."""
    if _Terminal.status is not None:
        _Terminal.status.update(_one_line(words))


@contextmanager
def stage(console: Console, words: str) -> Iterator[Callable[[str], None]]:
    """Shows what is being done in the block. Gives a function that changes the words."""
    if _Terminal.status is not None:
        doing(words)
        yield doing
        return
    with console.status(_one_line(words), spinner=_spinner(console)) as status:
        yield lambda text: status.update(_one_line(text))


@contextmanager
def progress(console: Console, words: str, total: int | None = None) -> Iterator[Update]:
    """A bar that goes away at the end. Gives a function that takes the number done, and the total where it is known
    only later: what data sheets and feature files take as `progress`."""
    words_column = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=2))
    bar_column = BarColumn(None, table_column=Column(ratio=1))
    columns = SpinnerColumn(_spinner(console)), words_column, bar_column, TaskProgressColumn(), TimeRemainingColumn()
    with _alone(), Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(escape(harmless(words)), total=total)

        def update(done: int | None = None, total: int | None = None, words: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=words and escape(harmless(words)))

        yield update


def tracked(console: Console, words: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, one by one, with a bar. total: where `items` has no length."""
    with progress(console, words, len(items) if isinstance(items, Sequence) else total) as update:
        for number, item in enumerate(items, 1):
            yield item
            update(number)


class TrainingBar:
    """One line about a training: step, percent, loss, speed and time left, as much of it as the terminal has room for.

    It moves from step to step; loss, speed and time are those of the last record.
    """

    def __init__(self, steps: int, step: int = 0):
        self.steps, self.step = steps, step
        self.loss, self.speed, self.left = "", "", ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - 1  # a full last column wraps on some terminals
        percent = f"{100 * self.step // max(1, self.steps)}%"
        text = self.line(width, percent)
        room = width - len(text) - 1
        if room < LEAST_BAR:
            yield Text(text, no_wrap=True, overflow="ellipsis")
            return
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(ProgressBar(total=max(1, self.steps), completed=self.step, width=room), Text(text, no_wrap=True))
        yield row

    def line(self, width: int, percent: str) -> str:
        """The longest way of saying it that fits."""
        full, short = f"step {self.step:,}/{self.steps:,}", f"{self.step}/{self.steps}"
        loss, speed, left = f"loss {self.loss}", f"{self.speed} images/s", f"{self.left} left"
        if not self.loss:
            ways = [[full, percent, "measuring the speed"], [short, percent]]
        else:
            ways = [
                [full, percent, loss, speed, left],
                [short, percent, loss, f"{self.speed}/s", left],
                [short, percent, self.loss, f"{self.speed}/s", left],
                [percent, self.loss, f"{self.speed}/s", left],
                [percent, self.loss, self.left],
            ]
        lines = [(" · " if way is ways[0] else " ").join(way) for way in ways]
        return next((line for line in lines if len(line) <= width), lines[-1])


@contextmanager
def training_bar(console: Console, bar: TrainingBar) -> Iterator[None]:
    """Shows the bar as the last line of a terminal until the block ends, and leaves it there."""
    with _alone(), Live(bar, console=console, refresh_per_second=4):
        yield


@contextmanager
def _alone() -> Iterator[None]:
    """Takes away what is being done while something else moves."""
    status = _Terminal.status
    if status is not None:
        status.stop()
    try:
        yield
    finally:
        if status is not None and _Terminal.status is status:
            status.start()


def _one_line(words: str) -> Text:
    return Text(words, no_wrap=True, overflow="ellipsis")


def _spinner(console: Console) -> str:
    return "line" if console.options.ascii_only else "dots"
