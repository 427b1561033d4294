"""Opening places where images lie; `contracts/test_sources.py` holds what all of them have in common."""

import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.sourcemaking import TREE, png, shade, shades, tarred, write, zipped

from unmask.data.source import Item, Source, open_source
from unmask.data.sources import archive
from unmask.data.sources.archive import Archive
from unmask.data.sources.folder import Folder
from unmask.errors import DataError, UserError


@pytest.mark.slow
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


def test_single_files_among_several_places_are_named_once(tmp_path):
    write(tmp_path, {"a.png": png(1), "b.png": png(2), "x/b.png": png(3), "c.png/c.png": png(4)})
    names = [
        item.name for item in open_source([tmp_path / name for name in ("a.png", "b.png", "x/b.png", "c.png")]).items
    ]
    assert names == ["a.png", "b.png#1", "b.png#2", "c.png/c.png"]


def test_what_cannot_be_opened_says_what_is_near(tmp_path):
    write(tmp_path / "images", shades(["1.png"]))
    with pytest.raises(UserError, match="does not exist, did you mean 'images'") as caught:
        open_source(str(tmp_path / "imags"))
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="nor does the folder"):
        open_source(str(tmp_path / "no" / "where"))
    (tmp_path / "a.docx").write_bytes(b"words")
    with pytest.raises(UserError, match="no kind of data"):
        open_source(str(tmp_path / "a.docx"))
    with pytest.raises(UserError, match="no data given"):
        open_source([])


def test_a_place_without_images_is_a_data_error(tmp_path):
    write(tmp_path, {"a.txt": b"1", "b.md": b"2"})
    with pytest.raises(DataError, match=r"no images in .*: 2 files there are no images") as caught:
        open_source(tmp_path)
    assert caught.value.exit_code == 3


def test_archives_in_a_folder_are_named_where_nothing_else_is_there(tmp_path):
    zipped(tmp_path / "photos.zip", {"a.png": png()})
    with pytest.raises(DataError, match=r"1 archive in it can be read where named: .*photos\.zip"):
        open_source(tmp_path)


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
