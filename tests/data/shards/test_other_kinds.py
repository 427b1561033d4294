"""Streams of other data than images: which member is the sample, what is decoded, a run that dies and goes on."""

import io
import itertools
import re
import tarfile
import wave

import numpy as np
import pytest
import torch
from support.sampling import WRITERS, write_scene
from support.shardmaking import parquet, png, tar
from support.small_training import losses

import unmask
from unmask.data.datasets.stream_preview import glimpse
from unmask.data.loaders.iterable import StreamLoader
from unmask.data.shards.stream import open_stream
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError

TINY = {
    "model": "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)",
    "decoder": "full(dim=16, depth=1, heads=2)",
    "batch": 4,
    "log_every": 1,
    "save_every": 1,
    "keep_every": 2,
}
KINDS = [kind for kind in sorted(WRITERS) if kind not in ("image", "multimodal")]


def content(kind, number, folder):
    path = WRITERS[kind](folder / f"{number:02d}", number % 2, number)
    data = path.read_bytes()
    path.unlink()
    return "".join(path.suffixes), data


def shards(folder, kind, counts):
    """Shards of so many samples each, with a class and a text."""
    folder.mkdir()
    numbers = iter(range(sum(counts)))
    for shard, count in enumerate(counts):
        members = []
        for number in itertools.islice(numbers, count):
            ending, data = content(kind, number, folder)
            members += [(f"{number:02d}{ending}", data), (f"{number:02d}.cls", str(number % 2).encode())]
            members += [(f"{number:02d}.txt", b"1 2 3\n4 5 6\n")]  # as a cloud of points might be written
        tar(folder / f"s-{shard}.tar", members)
    return str(folder)


def wav(seconds=0.25, rate=4000):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((3000 * np.sin(np.arange(int(rate * seconds)))).astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_batches_hold_what_the_modality_makes_of_each_member(kind, tmp_path):
    stream = open_stream(shards(tmp_path / "s", kind, [5, 3]), kind=None)
    assert stream.modality.text.partition("(")[0] == kind
    held = glimpse(stream).held
    sheet = inspect(held, max_side=64)[0]
    assert (sheet.num_good, sheet.word) == (8, stream.modality.word)
    patch = None if stream.modality.placed else 4
    size = stream.modality.full_size(stream.modality.choices(sheet, patch, small=True)["image_size"].value)
    view = stream.modality.whole(size)
    loader = StreamLoader(stream=stream, view=view, batch=4, channels=sheet.channels, max_side=64, window=1)
    first = next(loader(0))
    for row, index in enumerate(first["index"].tolist()):
        sample = next(itertools.islice(stream.samples(index >> 32, index & 0xFFFFFFFF), 1))
        expected = view(stream.modality.decode(sample.data, 64).content)
        assert torch.equal(first["views"][0][row].nan_to_num(7), expected.nan_to_num(7))
        assert first["label"][row] == int(sample.label)
    assert torch.equal(next(loader(1))["index"], list(itertools.islice(loader(0), 2))[1]["index"])


def test_a_stream_of_as_many_images_as_recordings_is_a_question(tmp_path):
    members = [(f"{n:02d}.{ending}", data) for n in range(4) for ending, data in (("png", png(n)), ("wav", wav()))]
    tar(tmp_path / "s-0.tar", members)
    place = f"{tmp_path}/s-*.tar"
    with pytest.raises(UserError, match=r"as many images and recordings, 4 each.*--modality image or --modality audio"):
        open_stream(place, kind=None)
    sounds = open_stream(place, kind="audio")
    assert [bytes(sample.data[:4]) for _, sample in sounds] == [b"RIFF"] * 4
    assert sounds.modality.text == 'audio(rate=4000, seconds=0.25, bands=64, level="even")'
    assert [bytes(sample.data[1:4]) for _, sample in open_stream(place, kind="image")] == [b"PNG"] * 4
    with pytest.raises(UserError, match="folders only"):
        open_stream(place, kind="multimodal")


def test_of_several_files_of_a_sample_the_plainest_is_taken_and_the_others_are_said(tmp_path):
    members = []
    for number in range(3):
        ending, data = content("volume", number, tmp_path)
        members += [(f"sub.{number}.seg{ending}", data[:9]), (f"sub.{number}{ending}", data)]
    tar(tmp_path / "s-0.tar", members)
    held = glimpse(open_stream(f"{tmp_path}/s-*.tar", kind=None)).held
    assert [item.name.rsplit("/", 1)[1] for item in held.items] == ["sub.0", "sub.1", "sub.2"]
    assert inspect(held, max_side=64)[0].num_good == 3
    assert "3 samples hold more than one volume, of which one is used" in held.remarks[0]


def test_members_of_many_megabytes_are_read_and_those_of_no_sample_are_not(tmp_path):
    noise = np.random.default_rng(0).integers(-9, 9, 700_000).astype("<i2").tobytes()
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(noise)
    tar(tmp_path / "s-0.tar", [("0.wav", file.getvalue()), ("0.txt", b"word " * 300_000), ("1.wav", wav())])
    samples = [sample for _, sample in open_stream(f"{tmp_path}/s-*.tar", kind=None)]
    assert [len(sample.data) > 1_000_000 for sample in samples] == [True, False]
    assert samples[0].columns == {}


def test_a_damaged_member_and_one_of_another_kind_are_bad_with_the_reason(tmp_path):
    tar(tmp_path / "s-0.tar", [("0.wav", wav()), ("1.wav", b"nothing"), ("2.png", png(2)), ("3.wav", wav())])
    sheet = inspect(glimpse(open_stream(f"{tmp_path}/s-*.tar", kind=None)).held, max_side=64)[0]
    reasons = {name.rsplit("/", 1)[1]: reason for _, name, reason in sheet.bad}
    assert reasons.keys() == {"1", "2"}
    assert reasons["2"] == "no recording among its members: png"


def test_a_scene_larger_than_a_window_is_refused_with_what_to_do(tmp_path):
    path = write_scene(tmp_path / "scene", 0, 0)
    tar(tmp_path / "s-0.tar", [("0.tif", path.read_bytes())])
    stream = open_stream(f"{tmp_path}/s-*.tar", kind="bands(window=16)")
    sheet = inspect(glimpse(stream).held, max_side=64)[0]
    assert re.search("24 x 32 pixels.*up to 16: cut it into tiles", sheet.bad[0][2])
    with tarfile.open(tmp_path / "plain.tar", "w") as archive:
        archive.add(path, "0.tif")
    assert len(open_source(tmp_path / "plain.tar", "bands(window=16)").items) == 4  # read in any order, by windows


def test_a_column_of_sound_is_taken_where_recordings_are_wanted(tmp_path):
    features = {"img": {"_type": "Image"}, "words": {"dtype": "string", "_type": "Value"}}
    features |= {"sound": {"_type": "Audio"}}
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet(tmp_path / "train.parquet", range(3), features=features)
    table = pq.read_table(tmp_path / "train.parquet")
    sounds = pa.array([{"bytes": wav(), "path": "a.wav"}] * 3)
    pq.write_table(table.append_column("sound", sounds), tmp_path / "train.parquet")
    assert next(iter(open_stream(tmp_path)))[1].data[1:4] == b"PNG"
    assert next(iter(open_stream(tmp_path, kind=None)))[1].data[1:4] == b"PNG"
    stream = open_stream(tmp_path, kind="audio")
    assert next(iter(stream))[1].data[:4] == b"RIFF"
    assert inspect(glimpse(stream).held, max_side=64)[0].num_good == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["audio", "video", "points"])
def test_a_run_on_a_stream_goes_on_to_the_same_losses_and_serves_commands(kind, tmp_path):
    place, options = shards(tmp_path / "s", kind, [7, 5]), {**TINY, "steps": 4, "workers": 1, "shuffle_buffer": 4}
    run = unmask.pretrain(place, out=tmp_path / "run", **options)
    assert run.config.data.modality.partition("(")[0] == kind
    whole = losses(run.path)
    (run.path / "summary.json").unlink()
    for file in run.path.glob("*.ckpt"):
        if not file.name.startswith("step_00000002.ckpt"):
            file.unlink()
    again = unmask.pretrain(place, out=run.path, **options)
    assert losses(again.path) == whole
    assert unmask.show(run.path, place, out=tmp_path / "panel.png").exists()
    assert len(unmask.evaluate(run.path, on=place, evaluators=("knn",)).scores) > 0
    assert unmask.embed(run.path, place, out=tmp_path / "features.npz").exists()
