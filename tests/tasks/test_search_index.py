"""Search: the nearest images, as by brute force; an index that computes nothing twice and keeps nothing stale."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo

import unmask
from unmask.data.modalities.image import Image as ImageModality
from unmask.errors import DataError, UserError
from unmask.tasks.open import load_encoder
from unmask.tasks.retrieval import index as indexing
from unmask.tasks.retrieval.neighbours import nearest, pairs, precision, unit
from unmask.tasks.retrieval.queries import SHOWN
from unmask.tasks.retrieval.words import told_apart


@pytest.fixture
def run(pretrained):
    return pretrained.path


@pytest.fixture
def counted(monkeypatch):
    """Names of what is decoded for the index."""
    found = []

    def counting(self, raw, max_side=None):
        if max_side != SHOWN:  # as the page shows it
            found.append(len(raw))
        return original(self, raw, max_side)

    original = ImageModality.decode
    monkeypatch.setattr(ImageModality, "decode", counting)
    return found


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_nearest_are_those_of_brute_force_and_a_query_in_the_data_is_marked(run, labelled, tmp_path):
    outside = tmp_path / "outside.png"
    Image.fromarray(photo(77)).save(outside)
    inside = labelled / "train" / "red" / "003.png"
    saved = tmp_path / "saved.bmp"  # the pixels of an image of the data in another file
    Image.open(labelled / "test" / "blue" / "002.png").save(saved)
    (labelled / "train" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    options = {"query": [outside, inside, saved], "out": tmp_path / "out", "index": tmp_path / "index", "top": 5}
    found = unmask.search(run, labelled, **options, standardize=False, device="cpu")
    out = unmask.embed(run, labelled, out=tmp_path / "f.npz", device="cpu")
    asked = unmask.embed(run, [outside, inside, saved], out=tmp_path / "q.npz", device="cpu")
    with np.load(out) as data, np.load(asked) as query:
        cosine = unit(query["features"]) @ unit(data["features"]).T
        names = data["paths"]
    table = rows(tmp_path / "out" / "results.csv")
    assert len(table) == 15
    for number, query in enumerate(("outside.png", "003.png", "saved.bmp")):
        mine = [row for row in table if row["query"].endswith(query)]
        order = cosine[number].argsort()[::-1][:5]
        assert [row["path"] for row in mine] == names[order].tolist()
        np.testing.assert_allclose([float(row["similarity"]) for row in mine], cosine[number][order], atol=1e-4)
        assert [row["rank"] for row in mine] == ["1", "2", "3", "4", "5"]
    assert [row["same"] for row in table if row["same"]] == ["same file", "same pixels"]
    first = {row["query"]: row for row in table if row["rank"] == "1"}
    assert (first[table[5]["query"]]["path"], first[table[5]["query"]]["label"]) == ("train/red/003.png", "red")
    assert first[table[10]["query"]]["path"] == "test/blue/002.png"
    assert set(found.precision) == {"run", "run standardised", "raw pixels, 16 x 16", "chance"}
    assert found.precision["chance"][1] == pytest.approx((20 * 19 + 20 * 19) / (40 * 39))
    page = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 18
    assert page.count("same file") == 2  # below the query, and below the image itself
    assert "http" not in page.replace("http-equiv", "")
    assert Image.open(tmp_path / "out" / "gallery.png").width > 500
    again = unmask.search(run, labelled, **options, compare=True, device="cpu")
    assert {"random weights", "random weights standardised"} < set(again.precision)
    assert again.precision["run"] == found.precision["run"]
    with np.load(out) as data, np.load(asked) as query:
        spread = data["features"].std(axis=0)
        x, q = (unit((f["features"] - data["features"].mean(axis=0)) / spread) for f in (data, query))
        assert [hit.path for hit in again.hits[:5]] == names[(q[0] @ x.T).argsort()[::-1][:5]].tolist()


def test_nothing_is_decoded_twice_and_nothing_old_is_used(run, photos, tmp_path, counted, capsys):
    def search(**more):
        options = {"query": photos / "001.png", "out": tmp_path / "out", "top": 2, "device": "cpu"} | more
        found = unmask.search(run, photos, **options, index=tmp_path / "index")
        decoded = len(counted) - 1  # the query
        counted.clear()
        assert found.computed == decoded
        return decoded, found.hits[0].path, found.hits[0].same

    assert search() == (24, "001.png", "same file")
    assert search() == (0, "001.png", "same file")
    (photos / "005.png").rename(photos / "renamed.png")  # a content that is known
    Image.fromarray(photo(99)).save(photos / "001.png")  # another content under a known name
    assert search() == (1, "001.png", "same file")
    assert search(pooling="cls") == (24, "001.png", "same file")
    assert "made anew" in capsys.readouterr().out
    other = shutil.copytree(run, tmp_path / "other")
    encoder = load_encoder(run)
    with torch.no_grad():
        encoder.net.norm.bias += 1
    from safetensors.torch import save_file

    save_file(encoder.net.state_dict(), other / "encoder.safetensors")
    found = unmask.search(other, photos, query=photos / "001.png", out=tmp_path / "out", index=tmp_path / "index")
    assert found.computed == 24
    kept = sorted(path.name for path in (tmp_path / "index").iterdir() if path.name != ".unmask")
    assert kept[0] == "index.json"
    assert len(kept) == 3  # rows of other weights are gone


def test_an_interrupted_index_goes_on_and_a_damaged_one_is_mended(encoder, photos, tmp_path, counted, monkeypatch):
    monkeypatch.setattr(indexing, "CHUNK", 4)
    from unmask.data.source import open_source

    def stop(done):
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        indexing.open_index(tmp_path / "i", encoder, open_source(photos), progress=stop)
    before = {path: path.read_bytes() for path in (tmp_path / "i").glob("rows-*.npz")}
    assert len(before) == 3
    found = indexing.open_index(tmp_path / "i", encoder, open_source(photos))
    assert found.computed == 12
    whole = indexing.open_index(tmp_path / "whole", encoder, open_source(photos))
    np.testing.assert_array_equal(found.features, whole.features)
    assert found.pixels == whole.pixels
    next(iter(before)).write_bytes(b"half")
    assert indexing.open_index(tmp_path / "i", encoder, open_source(photos)).computed == 4


def test_blocks_give_what_brute_force_gives(monkeypatch):
    from unmask.tasks.retrieval import neighbours

    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "COLUMNS", 11)
    monkeypatch.setattr(neighbours, "FOLD", 3)
    rng = np.random.default_rng(0)
    x = unit(rng.normal(size=(60, 6)))
    score, place = nearest(x[:20], x, 4)
    np.testing.assert_array_equal(place, (x[:20] @ x.T).argsort(axis=1)[:, ::-1][:, :4])
    np.testing.assert_allclose(score, np.take_along_axis(x[:20] @ x.T, place, 1), atol=1e-6)
    cosine = x @ x.T - 2 * np.eye(60)
    groups = np.arange(60)
    for one, other in zip(*np.nonzero(cosine >= 0.9)):
        groups[groups == groups[other]] = groups[one]
    for found in (pairs(x, 0.9), pairs(x, 0.9, large=10)):
        np.testing.assert_array_equal(found.partner, cosine.argmax(axis=1))
        np.testing.assert_allclose(found.similarity, cosine.max(axis=1), atol=1e-6)
        same = found.group[:, None] == found.group
        np.testing.assert_array_equal(same, groups[:, None] == groups)
        assert 5 < len(set(groups.tolist())) < 55
    labels = rng.integers(0, 3, 60)
    nearest5 = cosine.argsort(axis=1)[:, ::-1][:, :5]
    assert precision(x, labels, ks=(5,))[5] == pytest.approx((labels[nearest5] == labels[:, None]).mean())
    twins = np.repeat(x[:5], 12, axis=0)  # among so many copies an image may not find itself
    assert precision(twins, np.repeat(np.arange(5), 12), ks=(1, 10)) == {1: 1.0, 10: 1.0}


def test_what_cannot_be_is_said_before_the_work(run, photos, tmp_path):
    with pytest.raises(UserError, match="--query IMAGE"):
        unmask.search(run, photos)
    with pytest.raises(UserError, match="did you mean 'features'"):
        unmask.search(run, photos, duplicates=True, by="feature")
    with pytest.raises(UserError, match="at most 1"):
        unmask.search(run, photos, duplicates=True, threshold=1.5)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no query can be used: .*bad\.jpg"):
        unmask.search(run, photos, query=tmp_path / "bad.jpg", out=tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other things"):
        unmask.search(run, photos, query=photos, out=tmp_path / "out", index=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "out").exists()


def test_an_image_is_never_its_own_neighbour():
    """Leave-one-out: where all others have other labels, nothing is right; where each has one copy, the first is."""
    vectors = np.eye(12, dtype=np.float32)
    assert precision(vectors, np.arange(12), ks=(1, 5)) == {1: 0.0, 5: 0.0}
    assert precision(np.repeat(vectors, 2, axis=0), np.repeat(np.arange(12), 2), ks=(1, 5)) == {1: 1.0, 5: 0.2}
    assert precision(np.ones((9, 4), np.float32) / 2, np.arange(9), ks=(1,)) == {1: 0.0}  # many copies of itself


@pytest.mark.parametrize("query", ["", "  "])
def test_a_query_of_nothing_is_refused(query):
    with pytest.raises(UserError, match="--query is empty"):
        told_apart(["a red shirt", query])
