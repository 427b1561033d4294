"""Every place where pictures lie gives the same items, labels and splits for the same contents."""

import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import unmask
from unmask import spec
from unmask.data import archive
from unmask.data.archive import Archive
from unmask.data.arrays import Arrays
from unmask.data.folder import Folder
from unmask.data.listing import Listing
from unmask.decode import BadPicture, decode
from unmask.errors import DataError, UserError
from unmask.layout import arrange, natural, printable
from unmask.source import Item, Source, open_source

TREE = [f"{split}/{name}/{i}.png" for split in ("train", "test") for name in ("cat", "dog") for i in (1, 2, 10)]


def png(shade=0):
    file = io.BytesIO()
    Image.new("L", (6, 5), shade).save(file, "PNG")
    return file.getvalue()


def write(root, files):
    for name, content in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(root)


def shades(names):
    return {name: png(shade) for shade, name in enumerate(names)}


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def tarred(path, files, mode="w"):
    with tarfile.open(path, mode) as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def shade(source, index):
    return int(decode(source.read(index)).pixels.flatten()[0])


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
    "listing": [make_listing],
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
    "picture": [lambda tmp: write(tmp, {"one.png": png(3)}) / "one.png"],
}
WHOLE = [(part, make) for part, makers in MADE.items() for make in makers if part != "picture"]  # hold all of TREE
CASES = [(part, make) for part, makers in MADE.items() for make in makers]


def test_every_part_has_an_example_here():
    other = {"demo", "streamed"}  # drawn, not read; and read from its beginning, as test_shards.py does
    assert set(spec.names("unmask.data")) - other == set(MADE)


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
        assert isinstance(source, spec.find(part, "unmask.data"))
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


# Labels and splits


def arranged(*paths, table=None):
    table = None if table is None else ("labels.csv", table.encode())
    layout = arrange(paths, table)
    return [(item.label, item.split) for item in layout.items], layout.remarks


def test_class_folders_are_labels_only_if_all_pictures_lie_in_one_and_there_are_two():
    assert arranged("cat/1.png", "dog/1.png")[0] == [("cat", None), ("dog", None)]
    assert arranged("cat/1.png", "cat/2.png")[0] == [(None, None)] * 2
    assert arranged("cat/1.png", "dog/1.png", "3.png")[0] == [(None, None)] * 3
    assert arranged("train/cat/1.png", "test/cat/1.png")[0] == [(None, "train"), (None, "test")]
    assert arranged("cat/a/1.png", "dog/b/c/1.png")[0] == [("cat", None), ("dog", None)]


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "VAL"])
def test_split_folders_are_known_by_many_names(name):
    assert arranged("Train/cat/1.png", f"{name}/dog/1.png")[0] == [("cat", "train"), ("dog", "val")]


def test_splits_are_found_below_one_wrapping_folder():
    assert arranged("w/v/train/1.png", "w/v/test/1.png")[0] == [(None, "train"), (None, "test")]


def test_a_class_called_test_is_no_split():
    assert arranged("test/1.png", "cat/1.png", "dog/1.png")[0] == [("test", None), ("cat", None), ("dog", None)]


def test_pictures_outside_the_splits_are_told():
    found, remarks = arranged("train/cat/1.png", "train/dog/1.png", "preview.png")
    assert found == [("cat", "train"), ("dog", "train"), (None, None)]
    assert remarks == ["1 pictures lie outside the train, val and test folders"]


def test_labels_csv_wins_over_folders_and_what_does_not_match_is_told():
    table = (
        "id;Filename;CLASS;split\n1;a/1.png;red;train\n2;2.png;blue;valid\n3;gone.png;x;\n4;1.png;y;\n5;a/1.png;z;\n"
    )
    found, remarks = arranged("a/1.png", "b/2.png", "b/1.png", "c/4.png", table=table)
    assert found == [("red", "train"), ("blue", "val"), (None, None), (None, None)]
    assert remarks == [
        "labels.csv: 1 rows match no picture: gone.png",
        "labels.csv: 1 rows match several pictures: 1.png",
        "labels.csv: 1 rows are for a picture that has a row already; the first counts: a/1.png",
        "labels.csv: 2 pictures have no row, so no label: b/1.png, c/4.png",
    ]


def test_up_to_three_rows_that_match_nothing_are_named():
    rows = "".join(f"gone{i}.png,x\n" for i in range(1200))
    _, remarks = arranged("a.png", table="path,label\na.png,y\n" + rows)
    assert remarks == ["labels.csv: 1,200 rows match no picture: gone0.png, gone1.png, gone2.png, ..."]


def test_other_columns_of_labels_csv_are_kept_with_their_own_spelling():
    table = "path,Site,label,split,age band,,Site\n1.png, north ,a,train,40-60,x,again\n2.png,,b,test\n"
    layout = arrange(["1.png", "2.png", "3.png"], ("labels.csv", table.encode()))
    assert [item.columns for item in layout.items] == [
        {"Site": "north", "age band": "40-60"},
        {"Site": "", "age band": ""},
        {},
    ]
    assert [(item.label, item.split) for item in layout.items] == [("a", "train"), ("b", "test"), (None, None)]


@pytest.mark.parametrize("column", ["labels", "Classes", "tags"])
def test_a_plural_column_holds_several_labels_and_an_empty_cell_means_none_of_them(column, tmp_path):
    table = f"path,{column}\n1.png,sea | dog|sea\n2.png,\n3.png,sea\n".encode()
    files = shades([f"{i}.png" for i in (1, 2, 3, 4)]) | {"labels.csv": table}
    for source in (Folder(str(write(tmp_path / "f", files))), Archive(str(zipped(tmp_path / "a.zip", files)))):
        assert source.multi_label
        assert [item.label for item in source.items] == ["dog|sea", "", "sea", None]
        assert [source.classes(i) for i in range(4)] == [["dog", "sea"], [], ["sea"], None]


def test_one_name_in_every_row_of_a_plural_column_is_an_ordinary_label():
    layout = arrange(["1.png", "2.png"], ("labels.csv", b"path,labels\n1.png,a\n2.png,b\n"))
    assert (layout.plural, layout.multi_label) == (True, False)
    singular = arrange(["1.png", "2.png"], ("labels.csv", b"path,label,labels\n1.png,a|b,c|d\n2.png,,\n"))
    assert [item.label for item in singular.items] == ["a|b", None]
    assert not singular.multi_label


def test_several_places_must_agree_whether_a_picture_has_several_labels(tmp_path):
    tables = {"many": b"path,labels\n0.png,a|b\n", "one": b"path,labels\n0.png,a\n", "single": b"path,label\n0.png,a\n"}
    for name, table in tables.items():
        write(tmp_path / name, {"0.png": png(0), "labels.csv": table})
    write(tmp_path / "bare", {"0.png": png(0)})
    both = open_source([tmp_path / "many", tmp_path / "one", tmp_path / "bare"])
    assert both.multi_label
    assert [both.classes(i) for i in range(3)] == [["a", "b"], ["a"], None]
    with pytest.raises(DataError, match=r"single has one label per picture, .*many several"):
        open_source([tmp_path / "many", tmp_path / "single"])


@pytest.mark.parametrize(("key", "names"), [(None, "012"), ("classes", "abc"), ("label_names", "abc")])
def test_a_matrix_of_0_and_1_gives_several_labels_per_picture(key, names, tmp_path):
    matrix = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    extra = {} if key is None else {key: np.array(list(names))}
    np.savez(tmp_path / "a.npz", x_train=np.zeros((3, 5, 6)), y_train=matrix, x_test=np.zeros((1, 5, 6)),
             y_test=matrix[:1].astype(float), **extra)  # fmt: skip
    source = open_source(tmp_path / "a.npz")
    assert source.multi_label
    both, second = f"{names[0]}|{names[2]}", names[1]
    assert [item.label for item in source.items] == [both, "", second, both]


def test_a_matrix_with_one_1_in_each_row_is_an_ordinary_label(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 6)), labels=np.eye(2))
    source = open_source(tmp_path / "a.npz")
    assert not source.multi_label
    assert [item.label for item in source.items] == ["0", "1"]


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b|c"]])
def test_names_that_do_not_fit_the_columns_of_labels_are_refused(names, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 6)), labels=np.ones((2, 2)), classes=np.array(names))
    with pytest.raises(DataError, match="classes must name the 2 columns"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("table", ["", "a,b\n1,2\n", "\0\xff", "path\n1.png\n"])
def test_a_labels_csv_that_is_not_understood_is_left_and_told(table):
    found, remarks = arranged("cat/1.png", "dog/2.png", table=table)
    assert found == [("cat", None), ("dog", None)]
    assert "labels.csv is not used" in remarks[0]


def test_labels_csv_is_read_in_folders_and_archives_also_below_a_wrapper(tmp_path):
    files = shades(["w/1.png", "w/2.png"]) | {"w/labels.csv": b"\xef\xbb\xbfname,label\r\n./1.png,A\r\n2.png, B \r\n"}
    for source in (Folder(str(write(tmp_path / "f", files))), Archive(str(zipped(tmp_path / "a.zip", files)))):
        assert [item.label for item in source.items] == ["A", "B"]
        assert source.ignored == 0


@given(st.lists(st.text(alphabet="ab/01.é", min_size=1), max_size=20))
def test_the_order_of_items_does_not_depend_on_where_one_starts(names):
    backwards = names[::-1]
    assert sorted(names, key=natural) == sorted(backwards, key=natural)


def test_numbers_in_names_count_by_value():
    assert sorted(["10.png", "9.png", "a/2.png", "9a.png", "a1/1.png"], key=natural) == [
        *("9.png", "9a.png", "10.png", "a/2.png", "a1/1.png")
    ]


@given(st.text())
def test_printable_names_fit_one_line_of_text(name):
    assert printable(name).isprintable()
    assert not name or printable(name).encode()
    assert printable("bad\udcff\t\n") == r"bad\xff\t\n"


# Odd folders


def test_a_nasty_folder_is_read_without_a_crash(tmp_path):
    root = write(
        tmp_path / "nasty",
        {
            "good.PNG": png(1),
            "png_called.jpg": png(2),
            "no_extension": png(3),
            "wrong.txt": png(4),
            "text.txt": b"hello",
            "empty.png": b"",
            ".hidden.png": png(),
            ".hidden/a.png": png(),
            "sp ace/ü.png": png(5),
            "folder.jpg/inside.png": png(6),
        },
    )
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe_of_no_kind")
    (root / "broken.png").symlink_to("nowhere")
    (root / "link.png").symlink_to("good.PNG")
    (root / "sp ace" / "circle").symlink_to("..")
    os.symlink(b"loop.png", bytes(root / "loop.png"))
    (root / os.fsdecode(b"bytes\xff.png")).write_bytes(png(7))
    with socket.socket(socket.AF_UNIX) as plug:
        here = os.getcwd()
        os.chdir(root)  # a socket's path must be short
        try:
            plug.bind("socket.png")
        finally:
            os.chdir(here)
    outcome = {}

    def look():
        source = open_source(root)
        outcome["ignored"] = source.ignored
        for i, item in enumerate(source.items):
            try:
                outcome[item.name] = shade(source, i)
            except (BadPicture, OSError) as error:
                outcome[item.name] = str(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "a pipe has stopped the reading"
    loop = outcome.pop("loop.png")
    assert "regular" in loop or "symbolic" in loop
    assert outcome == {
        "ignored": 2,
        "good.PNG": 1,
        "png_called.jpg": 2,
        "no_extension": 3,
        "wrong.txt": 4,
        "empty.png": "empty file",
        "sp ace/ü.png": 5,
        "folder.jpg": "not a regular file",
        "pipe.png": "not a regular file",
        "socket.png": "not a regular file",
        "broken.png": "not a regular file (a broken link)",
        "link.png": 1,
        r"bytes\xff.png": 7,
    }


def test_linked_folders_are_followed_once(tmp_path):
    outside = write(tmp_path / "outside", shades(["1.png"]))
    root = write(tmp_path / "root", shades(["b/2.png"]))
    (root / "a").symlink_to("b")
    (root / "c").symlink_to(outside)
    assert [item.name for item in open_source(root).items] == ["b/2.png", "c/1.png"]


def test_a_list_may_have_comments_blank_lines_windows_ends_and_names_of_nothing(tmp_path):
    write(tmp_path, shades(["a b/1.png", "2.png"]))
    lines = ["# mine", "", "a b/1.png", str(tmp_path / "2.png"), "./2.png", "gone.png", "a b", "2.png", "2.png"]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    source = Listing(str(tmp_path / "list.txt"))
    assert len(source.items) == 6
    assert [shade(source, i) for i in (0, 1, 2, 5)] == [0, 1, 1, 1]
    with pytest.raises(OSError, match=r"gone\.png"):
        source.read(3)
    with pytest.raises(BadPicture, match="not a regular file"):
        source.read(4)
    assert source.remarks == ["1 lines name a picture again and are left out"]


# Odd archives


def test_archives_pass_over_hidden_names_and_find_misnamed_pictures(tmp_path):
    files = shades(["a/1.png", "a/2.dat"])
    files |= {"__MACOSX/a/._1.png": b"x", "a/.hid.png": b"x", "notes.txt": b"hi", "../out.png": png(9)}
    for path in (zipped(tmp_path / "a.zip", files), tarred(tmp_path / "b.tar", files)):
        source = Archive(str(path))
        assert sorted(item.name for item in source.items) == ["../out.png", "a/1.png", "a/2.dat"]
        assert source.ignored == 1


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_archive_is_one_clear_error(ending, damage, tmp_path):
    rng = np.random.default_rng(0)
    files = {f"{i}.png": rng.bytes(5000) for i in range(9)}
    path = tmp_path / f"a{ending}"
    if ending == ".zip":
        zipped(path, files)
    else:
        tarred(path, files, {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}.get(ending, f"w:{ending[5:]}"))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2 + 100], "text": b"no archive\n" * 100, "empty": b""}[damage])
    with pytest.raises(DataError, match=f"a{ending} is damaged"):
        open_source(path)


def test_links_inside_a_tar_are_read_and_broken_ones_are_bad(tmp_path):
    with tarfile.open(tarred(tmp_path / "a.tar", shades(["a/1.png"])), "a") as made:
        for name, kind, target in (
            ("b/hard.png", tarfile.LNKTYPE, "a/1.png"),
            ("b/soft.png", tarfile.SYMTYPE, "../a/1.png"),
            ("b/gone.png", tarfile.SYMTYPE, "nothing.png"),
            ("b/pipe.png", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            made.addfile(info)
    source = Archive(str(tmp_path / "a.tar"))
    by_name = {item.name: i for i, item in enumerate(source.items)}
    assert shade(source, by_name["b/hard.png"]) == shade(source, by_name["b/soft.png"]) == 0
    for name in ("b/gone.png", "b/pipe.png"):
        with pytest.raises(BadPicture, match="not a regular file"):
            source.read(by_name[name])


def test_a_damaged_or_encrypted_member_is_a_bad_picture(tmp_path):
    noise = np.random.default_rng(1).bytes(5000)
    data = bytearray(zipped(tmp_path / "a.zip", {"1.png": noise, "2.png": png(2)}).read_bytes())
    data[1000] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(tmp_path / "a.zip")
    with pytest.raises(BadPicture, match="damaged in the archive"):
        source.read(0)
    assert shade(source, 1) == 2
    plain = zipped(tmp_path / "b.zip", {"1.png": png(2)}).read_bytes()
    place = plain.rindex(b"PK\x01\x02")
    (tmp_path / "b.zip").write_bytes(plain[:6] + b"\x01" + plain[7 : place + 8] + b"\x01" + plain[place + 9 :])
    with pytest.raises(BadPicture, match="encrypted"):
        open_source(tmp_path / "b.zip").read(0)


# Arrays


@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        (("images", "labels"), {None}),
        (("x_train", "y_train", "x_test", "y_test"), {"train", "test"}),
        (("train_images", "train_labels", "val_images", "val_labels"), {"train", "val"}),
        (("data", "targets"), {None}),
        (("arr_0",), {None}),
        (("X", "y", "other"), {None}),
    ],
)
def test_the_usual_keys_of_npz_files_are_understood(keys, splits, tmp_path):
    pictures = np.zeros((4, 5, 6), np.uint8)
    roles = ("images", "x_", "X", "data", "arr")
    np.savez(
        tmp_path / "a.npz", **{k: pictures if any(r in k for r in roles) else np.array([3, 1, 1, 2]) for k in keys}
    )
    source = open_source(tmp_path / "a.npz")
    assert {item.split for item in source.items} == splits
    assert source.items[0].label == (None if keys == ("arr_0",) else "3")


def test_an_npy_file_is_mapped_and_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    source = Arrays(str(tmp_path / "a.npy"))
    assert isinstance(source.read(1).base, np.memmap) or isinstance(source.read(1), np.memmap)
    assert source.read(1).tolist() == [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]]
    assert source.items == [Item("0"), Item("1")]


def test_unclear_keys_are_listed_with_those_understood(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.zeros((3, 4)), names=np.zeros(3))
    with pytest.raises(UserError, match=r"points \(3, 4\), names \(3,\)\. Understood: images and labels"):
        open_source(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4)), data=np.zeros((3, 4, 4)))
    with pytest.raises(UserError, match="both images and data"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": np.array([None, 1], object)}, "Python objects"),
        ({"images": np.zeros((3, 4))}, "n h w"),
        ({"images": np.zeros((40, 50, 3))}, "one picture"),
        ({"images": np.zeros((3, 9, 9)), "labels": np.zeros(4)}, "4 entries"),
        ({"images": np.zeros((0, 9, 9))}, "no pictures"),
    ],
)
def test_arrays_that_cannot_be_used_say_why(arrays, reason, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=reason):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"no numbers", b"PK\x03\x04 no zip", b"\x93NUMPY\x01\0v\0{"])
def test_damaged_array_files_are_one_clear_error(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        open_source(tmp_path / name)


def test_labels_that_are_not_one_per_picture_are_left_and_told(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 5)), labels=np.full((2, 14), 2))
    source = open_source(tmp_path / "a.npz")
    assert [item.label for item in source.items] == [None, None]
    assert "labels has shape (2, 14)" in source.remarks[0]


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
    write(tmp_path / "pictures", shades(["1.png"]))
    with pytest.raises(UserError, match="does not exist, did you mean 'pictures'") as caught:
        open_source(str(tmp_path / "picturs"))
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="nor does the folder"):
        open_source(str(tmp_path / "no" / "where"))
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(UserError, match="no kind of data"):
        open_source(str(tmp_path / "a.pdf"))
    with pytest.raises(UserError, match="no data given"):
        open_source([])


def test_a_place_without_pictures_is_a_data_error(tmp_path):
    write(tmp_path, {"a.txt": b"1", "b.md": b"2"})
    with pytest.raises(DataError, match=r"no pictures in .*: 2 files there are no pictures") as caught:
        open_source(tmp_path)
    assert caught.value.exit_code == 3


def test_a_new_part_is_asked_without_any_other_edit(tmp_path, monkeypatch):
    import unmask.data

    (tmp_path / "zebra.py").write_text(
        textwrap.dedent('''
        """Stripes."""
        from unmask.source import Item, Source
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
    monkeypatch.setattr(unmask.data, "__path__", [*unmask.data.__path__, str(tmp_path)])
    source = open_source("stripes")
    assert isinstance(source, Source)
    assert source.items == [Item("one")]
    sys.modules.pop("unmask.data.zebra")


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
