"""Numbers and names for display: percentages with their intervals, long names shortened."""


def percent(share: float, low: float | None = None, high: float | None = None, unit: str = " %") -> str:
    """0.813 -> '81.3 %', with an interval '81.3 % (79.1-83.2)'. unit: "" if the column's heading has it."""
    text = f"{100 * share:.1f}{unit}"
    return text if low is None or high is None else f"{text} ({100 * low:.1f}-{100 * high:.1f})"


def points(difference: float, low: float, high: float) -> str:
    """A difference between two shares: '+3.1 points, +1.0 to +5.2'."""
    return f"{100 * difference:+.1f} points, {100 * low:+.1f} to {100 * high:+.1f}"


def cut_start(text: str, most: int) -> str:
    """The end of a long name, which distinguishes files better than the beginning."""
    return text if len(text) <= most else "…" + text[1 - most :]


def cut_end(text: str, most: int) -> str:
    """The beginning of a long name, for example of a class."""
    return text if len(text) <= most else text[: most - 1] + "…"
