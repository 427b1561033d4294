"""Columns that are times: which one it is, its unit, the sampling rate, and what becomes of irregular samples."""

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unmask.data.codecs.image import BadImage

WORDS = set("time timestamp timestamps datetime date epoch t seconds second sec secs ms msec millis".split()) | set(
    "milliseconds us usec micros microseconds ns nanos nanoseconds elapsed zeit zeitstempel unixtime timestep".split()
)
UNITS = {  # seconds
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "micros", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanos", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minutes"), 60.0),
}
EPOCHS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))  # times since 1970 from this value on: their unit
COUNTERS = set("index idx sample samples no nr n row frame packet counter count unnamed".split()) | {""}
FINEST = 1000  # denominator of a ratio of rates
GAP = 10  # samples that are missing in one place, from which that is said
GROWTH = 10  # times as many samples after resampling as before, above which a recording is refused


@dataclass
class Clock:
    """A column of times in seconds from the first sample on."""

    name: str
    seconds: np.ndarray
    assumed: bool = False  # nothing says the unit


def words_of(name: str) -> list[str]:
    """`Time (ms)`, `accTimestamp_ms`: time, ms; acc, timestamp, ms."""
    plain = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("\xb5", "u").replace("\u03bc", "u")  # micro signs
    return re.findall(r"[a-z]+", plain.lower())


def find_clock(
    names: list[str], units: list[str], columns: list[pa.ChunkedArray], notes: list[str]
) -> tuple[Clock | None, list[int]]:
    """The column of times, if any, and the columns that are no channels: it, a second one, and one that counts rows."""
    stamps = [place for place, column in enumerate(columns) if pa.types.is_temporal(column.type)]
    dates = [place for place in stamps if pa.types.is_date(columns[place].type)]
    hours = [place for place in stamps if pa.types.is_time(columns[place].type)]
    if dates and hours:
        seconds = _seconds_of(columns[dates[0]]) + _seconds_of(columns[hours[0]])
        return Clock("date and time", seconds), stamps
    if stamps:
        place = stamps[0]
        return Clock(_name(names, place), _seconds_of(columns[place])), stamps
    numbers = [place for place, column in enumerate(columns) if is_number(column.type)]
    counters = [place for place in numbers[:1] if _counts_rows(columns[place]) and _may_count(names, place)]
    if counters:
        notes.append(f"column {_name(names, counters[0])!r} counts the rows: left out")
    named = [place for place in numbers if names and WORDS & set(words_of(names[place]))]
    if not names and len(numbers) > 1 and not counters:
        named = numbers[:1]
    for place in named:
        values = columns[place].to_numpy().astype(np.float64)
        if place in counters or not np.isfinite(values).all() or len(values) < 2 or (np.diff(values) < 0).mean() > 0.01:
            if names and place not in counters:
                notes.append(f"column {names[place]!r} does not rise like times: taken as a channel")
            continue
        if not names and not ((np.diff(values) > 0).all() and _even(values)):  # a channel that happens to rise
            continue
        unit = _unit(words_of(names[place]) + words_of(units[place] if units else "") if names else [], values)
        clock = Clock(_name(names, place), (values - values[0]) * (unit or 1.0), assumed=unit is None)
        return clock, [*counters, place]
    return None, counters


def resampled(clock: Clock, values: np.ndarray, notes: list[str]) -> tuple[np.ndarray, float]:
    """c t values at an even rate, and the rate in Hz. Samples that lie within half a step of an even grid stay as they
    are; others are interpolated by straight lines at the median step. Raises BadImage where there is no rate."""
    seconds = clock.seconds
    if (np.diff(seconds) < 0).any():
        order = np.argsort(seconds, kind="stable")
        seconds, values = seconds[order], values[:, order]
        notes.append("rows sorted by time")
    fresh = np.concatenate([[True], np.diff(seconds) > 0])
    if not fresh.all():
        notes.append(f"{int((~fresh).sum()):,} rows of a time that was there before left out")
        seconds, values = seconds[fresh], values[:, fresh]
    if len(seconds) < 2:
        raise BadImage(f"column {clock.name!r} holds one time only")
    if clock.assumed:
        notes.append(f"column {clock.name!r} taken as seconds")
    if _even(seconds):
        return values, _round((len(seconds) - 1) / (seconds[-1] - seconds[0]))
    steps = np.diff(seconds)
    step = float(np.median(steps))
    count = int((seconds[-1] - seconds[0]) / step + 1e-6) + 1
    if count > GROWTH * len(seconds):
        raise BadImage(f"gaps up to {steps.max():,.3g} s at {1 / step:,.4g} Hz: cut it where nothing was recorded")
    rate = _round(1 / step)
    notes.append(f"irregular sampling ({steps.min():.3g} to {steps.max():.3g} s apart): resampled to {rate:g} Hz")
    if steps.max() > GAP * step:
        notes.append(f"gaps up to {steps.max():.3g} s bridged by straight lines")
    grid = seconds[0] + np.arange(count) * step
    return np.stack([np.interp(grid, seconds, channel) for channel in values]), rate


def at_rate(values: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """c t values at another rate, float32: a filter keeps what is too fast for it from folding back (SciPy's
    resample_poly, whose ends go on along a line)."""
    from scipy.signal import resample_poly

    share = Fraction(wanted / rate).limit_denominator(FINEST)
    up, down = max(1, share.numerator), share.denominator
    return np.ascontiguousarray(resample_poly(values, up, down, axis=1, padtype="line"), dtype=np.float32)


def _even(seconds: np.ndarray) -> bool:
    grid = np.linspace(seconds[0], seconds[-1], len(seconds))
    return bool(np.abs(seconds - grid).max() <= 0.5 * (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1))


def _round(rate: float) -> float:
    """Six digits, which is what times of milliseconds tell; whole numbers where that is nearest."""
    return float(f"{rate:.6g}")


def _unit(words: list[str], values: np.ndarray) -> float | None:
    """Seconds per unit by the header, by the size of times since 1970, or None."""
    said = next((UNITS[word] for word in reversed(words) if word in UNITS), None)
    since = next((unit for least, unit in EPOCHS if abs(values[0]) > least), None)
    return since or said or (1.0 if abs(values[0]) > 1e8 else None)


def _seconds_of(column: pa.ChunkedArray) -> np.ndarray:
    """Dates, times of the day and both, in seconds; a day that ends within the recording goes on."""
    if column.null_count:
        raise BadImage("times are missing")
    if pa.types.is_time(column.type):
        whole = pc.cast(pc.cast(column, pa.time64("ns")), pa.int64()).to_numpy()
        seconds = whole / 1e9
        return seconds + 86400 * np.concatenate([[0], np.cumsum(np.diff(seconds) < -43200)])
    whole = pc.cast(pc.cast(column, pa.timestamp("ns")), pa.int64()).to_numpy()
    return (whole - whole[0]) / 1e9


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _counts_rows(column: pa.ChunkedArray) -> bool:
    if not pa.types.is_integer(column.type) or column.null_count or len(column) < 3:
        return False
    return bool((np.diff(column.to_numpy()) == 1).all())


def _may_count(names: list[str], place: int) -> bool:
    return not names or set(words_of(names[place]) or [""]) <= COUNTERS


def _name(names: list[str], place: int) -> str:
    return names[place] if names else f"no. {place + 1}"
