"""Where shards come from: tar and parquet, local, over HTTP that breaks on purpose, from a server that speaks S3."""

import gzip
import json
import logging
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.shardmaking import png, served, shards, tar
from support.small import SMALL

from unmask import pretrain
from unmask.cli.main import main
from unmask.data.shards import remote
from unmask.data.shards.remote import Patience, open_shard
from unmask.data.shards.stream import is_stream, open_stream
from unmask.data.source import open_source
from unmask.errors import DataError, UserError

QUICK = Patience(tries=4, first=0.01, silence=0.5)


def seen(stream):
    return [(name, sample.data, sample.label, sample.columns) for name, sample in stream]


def test_webdataset_members_make_samples(tmp_path):
    members = [("./d/1.jpg.txt", b"no image"), ("./d/1.mask.png", b"m"), ("./d/1.PNG", b"one"), ("d/1.cls", b"4\n")]
    members += [("d/2.json", json.dumps({"label": "cat", "width": 3, "more": [1]}).encode()), ("d/2.jpg", b"two")]
    members += [
        ("._2.jpg", b"hidden"),
        ("3.webp", b"three"),
        ("3.txt", b"a dog"),
        ("4.json", b"{broken"),
        ("4.jpg", b"4"),
    ]
    tar(tmp_path / "a.tar", members)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    stream = open_stream(f"{tmp_path}/{{a.tar,b.tar.gz}}")
    one_shard = [
        ("d/1", b"one", "4", {}),
        ("d/2", b"two", "cat", {"label": "cat", "width": "3"}),
        ("3", b"three", None, {"txt": "a dog"}),
        ("4", b"4", None, {}),
    ]
    assert seen(stream) == [
        (f"{tmp_path}/{shard}/{key}", *rest) for shard in ("a.tar", "b.tar.gz") for key, *rest in one_shard
    ]
    assert [sample.key for sample in stream.samples(1, 2)] == ["3", "4"]


def names_of(path, names):
    """Keys, labels and images left out of a tar with these members, the same from wherever one begins."""
    tar(path, [(name, str(i).encode()) for i, name in enumerate(names)])
    stream = open_stream(path)
    everything = list(stream.samples(0))
    for first in range(len(everything) + 1):
        assert [(s.key, s.data) for s in stream.samples(0, first)] == [(s.key, s.data) for s in everything[first:]]
    assert not any(sample.problem for sample in everything)
    return [(sample.key, sample.label, sample.unused) for sample in everything]


def test_dots_in_the_names_of_webdataset_members_split_no_sample_and_join_none(tmp_path):
    dotted = [f"cam 2024.05.{i:04d}.{ending}" for i in range(40) for ending in ("cls", "depth.png", "jpg")]
    assert names_of(tmp_path / "a.tar", dotted) == [
        (f"cam 2024.05.{i:04d}", str(3 * i), ("depth.png",)) for i in range(40)
    ]
    few = [f"v1.{i}.{ending}" for i in range(3) for ending in ("jpg", "cls")]
    assert names_of(tmp_path / "b.tar", few) == [(f"v1.{i}", str(2 * i + 1), ()) for i in range(3)]


def test_of_several_images_in_a_webdataset_sample_those_left_out_are_said(tmp_path):
    pairs = [f"{i}.{ending}" for i in range(2) for ending in ("cls", "left.png", "right.png")]
    assert names_of(tmp_path / "a.tar", pairs) == [("0", "0", ("right.png",)), ("1", "3", ("right.png",))]
    assert "2 samples hold more than one image" in open_source(f"{tmp_path}/*.tar").remarks[0]
    masked = [f"{i}.{ending}" for i in range(2) for ending in ("depth.png", "rgb.png", "mask.png")]
    assert names_of(tmp_path / "b.tar", masked) == [(str(i), None, ("depth.png", "mask.png")) for i in range(2)]
    apart = [f"{i}.{ending}" for i in range(2) for ending in ("left.png", "right.png")]
    assert names_of(tmp_path / "c.tar", apart) == [
        (f"{i}.{side}", None, ()) for i in range(2) for side in ("left", "right")
    ]
    parts = [f"{i}.{ending}" for i in range(2) for ending in ("img.png", "caption.txt")]
    assert names_of(tmp_path / "d.tar", parts) == [("0", None, ()), ("1", None, ())]


def parquet(path, numbers, group=7, features=None, images=None):
    images = images or [{"bytes": png(i), "path": f"{i}.png"} for i in numbers]
    table = pa.table({"img": images, "label": [i % 2 for i in numbers], "words": [f"w{i}" for i in numbers]})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


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


def test_what_is_a_stream_and_what_is_not(tmp_path, photos):
    place = shards(tmp_path / "s", [2, 2])
    assert is_stream([place, f"{tmp_path}/s", f"{tmp_path}/s/*.tar", "s3://b/x.tar", "hf:user/name"])
    assert not is_stream([f"{tmp_path}/s/s-00.tar", str(photos), "demo", "nowhere"])
    assert len(open_source(f"{tmp_path}/s/s-00.tar").items) == 2  # one local tar is read in any order
    tar(photos / "backup.tar", [])
    assert not is_stream(photos)
    deep = tmp_path / "deep" / "2019" / "01" / "02" / "03"
    deep.mkdir(parents=True)
    tar(tmp_path / "deep" / "backup.tar", [])
    (deep / "a.png").write_bytes(png(0))
    assert not is_stream(tmp_path / "deep")
    with pytest.raises(UserError, match="cannot be mixed"):
        is_stream([place, str(photos)])


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


def test_a_parquet_shard_goes_on_from_any_row_of_a_large_row_group(tmp_path):
    pq.write_table(pa.table({"image": [png(i % 9) for i in range(200)]}), tmp_path / "a.parquet")
    stream = open_stream(tmp_path / "a.parquet")
    for first in (63, 64, 100, 199):
        assert [row.key for row in stream.samples(0, first)] == [f"row {i}" for i in range(first, 200)]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s-{00..03}.tar", r"2 of 4 shards are not there, e\.g\. .*s-02\.tar, did you mean '.*s-01\.tar'\?"),
        ("s-{00..01.tar", r"braces of .* do not match; write train-\{000000\.\.000147\}\.tar"),
        ("s-{00-01}.tar", r"braces that are no range or list"),
        ("s-{0..99999999}.tar", r"names more than 1,000,000 shards"),
        ("t/{00..01}.tar", r"there is no .*/t; check the name"),
        ("x-*.tar", r"no shards in .*x-\*\.tar"),
        ("{s-00,s-00}.tar", r"names some shards twice"),
        ("{s-00.tar,p.parquet}", r"shards of several kinds, parquet and webdataset"),
        ("foo://b/{0..9}.tar", r"Protocol not known: foo"),
        ("gs://b/{0..9}.tar", r"needs a package that is not installed .*pip install"),
    ],
)
def test_wrong_places_are_one_clear_line(tmp_path, place, words, capsys):
    shards(tmp_path, [1, 1])
    parquet(tmp_path / "p.parquet", range(1))
    if place.startswith("gs"):
        pytest.importorskip("fsspec")
        try:
            import gcsfs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("gcsfs is there")
    with pytest.raises(UserError, match=words) as caught:
        open_stream(place if "://" in place else f"{tmp_path}/{place}", QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path, ranges, monkeypatch):
    place = shards(tmp_path / "s", [9, 4])
    local = [sample.data for _, sample in open_stream(place)]
    monkeypatch.setattr(remote, "BLOCK", 8192)
    faults = ["cut", "refuse", "busy", "stall", None, "cut", "cut", None, "busy"]
    with served(tmp_path / "s", faults, ranges) as (url, server):
        stream = open_stream(f"{url}/s-{{00..01}}.tar", QUICK)
        assert [sample.data for _, sample in stream] == local
        assert not server.faults
        assert len(server.log) > len(faults)


def test_parquet_survives_a_broken_connection_too(tmp_path):
    parquet(tmp_path / "p.parquet", range(9))
    with served(tmp_path, ["cut", "busy", None, "refuse"]) as (url, server):
        assert seen(open_stream(f"{url}/p.parquet", QUICK))[8][1] == png(8)
        assert not server.faults


def test_after_the_last_try_the_message_names_shard_and_error(tmp_path):
    shards(tmp_path, [3])
    with served(tmp_path, [None, "cut"] + ["busy"] * 99) as (url, server):
        stream = open_stream(f"{url}/s-00.tar", QUICK)
        server.faults.pop(0)
        with pytest.raises(DataError, match=r"s-00\.tar cannot be read: 4 tries in \d+ s failed, .*HTTP status 503"):
            list(stream)
        server.faults.clear()
        begin = time.monotonic()
        with pytest.raises(DataError, match=r"there is no http://.*nix\.tar"):  # asking again would not mend that
            open_shard(f"{url}/nix.tar", Patience(first=9))
        assert time.monotonic() - begin < 5
        with pytest.raises(UserError, match=r"a web server does not say what it has; name the shards"):
            open_stream(f"{url}/", QUICK)
    waits = [Patience().wait(tried) for tried in (1, 2, 3, 9)]
    assert all(low <= wait <= 3 * low for low, wait in zip((0.5, 1, 2, 30), waits))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A server that speaks S3, with a bucket of shards."""
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    folder = tmp_path_factory.mktemp("s3") / "s"
    shards(folder, [20, 12])
    import s3fs

    store = s3fs.S3FileSystem()
    store.mkdir("photos")
    store.put(str(folder), "photos/set", recursive=True)
    yield folder
    server.stop()
    patch.undo()


def test_s3_is_read_as_a_disk_is(bucket):
    local = [sample.data for _, sample in open_stream(str(bucket))]
    for place in ("s3://photos/set/s-{00..01}.tar", "s3://photos/set/*.tar", "s3://photos/set/"):
        stream = open_stream(place, QUICK)
        assert [sample.data for _, sample in stream] == local
        assert all(shard.size and shard.tag for shard in stream.shards)
    assert open_stream("s3://photos/set", QUICK).fingerprint() == stream.fingerprint()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s3://nix/{00..01}.tar", "there is no s3://nix; check the name of the server or bucket"),
        ("s3://photos/set/s-{00..02}.tar", "1 of 3 shards are not there, e.g. s3://photos/set/s-02.tar, did you mean"),
        ("s3://photos/nix/", "there is nothing at s3://photos/nix/"),
    ],
)
def test_mistakes_with_s3_exit_with_one_line(bucket, place, words, capsys):
    with pytest.raises(SystemExit, match="3"):
        main(["pretrain", place, "--out", str(bucket.parent / "no")])
    message = capsys.readouterr().err
    assert words in " ".join(message.split())
    assert "Traceback" not in message
    assert not (bucket.parent / "no").exists()


def test_missing_credentials_are_said(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"may not be read .*credentials.*FSSPEC_S3='\{\"anon\": true\}'"):
        open_stream("s3://photos/set/s-00.tar", QUICK)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_a_run_learns_from_s3(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unmask.planning.measure.CONTEXT_BATCH", 8)
    options = SMALL | {"steps": 4, "log_every": 1, "workers": 2}
    pretrain("s3://photos/set/s-{00..01}.tar", out=tmp_path / "remote", **options)
    pretrain(f"{bucket}/s-{{00..01}}.tar", out=tmp_path / "local", **options)
    records = [[json.loads(x) for x in open(tmp_path / out / "metrics.jsonl")] for out in ("remote", "local")]
    assert [r["loss"] for r in records[0]] == [r["loss"] for r in records[1]]
    sheet = json.loads((tmp_path / "remote" / "data_sheet.json").read_text())
    assert (sheet["count"], sheet["where"]) == (32, "s3://photos/set/s-{00..01}.tar")
    assert "shuffle_buffer" in capsys.readouterr().out


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
