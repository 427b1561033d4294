"""The console, and bars that show how far a long step is: live on a terminal, nothing elsewhere."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar, runtime_checkable

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")


@runtime_checkable
class Update(Protocol):
    def __call__(self, done: int | None = None, total: int | None = None, words: str | None = None) -> None: ...


def make_console() -> Console:
    """The terminal, or plain text 160 columns wide where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def make_say(console: Console) -> Callable[[str], None]:
    """Prints a line as it is: lines are not wrapped, brackets not taken for markup."""
    return lambda text: console.print(text, soft_wrap=True, markup=False)


@contextmanager
def progress(console: Console, words: str, total: int | None = None) -> Iterator[Update]:
    """A bar that goes away at the end. Gives a function that takes the number done, and the total where it is known
    only later: what data sheets and feature files take as `progress`. A console bears one bar at a time."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(words, total=total)

        def update(done: int | None = None, total: int | None = None, words: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=words)

        yield update


def tracked(console: Console, words: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, one by one, with a bar. total: where `items` has no length."""
    with progress(console, words, len(items) if isinstance(items, Sequence) else total) as update:
        for number, item in enumerate(items, 1):
            yield item
            update(number)
