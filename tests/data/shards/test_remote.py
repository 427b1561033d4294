"""Shards over HTTP that breaks on purpose, and from a server that speaks S3."""

import json
import logging
import time

import pytest
from support.shardmaking import QUICK, parquet, png, seen, served, shards
from support.small import SMALL

from unmask import pretrain
from unmask.cli.main import main
from unmask.data.shards import remote
from unmask.data.shards.remote import Patience, open_shard
from unmask.data.shards.stream import open_stream
from unmask.errors import DataError, UserError


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
    monkeypatch.setattr("unmask.planning.build.INSPECTED", 8)
    options = SMALL | {"steps": 4, "log_every": 1, "workers": 2}
    pretrain("s3://photos/set/s-{00..01}.tar", out=tmp_path / "remote", **options)
    pretrain(f"{bucket}/s-{{00..01}}.tar", out=tmp_path / "local", **options)
    records = [[json.loads(x) for x in open(tmp_path / out / "metrics.jsonl")] for out in ("remote", "local")]
    losses = [[record["loss"] for record in run if "loss" in record] for run in records]
    assert losses[0] == losses[1]
    sheet = json.loads((tmp_path / "remote" / "data_sheet.json").read_text())
    assert (sheet["count"], sheet["where"]) == (32, "s3://photos/set/s-{00..01}.tar")
    assert "shuffle_buffer" in capsys.readouterr().out
