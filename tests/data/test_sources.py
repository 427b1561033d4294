"""Every place where images lie gives the same items, labels and splits for the same contents."""

import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from support.sourcemaking import png, shade, shades, tarred, write, zipped

import unmask
from unmask import registry
from unmask.data.source import Item, Source, open_source
from unmask.data.sources import archive
from unmask.data.sources.archive import Archive
from unmask.data.sources.folder import Folder
from unmask.errors import DataError, UserError

TREE = [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("cat", "dog") for i in (1, 2, 10)]


def make_folder(tmp):
    return write(tmp / "folder", shades(TREE))


def make_listing(tmp):
    write(tmp, shades(TREE))
    (tmp / "list.txt").write_text("\n".join(TREE))
    return tmp / "list.txt"


def make_arrays(tmp):
    counts = {"train": 6, "test": 6}
    arrays = {}
    for start, (split, count) in zip((0, 6), counts.items()):
        values = np.arange(start, start + count, dtype=np.uint8)[:, None, None]
        arrays[f"{split}_images"] = np.broadcast_to(values, (count, 5, 6))
        arrays[f"{split}_labels"] = np.array([[0]] * 3 + [[1]] * 3)
    np.savez(tmp / "a.npz", **arrays)
    return tmp / "a.npz"


MADE = {
    "folder": [make_folder],
    "file_list": [make_listing],
    "arrays": [make_arrays],
    "archive": [
        lambda tmp: zipped(tmp / "a.zip", shades(TREE)),
        lambda tmp: tarred(tmp / "a.tar", shades(TREE)),
        lambda tmp: tarred(tmp / "a.tar.gz", shades(TREE), "w:gz"),
        lambda tmp: tarred(tmp / "a.tgz", shades(TREE), "w:gz"),
        lambda tmp: tarred(tmp / "a.tar.bz2", shades(TREE), "w:bz2"),
        lambda tmp: tarred(tmp / "a.tar.xz", shades(TREE), "w:xz"),
    ],
    "pack": [lambda tmp: unmask.pack(make_folder(tmp), out=tmp / "a.pack", format="original")],
    "single_file": [lambda tmp: write(tmp, {"one.png": png(3)}) / "one.png"],
}
WHOLE = [(part, make) for part, makers in MADE.items() for make in makers if part != "single_file"]  # hold all of TREE
CASES = [(part, make) for part, makers in MADE.items() for make in makers]


def test_every_part_has_an_example_here():
    other = {"demo", "small_stream"}  # drawn, not read; and read from its beginning, as test_shards.py does
    assert set(registry.names("source")) - other == set(MADE)


@pytest.mark.parametrize(("part", "make"), WHOLE)
def test_every_place_gives_the_same_items_labels_and_splits(part, make, tmp_path):
    source = open_source(str(make(tmp_path)))
    seen = sorted((shade(source, i), item.split, item.label) for i, item in enumerate(source.items))
    classes = ("0", "1") if part == "arrays" else ("cat", "dog")
    assert seen == [(i, "train" if i < 6 else "test", classes[i % 6 // 3]) for i in range(12)]
    assert source.ignored == 0
    assert source.remarks == []


@pytest.mark.parametrize(("part", "make"), CASES)
class TestEveryPart:
    def test_names_are_unique_and_opening_again_gives_the_same(self, part, make, tmp_path):
        path = make(tmp_path)
        source = open_source(path)
        assert isinstance(source, registry.find("source", part))
        names = [item.name for item in source.items]
        assert len(set(names)) == len(names) > 0
        assert open_source(path).items == source.items

    def test_survives_pickling_forking_and_threads(self, part, make, tmp_path):
        source = open_source(make(tmp_path))
        count = len(source.items)
        expected = [shade(source, i) for i in range(count)]
        copy = pickle.loads(pickle.dumps(source))
        assert [shade(copy, i) for i in range(count)] == expected
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda i: shade(source, i % count), range(16 * count))) == expected * 16

    def test_can_be_read_in_forked_processes_at_once(self, part, make, tmp_path):
        source = open_source(make(tmp_path))
        expected = [shade(source, i) for i in range(len(source.items))]
        context = get_context("fork")
        answers = context.SimpleQueue()

        def work():
            answers.put([shade(source, i) for _ in range(20) for i in range(len(source.items))])

        processes = [context.Process(target=work) for _ in range(3)]
        for process in processes:
            process.start()
        for _ in processes:
            assert answers.get() == expected * 20
        for process in processes:
            process.join()
        assert shade(source, -1) == expected[-1]  # the children have closed and deleted nothing of ours


def test_a_source_can_be_sent_to_a_spawned_process(tmp_path):
    source = open_source(tarred(tmp_path / "a.tar.gz", shades(TREE), "w:gz"))
    (tmp_path / "source.pickle").write_bytes(pickle.dumps(source))
    code = "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb')); sys.stdout.write(str(len(s.read(3))))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "source.pickle"], capture_output=True, check=True)
    assert int(done.stdout) == len(source.read(3))
    assert source.read(4)  # the other process has not deleted the unpacked archive


@pytest.mark.parametrize("with_names", [False, True])
def test_the_unpacked_archive_goes_with_its_source(with_names, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    if with_names:  # as where there is no /proc
        monkeypatch.setattr(archive, "_nameless", lambda path: (path, None))
    source = Archive(str(tarred(tmp_path / "a.tar.gz", shades(TREE), "w:gz")))
    unpacked = Path(source.members.path)
    assert unpacked.exists()
    assert len(list((tmp_path / "scratch").iterdir())) == with_names or not Path("/proc").exists()
    assert source.read(0) == png(6)
    del source
    assert not unpacked.exists()
    assert not list((tmp_path / "scratch").iterdir())


def test_a_worker_does_not_delete_what_its_parent_unpacked(tmp_path):
    holder = [open_source(tarred(tmp_path / "a.tar.gz", shades(TREE), "w:gz"))]
    worker = get_context("fork").Process(target=holder.clear)
    worker.start()
    worker.join()
    assert holder[0].read(0) == png(6)  # "test" comes before "train"


# Opening


def test_several_places_follow_each_other_with_unique_names(tmp_path):
    one = write(tmp_path / "x" / "data", shades(["a/1.png", "b/1.png"]))
    two = write(tmp_path / "y" / "data", {"1.png": png(7)})
    three = zipped(tmp_path / "three.zip", {"1.png": png(8)})
    source = open_source([one, str(two), three])
    assert [(i.name, i.label) for i in source.items] == [
        ("data#1/a/1.png", "a"),
        ("data#1/b/1.png", "b"),
        ("data#2/1.png", None),
        ("three.zip/1.png", None),
    ]
    assert [shade(pickle.loads(pickle.dumps(source)), i) for i in range(4)] == [0, 1, 7, 8]


def test_what_cannot_be_opened_says_what_is_near(tmp_path):
    write(tmp_path / "images", shades(["1.png"]))
    with pytest.raises(UserError, match="does not exist, did you mean 'images'") as caught:
        open_source(str(tmp_path / "picturs"))
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="nor does the folder"):
        open_source(str(tmp_path / "no" / "where"))
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(UserError, match="no kind of data"):
        open_source(str(tmp_path / "a.pdf"))
    with pytest.raises(UserError, match="no data given"):
        open_source([])


def test_a_place_without_images_is_a_data_error(tmp_path):
    write(tmp_path, {"a.txt": b"1", "b.md": b"2"})
    with pytest.raises(DataError, match=r"no images in .*: 2 files there are no images") as caught:
        open_source(tmp_path)
    assert caught.value.exit_code == 3


def test_a_new_part_is_asked_without_any_other_edit(tmp_path, monkeypatch):
    import unmask.data.sources

    (tmp_path / "zebra.py").write_text(
        textwrap.dedent('''
        """Stripes."""
        from unmask.data.source import Item, Source
        __all__ = ["Zebra"]
        class Zebra(Source):
            def __init__(self, path):
                super().__init__(path)
                self.items = [Item("one")]
            @classmethod
            def accepts(cls, path):
                return path == "stripes"
            def read(self, index):
                return b""
        ''')
    )
    sources = unmask.data.sources
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    source = open_source("stripes")
    assert isinstance(source, Source)
    assert source.items == [Item("one")]
    sys.modules.pop("unmask.data.sources.zebra")


def test_a_folder_named_like_a_part_is_reached_as_a_path(tmp_path, monkeypatch):
    write(tmp_path / "demo", shades(["1.png"]))
    monkeypatch.chdir(tmp_path)
    for place in ("./demo", Path("demo")):
        assert isinstance(open_source(place), Folder)


def test_a_file_that_may_not_be_read_is_bad_and_not_a_crash(tmp_path, monkeypatch):
    write(tmp_path, shades(["1.png"]))
    source = open_source(tmp_path)
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError):
        source.read(0)
