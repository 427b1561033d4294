"""Every place where images lie gives the same items, labels and splits for the same contents."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from support.sourcemaking import TREE, png, shade, shades, tarred, write, zipped

import unmask
from unmask import registry
from unmask.data.source import open_source


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
    other = {"demo", "small_stream"}  # drawn, not read; and read from its beginning, as tests of shards do
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
            answers.put([shade(source, i) for _ in range(5) for i in range(len(source.items))])

        processes = [context.Process(target=work) for _ in range(2)]
        for process in processes:
            process.start()
        for _ in processes:
            assert answers.get() == expected * 5
        for process in processes:
            process.join()
        assert shade(source, -1) == expected[-1]  # the children have closed and deleted nothing of ours
