"""Recordings of sensors: every way a table is written, times and rates, arrays by their axes, and what is refused."""

import io
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.series import count_series, holds_series, read_series
from unmask.errors import UserError

WAVES = np.stack([np.sin(np.arange(40) / 5), np.cos(np.arange(40) / 3) * 100]).round(4)  # c t


def table(separator=",", decimal=".", head="", times=None, values=WAVES, newline="\n") -> bytes:
    lines = [head] if head else []
    for place, sample in enumerate(values.T):
        cells = [f"{number:.4f}".replace(".", decimal) for number in sample]
        lines.append(separator.join([*([str(times[place])] if times is not None else []), *cells]))
    return (newline.join(lines) + newline).encode()


def same(series, expected=WAVES) -> bool:
    return series.values.shape == expected.shape and np.allclose(series.values.numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("head", ["", "a b"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("separator", "decimal"),
    [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", "."), (" ", "."), ("  ", ",")],
)
def test_tables_are_read_whatever_separates_them(separator, decimal, head, newline, tmp_path):
    data = table(separator, decimal, head.replace(" ", separator), newline=newline)
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    for source in (data, str(path)):
        series = read_series(source)
        assert same(series)
        assert (series.format, series.rate, series.size, series.channels) == ("CSV", None, (40,), 2)
        assert series.names == (("a", "b") if head else ())
        assert series.notes == ()
        assert count_series(source) == 1


@pytest.mark.parametrize(
    ("name", "times", "rate", "assumed"),
    [
        ("time", np.arange(40) / 50, 50, True),
        ("Time (s)", np.arange(40) / 50 + 7, 50, False),
        ("t [ms]", np.arange(40) * 4, 250, False),
        ("timestamp_us", np.arange(40) * 1000, 1000, False),
        ("Zeit / \xb5s", np.arange(40) * 500, 2000, False),
        ("timestamp", 1_700_000_000 + np.arange(40) / 2, 2, False),
        ("timestamp", 1_700_000_000_000 + np.arange(40) * 10, 100, False),
        ("epoch", 1_700_000_000_000_000_000 + np.arange(40) * 10**7, 100, False),
        ("accTimestamp_ms", np.round(np.arange(40) * 33.3).astype(int), 30.03, False),
        ("date", [f"2024-03-01 12:00:{second:02d}" for second in range(40)], 1, False),
        ("when", [f"2024-03-01T23:59:{30 + k / 4:09.6f}"[:26] for k in range(40)], 4, False),
        ("clock", [f"12:00:{k / 2:06.3f}" for k in range(40)], 2, False),
    ],
)
def test_a_column_of_times_gives_the_rate_and_is_no_channel(name, times, rate, assumed):
    series = read_series(table(head=f"{name},a,b", times=times))
    assert series.rate == pytest.approx(rate, rel=1e-3)
    assert series.names == ("a", "b")
    assert same(series)
    assert series.notes == ((f"column {name!r} taken as seconds",) if assumed else ())


def test_a_column_that_is_called_time_and_falls_is_a_channel_which_is_said():
    series = read_series(table(head="time,a,b", times=40 - np.arange(40)))
    assert (series.rate, series.names) == (None, ("time", "a", "b"))
    assert series.notes == ("column 'time' does not rise like times: taken as a channel",)


def test_times_are_recognised_without_a_header_where_they_are_even():
    series = read_series(table(times=np.arange(40) / 50))
    assert (series.rate, series.channels) == (50, 2)
    assert series.notes == ("column 'no. 1' taken as seconds",)
    rising = read_series(table(values=np.stack([np.arange(40.0) ** 2, WAVES[0]])))
    assert (rising.rate, rising.channels) == (None, 2)


@pytest.mark.parametrize("head", ["", ",a,b", "index,a,b", "Sample No,a,b"])
def test_a_column_that_counts_rows_is_no_channel(head):
    series = read_series(table(head=head, times=np.arange(40)))
    assert (series.rate, series.channels) == (None, 2)
    assert "counts the rows" in series.notes[0]
    assert same(series)


def test_irregular_samples_are_resampled_and_that_is_said():
    times = np.cumsum(np.where(np.arange(40) % 10 == 9, 0.5, 0.1))
    slope = read_series(table(head="time,a", times=times.round(3), values=times[None]))
    assert slope.rate == 10
    assert torch.allclose(slope.values[0].diff(), torch.full((slope.size[0] - 1,), 0.1), atol=1e-3)
    assert any("irregular sampling (0.1 to 0.5 s apart): resampled to 10 Hz" in note for note in slope.notes)
    times[20:] += 3
    gap = read_series(table(head="time,a", times=times.round(3), values=times[None]))
    assert any("gaps up to 3" in note for note in gap.notes)
    times[20:] += 1000
    with pytest.raises(BadImage, match="cut it where nothing was recorded"):
        read_series(table(head="time,a", times=times.round(3), values=times[None]))


def test_unsorted_and_repeated_times_are_put_right():
    times = np.arange(400.0)
    times[[3, 4]] = times[[4, 3]]
    times[10] = times[9]
    series = read_series(table(head="time (s),a", times=times, values=times[None]))
    assert any("sorted by time" in note for note in series.notes)
    assert any("1 rows of a time" in note for note in series.notes)
    assert series.rate == 1
    assert series.values[0, 4] == 4


@pytest.mark.parametrize("word", ["", "NaN", "NA", "null", "?", "-", "ERR"])
def test_missing_values_are_bridged(word):
    lines = table(head="a,b").decode().splitlines()
    lines[6] = f"{word},{lines[6].split(',')[1]}"
    series = read_series("\n".join(lines).encode())
    expected = WAVES.copy()
    expected[0, 5] = (expected[0, 4] + expected[0, 6]) / 2
    assert same(series, expected)
    assert any("1 missing value bridged" in note for note in series.notes)


def test_text_is_left_out_and_what_stands_before_the_table_passed_over():
    rows = "".join(f"{k * 20};{k / 8:.3f};walking;{k % 3}\n" for k in range(40)).replace(".", ",")
    data = "Device: IMU 7\nOwner\n# calibrated\n\nTime;acc;label;code\nms;m/s\xb2;;\n" + rows
    for encoding in ("utf-8", "utf-8-sig", "latin-1", "utf-16"):
        series = read_series(data.encode(encoding))
        assert (series.rate, series.names) == (50, ("acc", "code"))
        assert same(series, np.stack([np.arange(40) / 8, np.arange(40) % 3]))
        assert "2 lines before the table passed over" in series.notes
        assert "text left out: 'label'" in series.notes


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_quotes_within_quotes_belong_to_the_text(separator):
    note = f'"she said ""on{separator} off"""'
    lines = [separator.join(["time", "x", "y", "note"])]
    lines += [separator.join([f"{number / 50}", f"{number % 7}.5", "2", note]) for number in range(40)]
    series = read_series("\n".join(lines).encode())
    assert (series.channels, series.size) == (2, (40,))
    assert "text left out: 'note'" in series.notes


def test_lines_that_end_in_a_separator_have_no_further_channel():
    for head in ("", "a,b,"):
        data = table(head=head).replace(b"\n", b",\n").replace(b",,", b",")
        assert same(read_series(data))


def test_a_rate_stated_before_the_table_is_taken():
    assert read_series(b"# Sampling frequency: 250 Hz\n" + table(head="a,b")).rate == 250
    assert read_series(b"fs = 128\n" + table(head="a,b")).rate == 128


def test_a_channel_without_values_is_kept_so_that_channels_stay_in_place():
    series = read_series(b"a,b,c\n" + b"1.5,,2\n" * 9)
    assert series.channels == 3
    assert not series.values[1].any()
    assert any("1 channel without values set to 0" in note for note in series.notes)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"# nothing\n", "comments only"),
        (b"path,label\na.jpg,cat\nb.jpg,dog\n", "no rows of numbers"),
        (b"a,b\n", "no rows of numbers"),
        (b"a,b\n" + b",\n" * 9, "no rows of numbers|no finite value"),
        (b"1,2\n" * 9 + b"1\n" * 9, "rows of different lengths|no rows"),
        (b"\x00\x01\x02\x03" * 99, "not a table"),
        (b"<html><p>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PAR1 and then nothing", "truncated or damaged"),
        (b"\x93NUMPY\x01", "truncated or damaged"),
        (b"PK\x03\x04", "truncated or damaged"),
        (b"1e300,1\n2,3\n", "beyond the range"),
    ],
)
def test_what_is_no_series_is_refused_with_its_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        read_series(data)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_a_series_or_a_reason(data):
    with suppress(BadImage):  # and nothing else
        assert torch.isfinite(read_series(data).values).all()


def stored(array, **named) -> bytes:
    file = io.BytesIO()
    if named:
        np.savez(file, **named)
    else:
        np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "count", "channels", "length"),
    [
        ((90,), 1, 1, 90),
        ((90, 3), 1, 3, 90),
        ((3, 90), 1, 3, 90),
        ((50, 90), 50, 1, 90),
        ((5, 90, 3), 5, 3, 90),
        ((5, 3, 90), 5, 3, 90),
    ],
)
def test_axes_of_arrays_go_by_the_rule(shape, count, channels, length, tmp_path):
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    (tmp_path / "a.npy").write_bytes(stored(array))
    for source in (array, stored(array), str(tmp_path / "a.npy")):
        assert count_series(source) == count
        series = read_series(source, count - 1)
        assert series.values.shape == (channels, length)
        assert (series.bits, series.rate) == (16, None)
        time = 1 if shape[-1] == length else shape[-1]
        assert float(series.values[0].diff()[0]) == time
        with pytest.raises(BadImage, match=f"no. {count} "):
            read_series(source, count)


def test_a_layout_overrules_the_rule():
    array = np.zeros((20, 90))
    assert count_series(array) == 1
    assert count_series(array, layout="n t") == 20
    with pytest.raises(BadImage, match="expected n t c"):
        read_series(array, layout="n t c")
    with pytest.raises(UserError, match="layout is one of"):
        read_series(array, layout="t n")


def test_archives_give_the_rate_or_times_beside_the_data():
    rated = read_series(stored(None, data=WAVES, fs=250.0))
    assert (rated.rate, rated.format) == (250, "NPZ")
    assert same(rated)
    timed = read_series(stored(None, x=WAVES.T, time=np.arange(40) / 8))
    assert timed.rate == 8
    named = read_series(stored(None, ax=WAVES[0], ay=WAVES[1], rate=np.array([10])))
    assert (named.rate, named.channels) == (10, 2)
    with pytest.raises(BadImage, match="call it x or data"):
        read_series(stored(None, one=WAVES, other=WAVES.T))
    with pytest.raises(BadImage, match="truncated or damaged"):
        read_series(stored(np.array([{}], object)))


def parquet(**columns) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file.getvalue()


def test_parquet_holds_one_recording_in_its_columns_or_one_in_each_row():
    columns = parquet(time=np.arange(40) / 20, a=WAVES[0], b=WAVES[1], label=["x"] * 40)
    series = read_series(columns)
    assert (series.rate, series.names, series.format) == (20, ("a", "b"), "Parquet")
    assert same(series)
    waves = {"a": [list(WAVES[0] + k) for k in range(5)], "b": [list(WAVES[1])] * 5}
    rows = parquet(**waves, label=[0] * 5, rate=[50.0] * 5)
    assert count_series(rows) == 5
    third = read_series(rows, 3)
    assert (third.rate, third.names) == (50, ("a", "b"))
    assert same(third, np.stack([WAVES[0] + 3, WAVES[1]]))
    nested = parquet(x=[WAVES.T.tolist()] * 3)
    assert count_series(nested) == 3
    assert same(read_series(nested, 2))
    assert holds_series(rows)
    assert holds_series(columns)
    assert not holds_series(b"PAR1")


def test_paths_that_are_no_files_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(BadImage, match=r"no such file|not a regular file"):
            read_series(str(path))
