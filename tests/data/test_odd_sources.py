"""Odd folders, archives and arrays: read as far as they can be, and what cannot be is said."""

import os
import socket
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image
from support.sourcemaking import png, shade, shades, tarred, write, zipped

from unmask.data.codecs.image import BadImage
from unmask.data.source import Item, open_source
from unmask.data.sources.archive import Archive
from unmask.data.sources.arrays import Arrays
from unmask.data.sources.file_list import Listing
from unmask.errors import DataError, UserError

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
            except (BadImage, OSError) as error:
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
    with pytest.raises(BadImage, match="not a regular file"):
        source.read(4)
    assert source.remarks == ["1 lines name an image again and are left out"]


# Odd archives


def test_archives_pass_over_hidden_names_and_find_misnamed_images(tmp_path):
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
        with pytest.raises(BadImage, match="not a regular file"):
            source.read(by_name[name])


def test_a_damaged_or_encrypted_member_is_a_bad_image(tmp_path):
    noise = np.random.default_rng(1).bytes(5000)
    data = bytearray(zipped(tmp_path / "a.zip", {"1.png": noise, "2.png": png(2)}).read_bytes())
    data[1000] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(tmp_path / "a.zip")
    with pytest.raises(BadImage, match="damaged in the archive"):
        source.read(0)
    assert shade(source, 1) == 2
    plain = zipped(tmp_path / "b.zip", {"1.png": png(2)}).read_bytes()
    place = plain.rindex(b"PK\x01\x02")
    (tmp_path / "b.zip").write_bytes(plain[:6] + b"\x01" + plain[7 : place + 8] + b"\x01" + plain[place + 9 :])
    with pytest.raises(BadImage, match="encrypted"):
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
    images = np.zeros((4, 5, 6), np.uint8)
    roles = ("images", "x_", "X", "data", "arr")
    np.savez(tmp_path / "a.npz", **{k: images if any(r in k for r in roles) else np.array([3, 1, 1, 2]) for k in keys})
    source = open_source(tmp_path / "a.npz")
    assert {item.split for item in source.items} == splits
    assert source.items[0].label == (None if keys == ("arr_0",) else "3")


def test_an_npy_file_is_read_row_by_row_and_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    source = Arrays(str(tmp_path / "a.npy"))
    assert isinstance(source._load()[""], np.memmap)
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
        ({"images": np.zeros((40, 50, 3))}, "one image"),
        ({"images": np.zeros((3, 9, 9)), "labels": np.zeros(4)}, "4 entries"),
        ({"images": np.zeros((0, 9, 9))}, "no images"),
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


@pytest.mark.parametrize("shape", ["(-1, 8, 8, 3)", "(10**99, 8)", "('a', 8, 8)", "(((((8,),),),),)", "()", "None"])
@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_shapes_that_no_array_has_are_one_clear_error(name, shape, tmp_path):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode()
    content = b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(1000)
    if name.endswith("npz"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("images.npy", content)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, UserError), match=name.replace(".", r"\.")):
        open_source(tmp_path / name)


def test_labels_that_are_not_one_per_image_are_left_and_told(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 5)), labels=np.full((2, 14), 2))
    source = open_source(tmp_path / "a.npz")
    assert [item.label for item in source.items] == [None, None]
    assert "labels has shape (2, 14)" in source.remarks[0]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.mp4", b"", "video"),
        ("brain.nii.gz", b"\x1f\x8b", "NIfTI"),
        ("paper.pdf", b"%PDF-1.7", "PDF"),
        ("logo.svg", b"<svg/>", "SVG"),
        ("photo.NEF", b"MM", "camera raw"),
    ],
)
def test_kinds_of_files_that_are_not_read_are_named(name, content, kind, tmp_path):
    root = tmp_path / "d"
    root.mkdir()
    (root / name).write_bytes(content)
    (root / "notes.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(root / name, name)
    for place in (root, tmp_path / "d.zip", root / name):
        with pytest.raises(UserError, match=f"1 file of {kind}.* cannot be read"):
            open_source(place)
    Image.new("L", (4, 4)).save(root / "b.png")
    assert any(kind in remark for remark in open_source(root).remarks)
