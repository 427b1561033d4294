"""Several recordings in one file: told apart by columns or axes, read one at a time, with labels, splits and rates."""

import io
from collections import OrderedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.codecs.tables import npz
from unmask.data.codecs.tables.pieces import pieces_of, read_piece
from unmask.data.modality import make_modality
from unmask.data.sheet import inspect
from unmask.data.source import open_source

HEAD = ("time", "x", "y", "subject", "window", "label", "split")


def recordings():
    """(subject, window) -> label, split and samples c t; of different lengths."""
    chance = np.random.default_rng(0)
    return {
        (subject, window): ("ab"[window % 2], "test" if subject == 2 else "train", chance.normal(size=(2, 30 + window)))
        for subject in range(3)
        for window in range(3)
    }


def columns_of(truth, rate=50):
    rows = []
    for (subject, window), (label, split, values) in truth.items():
        rows += [(i / rate, *values[:, i].tolist(), subject, window, label, split) for i in range(values.shape[1])]
    return rows


def as_csv(rows, separator=","):
    return "\n".join([separator.join(HEAD), *(separator.join(map(str, row)) for row in rows), ""]).encode()


def as_parquet(rows, group=41):
    file = io.BytesIO()
    pq.write_table(pa.table(dict(zip(HEAD, map(list, zip(*rows))))), file, row_group_size=group)
    return file.getvalue()


@pytest.mark.parametrize("form", ["csv", "semicolons", "UTF-16", "parquet"])
@pytest.mark.parametrize("order", ["one after the other", "interleaved"])
def test_columns_tell_recordings_their_labels_and_their_splits_apart(form, order, tmp_path):
    truth = recordings()
    rows = columns_of(truth)
    if order == "interleaved":
        rows.sort(key=lambda row: row[0])
    path = tmp_path / ("table.parquet" if form == "parquet" else "table.csv")
    text = as_csv(rows, ";" if form == "semicolons" else ",")
    text = text.decode().encode("utf-16") if form == "UTF-16" else text
    path.write_bytes(as_parquet(rows) if form == "parquet" else text)
    source = open_source(path, None)
    assert source.modality.text == "signal(rate=50)"
    assert {item.name for item in source.items} == {f"{path.name}@{s}/{w}" for s, w in truth}
    for index, item in enumerate(source.items):
        label, split, values = truth[int(item.columns["subject"]), int(item.columns["window"])]
        assert (item.label, item.split) == (label, split)
        raw = source.raw(index)
        assert isinstance(raw, Piece)
        torch.testing.assert_close(source.modality.decode(raw).content, torch.from_numpy(values).float())
    assert "recordings are told apart by the columns 'subject' and 'window'" in source.remarks
    assert inspect(source, max_side=None)[0].num_good == len(truth)


CELLS = st.none() | st.integers(-64, 64).map(lambda number: number / 4)
OWNERS = st.sampled_from([["0", "1", "2"], ["anna", "\u00f6", "\u03a9 2"], ["7", "7a", ""]])
CODES = {"utf-8": b"", "utf-8-sig": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}  # what a text begins with


@st.composite
def tables(draw):
    """A table of two channels and a column that names the recording: rows in any order, cells that miss. Its first row
    is whole, and its last has a value, else nothing would say where the header ends and what separates cells."""
    rows = st.tuples(CELLS, st.sampled_from(draw(OWNERS)), CELLS)
    x, owner, y = zip(*draw(st.lists(rows, min_size=4, max_size=40)))
    return pd.DataFrame({"x": [0.5, *x[1:-1], 1.5], "subject": owner, "y": [-0.25, *y[1:]]})


def expected_recordings(table):
    """As pandas reads the table as a whole; None where a recording has no value at all."""
    parts = [part for _, part in table.groupby("subject", sort=False)]
    if 2 * len(parts) > max(2, len(table)):  # a column that says something new in most rows counts them
        parts = [table]
    values = [part[["x", "y"]].astype(float).reset_index(drop=True) for part in parts]
    bridged = [part.interpolate(limit_direction="both").fillna(0.0).to_numpy().T for part in values]
    return [None if part.isna().to_numpy().all() else even for part, even in zip(values, bridged)]


def read_all(source):
    for cut in pieces_of(source).cuts:
        try:
            yield read_piece(source, cut.place).values.numpy()
        except BadImage as error:
            assert "no finite value" in str(error)  # noqa: PT017 (it goes on with the next recording)
            yield None


def assert_same(seen, expected):
    assert [part is None for part in seen] == [part is None for part in expected]
    for part, wanted in zip(seen, expected):
        if part is not None:
            np.testing.assert_allclose(part, wanted, atol=1e-5)


SPACED = pd.DataFrame(  # by spaces there are more values in as many fields than by tabs
    {"x": [0.5, np.nan, np.nan, 1.5], "subject": ["anna", "anna", "Ω 2", "anna"], "y": [-0.25, 0.0, np.nan, np.nan]}
)


@example(SPACED, "utf-8", "\n", "\t", True)
@given(
    tables(), st.sampled_from(sorted(CODES)), st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t"), st.booleans()
)
@settings(deadline=None, max_examples=60)
def test_recordings_of_a_text_are_those_of_the_table_read_whole(table, code, end, separator, ended):
    text = table.to_csv(index=False, sep=separator, lineterminator=end)
    source = CODES[code] + (text if ended else text.removesuffix(end)).encode(code)
    if separator == "\t":  # a row of tabs alone is an empty line, which is passed over
        table = table[(table["subject"] != "") | table[["x", "y"]].notna().any(axis=1)]
    assert_same(list(read_all(source)), expected_recordings(table))


@given(tables(), st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_recordings_of_parquet_are_those_of_the_table_read_whole(table, group):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), file, row_group_size=group)
    assert_same(list(read_all(file.getvalue())), expected_recordings(table))


def test_no_more_of_a_parquet_file_is_read_than_the_groups_of_a_recording(tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    path.write_bytes(as_parquet(columns_of(recordings()), group=10))
    source, read, whole = open_source(path, None), [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, **more: read.append(i) or whole(self, i, **more)
    )
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    source.modality.decode(source.raw(0))
    assert read == [0, 1, 2]


def test_a_column_may_be_named_or_refused(tmp_path):
    lines = ["a,b,run", *(f"{i},{-i},{i // 10}" for i in range(40))]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    assert len(open_source(path, None).items) == 1
    named = open_source(path, "signal(recording='run')")
    assert [item.name for item in named.items] == [f"table.csv@{i}" for i in range(4)]
    assert named.modality.decode(named.raw(3)).content.shape == (2, 10)
    (tmp_path / "table.csv").write_text("\n".join(lines).replace("run", "id") + "\n")
    assert len(open_source(path, None).items) == 4
    assert len(open_source(path, "signal(recording='')").items) == 1
    missing = inspect(open_source(path, "signal(recording='who', rate=5)"), max_side=None)[0]
    assert "no column 'who'" in missing.bad[0][2]


def test_a_column_that_counts_rows_and_one_that_changes_within_a_recording_mislead_nobody(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{i},{i % 7},{i // 20},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["id,x,window,label", *rows]) + "\n")
    source = open_source(path, None)
    assert [item.name for item in source.items] == ["table.csv@0", "table.csv@1", "table.csv@2"]
    assert {item.label for item in source.items} == {None}
    assert any("changes from row to row" in remark for remark in source.remarks)
    assert source.modality.decode(source.raw(0)).content.shape == (1, 20)


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_label_in_quotes_may_hold_the_separator(separator):
    truth = {key: (f"walking{separator} {label}", *rest) for key, (label, *rest) in recordings().items()}
    quoted = [(*row[:5], f'"{row[5]}"', row[6]) for row in columns_of(truth)]
    text = as_csv(quoted, separator)
    cuts = pieces_of(text).cuts
    assert [cut.label for cut in cuts] == [label for label, *_ in truth.values()]
    lengths = [read_piece(text, cut.place).values.shape[-1] for cut in cuts]
    assert lengths == [values.shape[1] for _, _, values in truth.values()]


def test_a_bad_recording_is_listed_and_the_others_are_used(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{'' if i // 20 == 1 else i % 7},{i // 20}" for i in range(60)]
    path.write_text("\n".join(["x,window", *rows]) + "\n")
    sheet = inspect(open_source(path, "signal"), max_side=None)[0]
    assert [name for _, name, _ in sheet.bad] == ["table.csv@1"]
    assert sheet.num_good == 2


@pytest.mark.parametrize("axes", ["n c t", "n t c"])
@pytest.mark.parametrize("form", ["npy", "npz", "splits"])
def test_of_three_axes_the_first_is_the_recording_and_the_longer_other_one_time(axes, form, tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 3, 40)).astype(np.float32)
    stored = values if axes == "n c t" else values.transpose(0, 2, 1)
    path = tmp_path / f"a.{'npy' if form == 'npy' else 'npz'}"
    if form == "npy":
        np.save(path, stored)
    elif form == "npz":
        np.savez(path, x=stored)
    else:
        labels = np.arange(6) % 2
        np.savez(path, train_x=stored[:4], train_y=labels[:4], test_x=stored[4:], test_y=labels[4:])
    source = open_source(path, "signal")
    assert len(source.items) == 6
    decoded = [source.modality.decode(source.raw(i)).content for i in range(6)]
    torch.testing.assert_close(torch.stack(decoded), torch.from_numpy(values))
    if form == "splits":
        assert [(item.label, item.split) for item in source.items[3:5]] == [("1", "train"), ("0", "test")]


def test_an_archive_of_recordings_is_read_once_not_for_each_of_them(tmp_path, monkeypatch):
    for number in range(2):
        values = np.random.default_rng(number).normal(size=(5, 2, 60)).astype(np.float32)
        np.savez_compressed(tmp_path / f"{number}.npz", x=values)
    source, load, loaded = open_source(tmp_path, "signal"), np.load, []
    assert len(source.items) == 10
    monkeypatch.setattr(npz, "_kept", OrderedDict())
    monkeypatch.setattr(np, "load", lambda file, **more: loaded.append(file) or load(file, **more))

    def decoded(index):
        return source.modality.decode(source.raw(index)).content

    first = [decoded(index) for index in (0, 7, 1, 8, 0)]
    assert len(loaded) == 2
    torch.testing.assert_close(first[1], torch.from_numpy(load(tmp_path / "1.npz")["x"][2]))
    first[0].zero_()
    torch.testing.assert_close(decoded(0), first[4])  # what is handed out is a copy
    monkeypatch.setattr(npz, "KEPT", 10)
    for index in (0, 7, 8, 1):
        decoded(index)
    assert len(loaded) == 4  # of one file more than fits, only the last is kept
    np.savez_compressed(tmp_path / "0.npz", x=np.zeros((5, 2, 61), np.float32))
    assert decoded(0).shape == (2, 61)  # another file, which is read anew


def test_recordings_of_other_rates_are_brought_to_the_most_common_one(tmp_path):
    for number, rate in enumerate((50, 50, 100)):
        seconds = np.arange(4 * rate) / rate
        table = np.stack([seconds, 5 + np.sin(2 * np.pi * 2 * seconds)], axis=1)
        np.savetxt(tmp_path / f"{number}.csv", table, delimiter=",", header="time,x", comments="", fmt="%.5f")
    source = open_source(tmp_path, None)
    assert source.modality.text == "signal(rate=50)"
    first, third = (source.modality.decode(source.raw(i)) for i in (0, 2))
    assert third.content.shape == (1, 200)
    assert "resampled to 50 Hz" in third.notes
    assert (first.content - third.content)[0, 5:-5].abs().max() < 0.02


def test_sound_is_read_as_waveforms_where_that_is_asked_for(tmp_path):
    import soundfile

    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (400, 2))
    soundfile.write(tmp_path / "a.wav", waves, 8000, subtype="PCM_16")
    soundfile.write(tmp_path / "b.wav", waves[:300], 8000, subtype="PCM_16")
    assert open_source(tmp_path, None).modality.word == "recording"
    source = open_source(tmp_path, "signal")
    assert source.modality.text == "signal(rate=8000)"
    content = source.modality.decode(source.raw(0)).content
    assert content.shape == (2, 400)
    assert np.abs(content.numpy() - waves.T).max() < 1e-4


def test_files_that_hold_one_recording_are_named_as_they_are(tmp_path):
    np.savetxt(
        tmp_path / "a.csv", np.random.default_rng(0).normal(size=(30, 2)), delimiter=",", header="x,y", comments=""
    )
    source = open_source(tmp_path / "a.csv", None)
    assert [item.name for item in source.items] == ["a.csv"]
    assert not isinstance(source.raw(0), Piece)
    assert make_modality("signal").pieces(str(tmp_path / "none.csv")).cuts == ()
