"""Whole runs on a stream: what is looked at first, a run that dies and goes on, options that belong to streams."""

import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image
from support.shardmaking import png, shards, tar
from support.small import SMALL

from unmask import pretrain
from unmask.data.datasets import stream_preview
from unmask.data.datasets.stream_preview import glimpse
from unmask.data.loaders.iterable import StreamLoader
from unmask.data.shards.stream import open_stream
from unmask.errors import UserError


@pytest.mark.slow
def test_training_sets_aside_what_the_look_at_the_stream_did_not_see(tmp_path, monkeypatch):
    deep = io.BytesIO()
    Image.fromarray((np.arange(400.0).reshape(20, 20) * 5e6).astype(np.int32)).save(deep, "TIFF")
    (tmp_path / "s").mkdir()
    tar(tmp_path / "s" / "a.tar", [*[(f"{i}.png", png(i)) for i in range(15)], ("deep.tif", deep.getvalue())])
    monkeypatch.setattr(stream_preview, "LOOKED_BYTES", 5 * len(png(0)))
    run = pretrain(str(tmp_path / "s"), out=tmp_path / "run", **SMALL | {"steps": 4})
    assert max(run.config.data.mean) < 255
    assert "a.tar/deep\thas values from 0 to 1.995e+09" in (tmp_path / "run" / "bad_files.txt").read_text()


@pytest.fixture(autouse=True)
def small_trials(monkeypatch):
    monkeypatch.setattr("unmask.planning.build.INSPECTED", 8)


def losses(out):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records if "loss" in record]


@pytest.mark.slow
def test_a_run_that_dies_goes_on_to_the_very_same_losses(tmp_path, monkeypatch, capsys):
    place, options = shards(tmp_path / "s", [30, 12, 20]), SMALL | {"steps": 6, "log_every": 1, "save_every": 1}
    options |= {"workers": 2, "shuffle_buffer": 8}
    pretrain(place, out=tmp_path / "whole", **options)
    assert "looked at 62 from the beginnings of 3 of 3 shards; the number of all is exact" in capsys.readouterr().out
    call = StreamLoader.__call__

    def dying(self, first=0):
        yield from itertools.islice(call(self, first), 3) if self.counts else call(self, first)
        raise RuntimeError("the machine is gone")

    monkeypatch.setattr(StreamLoader, "__call__", dying)
    with pytest.raises(RuntimeError, match="gone"):
        pretrain(place, out=tmp_path / "died", **options)
    monkeypatch.setattr(StreamLoader, "__call__", call)
    assert len(losses(tmp_path / "died")) == 3
    (tmp_path / "died" / "bad_files.txt").open("a").write("s-00.tar/x\tfound before it died\n")
    pretrain(place, out=tmp_path / "died", **options)
    assert losses(tmp_path / "died") == losses(tmp_path / "whole")
    assert "found before it died" in (tmp_path / "died" / "bad_files.txt").read_text()
    tar(tmp_path / "s" / "s-01.tar", [("a.png", png(1))])
    (tmp_path / "died" / "summary.json").unlink()
    with pytest.raises(UserError, match="the data changed"):
        pretrain(place, out=tmp_path / "died", **options)


@pytest.mark.parametrize("workers", [None, 5])
def test_a_stream_needs_no_number_of_workers(tmp_path, capsys, workers):
    place = shards(tmp_path / "s", [8, 8])
    pretrain(place, out=tmp_path / "run", dry_run=True, **SMALL | {"steps": 1, "workers": workers})
    assert ("of 2 shards, so several read the same one" in " ".join(capsys.readouterr().out.split())) == (workers == 5)


def test_a_long_stream_is_looked_at_in_part_and_its_length_estimated(tmp_path):
    stream = open_stream(shards(tmp_path / "s", [40] * 6))
    seen = glimpse(stream, most=32)
    assert len(seen.held.items) == 32
    assert seen.how == "an estimate from their bytes"
    assert 0.8 * 240 < seen.count < 1.2 * 240
    (tmp_path / "s" / "sizes.json").write_text(json.dumps({f"s-{i:02d}.tar": 40 for i in range(6)}))
    seen = glimpse(open_stream(f"{tmp_path}/s/s-{{00..05}}.tar"), most=32)
    assert (seen.count, seen.how) == (240, "from an index beside them")


def test_a_shuffle_buffer_belongs_to_streams(photos, tmp_path):
    with pytest.raises(UserError, match="--shuffle-buffer is for streams"):
        pretrain(photos, out=tmp_path / "run", steps=1, shuffle_buffer=10)
