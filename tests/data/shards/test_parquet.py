"""Parquet files: the column of images, labels of any type, damaged row groups, sets of the hub."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.shardmaking import QUICK, parquet, png, seen

from unmask.data import limits
from unmask.data.shards import parquet_pages
from unmask.data.shards.stream import open_stream
from unmask.data.source import open_source
from unmask.errors import DataError


@pytest.mark.slow
def test_parquet_finds_the_image_and_the_class_names_and_skips_by_row(tmp_path):
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    parquet(tmp_path / "set" / "data" / "train-00000-of-00002.parquet", range(20), features=features)
    parquet(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", range(20, 23), features=features)
    parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", range(5), features=features)
    stream = open_stream(tmp_path / "set").training()
    assert stream.remarks == ["1 shards of other splits are left out"]
    assert stream.classes == ["cat", "dog"]
    assert [stream.count(0), stream.count(1)] == [20, 3]
    rows = seen(stream)
    assert [(data, label, columns) for _, data, label, columns in rows] == [
        (png(i), ["cat", "dog"][i % 2], {"words": f"w{i}"}) for i in range(23)
    ]
    for first in (6, 7, 13, 19, 20, 30):
        assert [s.key for s in stream.samples(0, first)] == [f"row {i}" for i in range(first, 20)]
    held = open_source(tmp_path / "set")  # small: for the verbs that need any image at any time
    assert sorted({(i.split, i.label) for i in held.items}) == [
        (s, c) for s in ("test", "train") for c in ("cat", "dog")
    ]
    parquet(tmp_path / "plain.parquet", range(3), images=[png(i) for i in range(3)])
    assert seen(open_stream(tmp_path / "plain.parquet"))[2][1:] == (png(2), "0", {"words": "w2"})
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "words.parquet")
    with pytest.raises(DataError, match=r"no column of images .* its columns: words \(string\)"):
        open_stream(tmp_path / "words.parquet")
    parquet(tmp_path / "lost.parquet", range(2), images=[{"bytes": None, "path": "x.png"}, {"bytes": b"", "path": ""}])
    assert next(open_stream(tmp_path / "lost.parquet").samples(0)).problem == "the file holds only a path, x.png"


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        (["cat", None], pa.string(), ["cat", None]),
        (["cat", ""], pa.large_string(), ["cat", None]),
        (["cat", "dog"], pa.string_view(), ["cat", "dog"]),
        (["cat", "dog"], pa.dictionary(pa.int8(), pa.large_string()), ["cat", "dog"]),
        ([7, 9], pa.dictionary(pa.int8(), pa.int64()), ["7", "9"]),
        ([True, False], pa.bool_(), ["True", "False"]),
        ([3, 4], pa.uint8(), ["3", "4"]),
        ([1.0, float("nan")], pa.float64(), ["1", None]),
        ([b"cat", b"dog"], pa.large_binary(), ["cat", "dog"]),
        ([["b", "a"], []], pa.list_(pa.string()), ["a|b", ""]),
    ],
    ids=lambda value: str(value).replace(" ", "") if isinstance(value, pa.DataType) else "",
)
def test_labels_in_parquet_columns_of_any_type_count(values, kind, labels, tmp_path):
    pq.write_table(pa.table({"image": [png(0), png(1)], "label": pa.array(values, kind)}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    assert [item.label for item in source.items] == labels
    assert source.multi_label == pa.types.is_list(kind)


def test_rows_beside_a_damaged_row_group_of_parquet_are_kept_and_the_others_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [png(i) for i in range(300)]}), path, row_group_size=100, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    rows = list(open_stream(path).samples(0))
    assert [row.key for row in rows] == [f"row {i}" for i in range(300)]
    assert [i for i, row in enumerate(rows) if row.problem] == list(range(100, 200))
    assert "row group 1 of the shard is damaged" in rows[100].problem
    assert [row.data for row in rows[200:]] == [png(i) for i in range(200, 300)]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("kind", ["page", "struct", "dictionary", "list"])
def test_a_parquet_page_that_unpacks_without_end_is_refused_before_it_does(kind, version, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_pages, "FREE", 1 << 16)
    monkeypatch.setattr(parquet_pages, "VALUES", 1 << 10)
    monkeypatch.setattr(limits, "FREE", 1 << 20)
    images, labels = [png(0), bytes(1 << 21), png(2)], [1, 2, 3]
    if kind == "struct":
        images = [{"bytes": image, "path": "a"} for image in images]
    if kind == "dictionary":
        images, labels = [bytes(60_000)] * 100, [1] * 100
    if kind == "list":
        images, labels = [png(i) for i in range(3)], [[1], [0] * 500_000, [2, 3]]
    options = {"row_group_size": 100, "use_dictionary": True} if kind == "dictionary" else {"row_group_size": 1}
    options = {"use_dictionary": kind == "list"} | options
    table = pa.table({"image": images, "label": labels})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", data_page_version=version, **options)
    rows = list(open_stream(tmp_path / "a.parquet").samples(0))
    assert [row.key for row in rows] == [f"row {i}" for i in range(len(images))]
    if kind == "dictionary":
        assert [row.problem is None for row in rows] == [True] * 16 + [False] * 84
        assert "unpack to 1,4" in rows[16].problem
    else:
        assert [row.problem is None for row in rows] == [True, False, True]
        words = (
            "has lists of 500,000 values" if kind == "list" else r"unpacks to 2,097,1\d\d, which no honest file does"
        )
        assert re.search(f"row group 1 of the shard is damaged .a page of .* bytes {words}", rows[1].problem)


@pytest.mark.parametrize("buffered", [30, 1 << 20])
def test_headers_of_parquet_pages_are_read_wherever_blocks_of_the_file_end(buffered, tmp_path, monkeypatch):
    rows = {"image": [png(i) for i in range(40)], "label": [["a", "b"]] * 40, "words": [f"w{i % 3}" for i in range(40)]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet", row_group_size=15, data_page_size=1000, compression="zstd")
    ends = []

    class Noted(parquet_pages.PageGuard):
        def watch(self, *given):
            ends.extend(column.next - column.end for column in self.columns)
            super().watch(*given)

        def read(self, size=-1):
            return super().read(size if size > 4096 or not self.columns else min(size, buffered))

    monkeypatch.setattr("unmask.data.shards.formats.parquet.PageGuard", Noted)
    assert [row.data for row in open_stream(tmp_path / "a.parquet").samples(0)] == rows["image"]
    assert ends == [0] * 6  # the last page of every column of the first two groups was met


def test_a_parquet_shard_that_claims_more_rows_than_it_can_hold_is_damaged(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [png(0)] * 99}), tmp_path / "a.parquet", row_group_size=90)
    size = (tmp_path / "a.parquet").stat().st_size
    monkeypatch.setattr("unmask.data.shards.formats.parquet.BITS", 80 / size)
    (row,) = open_stream(tmp_path / "a.parquet").samples(0)
    assert row.problem == "the shard is damaged (row group 0 claims to have 90 rows)"


def test_a_parquet_shard_goes_on_from_any_row_of_a_large_row_group(tmp_path):
    pq.write_table(pa.table({"image": [png(i % 9) for i in range(200)]}), tmp_path / "a.parquet")
    stream = open_stream(tmp_path / "a.parquet")
    for first in (63, 64, 100, 199):
        assert [row.key for row in stream.samples(0, first)] == [f"row {i}" for i in range(first, 200)]


def test_the_hub_s_library_reads_a_set_by_name(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    features = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    for shard in (0, 1):
        name = tmp_path / "set" / "data" / f"train-{shard:05d}-of-00002.parquet"
        parquet(name, range(shard * 9, shard * 9 + 9), features=features)
    stream = open_stream(f"hf:{tmp_path}/set", QUICK)
    assert [(data, label) for _, data, label, _ in seen(stream)] == [(png(i), ["cat", "dog"][i % 2]) for i in range(18)]
    assert [sample.key for sample in stream.samples(1, 7)] == ["row 7", "row 8"]
    with pytest.raises(DataError, match=r"hf:.*:other cannot be opened: .*Available: \['default'\]"):
        open_stream(f"hf:{tmp_path}/set:other", QUICK)
