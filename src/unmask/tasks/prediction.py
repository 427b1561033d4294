"""Messages of `unmask predict` for all tasks: images that were left out, the first predictions."""

from collections.abc import Sequence

from rich.console import Console

from unmask.errors import DataError

SHOWN = 10  # answers on the screen


def say_left_out(bad: Sequence[tuple[str, str]], num_good: int, console: Console) -> None:
    """Names images that could not be read. bad: names and reasons. Raises DataError if no image could be read."""
    if bad and not num_good:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in bad[:3])
        raise DataError(f"no image could be read: {reasons}{'; ...' if len(bad) > 3 else ''}")
    for name, reason in bad:
        console.print(f"left out: {name}: {reason}", soft_wrap=True, markup=False)


def say_first(lines: Sequence[str], console: Console) -> None:
    """Prints the first predictions, a line each, and the number of further ones."""
    for line in lines[:SHOWN]:
        console.print(line, soft_wrap=True, markup=False)
    if len(lines) > SHOWN:
        console.print(f"... and {len(lines) - SHOWN:,} more")
