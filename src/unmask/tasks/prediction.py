"""What `unmask predict` says on the screen, whatever the task: images that were left out, the first answers."""

from collections.abc import Sequence

from rich.console import Console

from unmask.errors import DataError

SHOWN = 10  # answers on the screen


def say_left_out(bad: Sequence[tuple[str, str]], num_good: int, console: Console) -> None:
    """Names images that could not be read. bad: names and reasons. Raises DataError where none could."""
    if bad and not num_good:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in bad[:3])
        raise DataError(f"no image could be read: {reasons}{'; ...' if len(bad) > 3 else ''}")
    for name, reason in bad:
        console.print(f"left out: {name}: {reason}", soft_wrap=True, markup=False)


def say_first(lines: Sequence[str], console: Console) -> None:
    """The first answers, a line each, and how many more there are."""
    for line in lines[:SHOWN]:
        console.print(line, soft_wrap=True, markup=False)
    if len(lines) > SHOWN:
        console.print(f"... and {len(lines) - SHOWN:,} more")
