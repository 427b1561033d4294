"""Images and masks that cannot be used: borne and named, or too many."""

from collections.abc import Callable
from typing import Any

from unmask.errors import DataError

TOLERATED, FEW = 0.25, 5  # share and number of bad images and masks that are borne where nothing was asked for
NAMED = 20  # of them, on the screen


def refuse_or_say(
    left_out: list[tuple[str, str]], total: int, max_bad: float | None, what: str, say: Callable[[str], Any]
) -> None:
    """what: samples and labels, and where they lie."""
    if not left_out:
        return
    lines = [f"  {name}: {reason}" for name, reason in left_out[:NAMED]]
    lines += [f"  ... and {len(left_out) - NAMED:,} more"] if len(left_out) > NAMED else []
    count = f"{len(left_out):,} of {total:,} {what}"
    most = max(FEW, TOLERATED * total) if max_bad is None else max_bad * total
    if len(left_out) > most or len(left_out) == total:
        told = f"{TOLERATED:.0%}, and more than {FEW}" if max_bad is None else f"{max_bad:.0%}"
        advice = "" if len(left_out) == total else "; mend them, or allow more with --max-bad"
        raise DataError(f"{count} cannot be used, more than {told}{advice}:\n" + "\n".join(lines))
    say(f"{count} are left out:\n" + "\n".join(lines))
