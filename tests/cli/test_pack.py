"""Packs: the same images, names, labels and splits; the same bytes whoever interrupts; damage is named."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo

import unmask
from unmask.data.codecs.decode import decode
from unmask.data.datasets.images import Samples
from unmask.data.labels import PACK
from unmask.data.pack_writer import Packed, Shards
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.data.sources.pack import Pack
from unmask.errors import DataError, UserError


@pytest.fixture
def mixed(tmp_path):
    """Colour, grey, transparent and broken images with two splits, several labels and a further column."""
    root = tmp_path / "mixed"
    rows = ["path,labels,split,site"]
    for split, count in (("train", 9), ("test", 4)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            name = f"{split}/{i}.{'jpg' if i % 2 else 'png'}"
            Image.fromarray(photo(i + 50 * (split == "test"), 40 + i, 60)).save(root / name)
            rows.append(f"{name},{['a', 'a|b', '', 'b'][i % 4]},{split},{'north' if i % 3 else 'south'}")
    Image.fromarray(photo(9, 50, 45, 1)).save(root / "train" / "grey.png")
    (root / "train" / "broken.jpg").write_bytes((root / "train" / "1.jpg").read_bytes()[:500])
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def items(source):
    return [(i.name, i.label, i.split, i.columns) for i in source.items]


@pytest.mark.parametrize(("kind", "options"), [("jpeg", {"size": 32}), ("original", {}), ("raw", {"size": 1000})])
def test_a_pack_is_the_same_data(kind, options, mixed, tmp_path):
    out = unmask.pack(mixed, tmp_path / "m.pack", format=kind, **options)
    source, packed = open_source(mixed), open_source(out)
    good = [i for i, item in enumerate(source.items) if "broken" not in item.name]
    assert isinstance(packed, Pack)
    assert items(packed) == [items(source)[i] for i in good]
    assert packed.multi_label
    assert packed.packed == kind
    assert "train/broken.jpg\ttruncated" in (out / "bad_files.txt").read_text()
    sheet = json.loads((out / "data_sheet.json").read_text())
    assert (sheet["count"], sheet["bad"], sheet["splits"]) == (14, [], {"train": 10, "test": 4})
    for place, index in enumerate(good):
        before, after = decode(source.read(index)).pixels, decode(packed.read(place)).pixels
        if kind == "jpeg":
            assert min(after.shape[1:]) == 32
            assert after.shape[0] == before.shape[0]
        else:
            assert torch.equal(before, after)
        if kind == "raw":
            assert torch.equal(packed.pixels(place), before)
    again = unmask.pack(out, tmp_path / "again.pack", format=kind, **options)
    assert items(open_source(again)) == items(packed)
    assert (again / "shard-00000.bin").read_bytes() == (out / "shard-00000.bin").read_bytes()  # nothing is lost twice


def test_a_kill_after_the_last_image_leaves_no_empty_file_behind(mixed, tmp_path, monkeypatch):
    whole = unmask.pack(mixed, tmp_path / "whole.pack", format="raw", size=30)
    out = tmp_path / "killed.pack"
    with monkeypatch.context() as patch:
        patch.setattr("unmask.cli.commands.pack._finish", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            unmask.pack(mixed, out, format="raw", size=30)
    unmask.pack(mixed, out, format="raw", size=30)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}
    assert len(list(out.glob("shard-*"))) == 2


def test_a_last_image_that_fills_its_file_begins_no_other(tmp_path):
    shards = Shards(tmp_path, most=100)
    shards.add("a.png", [None, None, {}], Packed(b"x" * 200))
    shards.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-00000.bin", "shard-00000.jsonl"]
    (tmp_path / "empty").mkdir()
    Shards(tmp_path / "empty", most=100).close()
    assert (tmp_path / "empty" / "shard-00000.bin").exists()  # a pack has a file


def test_a_killed_command_goes_on_and_writes_the_very_same_bytes(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(Shards, "__init__", _small(Shards.__init__))
    options = {"format": "raw", "size": 30}
    whole = unmask.pack(mixed, tmp_path / "whole.pack", **options)
    files = {path.name: path.read_bytes() for path in whole.iterdir() if path.name != PACK}
    assert len([name for name in files if name.endswith(".bin")]) > 2
    out, add, count = tmp_path / "killed.pack", Shards.add, [0]

    def dies(self, name, line, made):
        count[0] += 1
        if count[0] % 4 == 0:
            raise KeyboardInterrupt
        add(self, name, line, made)

    monkeypatch.setattr(Shards, "add", dies)
    stops = 0
    while not (out / "data_sheet.json").exists():
        try:
            unmask.pack(mixed, out, **options)
        except KeyboardInterrupt:
            stops += 1
            if stops == 1:
                with pytest.raises(DataError, match="not finished: give the command"):
                    open_source(out)
            for part in out.glob("*.bin.part"):  # a kill may leave half an image, or half a line
                part.write_bytes(part.read_bytes() + b"half an image")
            for part in out.glob("*.jsonl.part"):
                part.write_text(part.read_text() + '["half')
    assert stops > 2
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.name != PACK} == files


@pytest.mark.parametrize("change", [{"asked": {}}, {"asked": 3}, {"names": None, "asked": {"size": 1, "other": 2}}])
def test_a_damaged_record_of_a_begun_pack_is_named(change, mixed, tmp_path):
    out = unmask.pack(mixed, tmp_path / "m.pack")
    (out / PACK).write_text(json.dumps(json.loads((out / PACK).read_text()) | change))
    with pytest.raises(UserError, match=f"{PACK} is damaged; delete the folder"):
        unmask.pack(mixed, out)


def _small(init):
    return lambda self, out, most: init(self, out, 20_000)


@pytest.mark.slow
def test_training_and_judging_take_a_pack_as_any_data(labelled, tmp_path):
    from support.small import SMALL

    pack = unmask.pack(labelled, tmp_path / "l.pack", format="raw")
    plain = unmask.pretrain(labelled, out=tmp_path / "plain", steps=3, resize="exact", in_memory="off", **SMALL)
    packed = unmask.pretrain(pack, out=tmp_path / "packed", steps=3, resize="exact", in_memory="off", **SMALL)
    lines = [(run.path / "metrics.jsonl").read_text().splitlines() for run in (plain, packed)]
    losses = [[record["loss"] for record in map(json.loads, two) if "loss" in record] for two in lines]
    assert losses[0] == losses[1]  # the same order, crops and pixels
    verdict = unmask.evaluate(packed.path, on=pack, labels_per_class=())
    assert verdict is not None


def test_deep_and_many_band_images_are_kept_raw_and_refused_as_jpeg(tmp_path):
    deep = (np.random.default_rng(0).integers(0, 65535, (5, 12, 14))).astype(np.uint16)
    np.save(tmp_path / "deep.npy", deep)
    bands = np.random.default_rng(1).integers(0, 255, (3, 20, 22, 7)).astype(np.uint8)
    np.save(tmp_path / "bands.npy", bands)
    with pytest.raises(UserError, match="16 bits per value and JPEG keeps 8: give --format raw, or original"):
        unmask.pack(tmp_path / "deep.npy", tmp_path / "d.pack")
    with pytest.raises(UserError, match="7 channels"):
        unmask.pack(tmp_path / "bands.npy", tmp_path / "d.pack")
    assert not (tmp_path / "d.pack").exists()
    for name, array in (("deep", deep), ("bands", bands)):
        out = unmask.pack(tmp_path / f"{name}.npy", tmp_path / f"{name}.pack", format="raw")
        for i in range(len(array)):
            assert torch.equal(open_source(out).pixels(i), decode(array[i]).pixels)


def test_damage_is_named_and_nothing_else_is_overwritten(photos, tmp_path):
    pack = unmask.pack(photos, tmp_path / "p.pack", format="raw", size=16)
    damaged = tmp_path / "damaged.pack"

    def harm(name, content):
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(pack, damaged)
        if content is None:
            (damaged / name).unlink()
        else:
            (damaged / name).write_bytes(content((damaged / name).read_bytes()))

    cut, flip = (lambda data: data[: len(data) // 2]), (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    for name in ("shard-00000.bin", "shard-00000.jsonl", "index.npy", PACK):
        for content in (None, cut) if name != PACK else (cut,):
            harm(name, content)
            with pytest.raises(DataError, match=r"damaged|cannot be read"):
                open_source(damaged)
    for content in (b"", b"PK\x03\x04", b"no index"):
        harm("index.npy", lambda _, content=content: content)
        with pytest.raises(DataError, match="damaged"):
            open_source(damaged)
    for name in ("shard-00000.jsonl", "index.npy"):
        harm(name, flip)
        with pytest.raises(DataError, match=f"the checksum of {name} is wrong"):
            open_source(damaged)
    harm("shard-00000.bin", flip)  # one image: it is bad, the others are not
    sheet, _ = inspect(open_source(damaged), max_side=None)
    assert [bad[1:] for bad in sheet.bad] == [("023.png", "damaged in the pack (a checksum is wrong)")]
    samples = Samples(open_source(damaged), range(24), channels=3)
    assert samples.substitute(23)[1] == 0

    with pytest.raises(UserError, match="holds another pack \\(size: 16 in the folder, 20 now\\)"):
        unmask.pack(photos, pack, format="raw", size=20)
    with pytest.raises(UserError, match="into itself"):
        unmask.pack(pack, pack, format="raw")
    with pytest.raises(UserError, match="is no pack"):
        unmask.pack(pack, photos)
    (photos / "more.png").write_bytes((photos / "000.png").read_bytes())
    with pytest.raises(UserError, match=r"the data changed .* \(24 images then, 25 now"):
        unmask.pack(photos, pack, format="raw", size=16)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"text")
    with pytest.raises(DataError, match=r"none of 1 images.*x.jpg: not an image"):
        unmask.pack(tmp_path / "bad", tmp_path / "none.pack")
    assert not (tmp_path / "none.pack").exists()


def test_the_last_place_of_the_command_is_the_pack(photos, tmp_path):
    from unmask.cli.main import run

    assert run(["pack", str(photos), str(tmp_path / "c.pack"), "--size", "24"]) == 0
    assert len(open_source(tmp_path / "c.pack").items) == 24
    with pytest.raises(UserError, match="say what to pack"):
        run(["pack", str(photos)])
    with pytest.raises(UserError, match="leave out --size"):
        run(["pack", str(photos), "x.pack", "--format", "original", "--size", "3"])
