"""Hostile archives and arrays: members that lead out, unpack without end or claim more than they hold."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
from support.hostile import little, png

from unmask.data import limits
from unmask.data.codecs.image import BadImage
from unmask.data.shards.stream import open_stream
from unmask.data.source import open_source
from unmask.errors import DataError


def zeros(path, megabytes, pack):
    """A packed file of zeros behind the head of a tar member that is called an image."""
    info = tarfile.TarInfo("big.png")
    info.size = megabytes << 20
    with pack(path, "wb") as file:
        file.write(info.tobuf())
        for _ in range(megabytes):
            file.write(bytes(1 << 20))


@pytest.mark.parametrize("make", ["zip", "tar", "tar.gz"])
def test_members_with_names_that_lead_out_are_listed_and_passed_over(make, tmp_path):
    names = ["a/1.png", "b/2.png", "/abs.png", "../../up.png", "a/../../x.png"] + (
        ["C:\\x.png"] if make == "zip" else []
    )
    path = tmp_path / f"data.{make}"
    if make == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, png())
    else:
        with tarfile.open(path, "w:gz" if make == "tar.gz" else "w") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(png())
                archive.addfile(info, io.BytesIO(png()))
    source = open_source(path)
    assert [(item.name, item.label) for item in source.items[:2]] == [("a/1.png", "a"), ("b/2.png", "b")]
    assert {item.name for item in source.items} == set(names)
    source.read(0)
    for index in range(2, len(names)):
        with pytest.raises(BadImage, match="leads out of the archive"):
            source.read(index)
    if make == "tar":
        samples = list(open_stream(str(path)).samples(0))
        assert [sample.problem for sample in samples if sample.problem] == ["its name leads out of the archive"] * 3


def test_a_zip_member_that_unpacks_without_end_is_a_bad_image(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE", 16 << 20)
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", png())
        with archive.open("bomb.png", "w", force_zip64=True) as member:
            for _ in range(25):
                member.write(bytes(1 << 20))
    with little():
        source = open_source(path)
        with pytest.raises(BadImage, match="unpack"):
            source.read([item.name for item in source.items].index("bomb.png"))


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.open), ("bz2", bz2.open), ("xz", lzma.open)])
def test_a_packed_tar_that_unpacks_without_end_is_refused(ending, pack, tmp_path):
    zeros(tmp_path / f"x.tar.{ending}", 300, pack)
    with little(), pytest.raises(DataError, match="no honest file"):
        open_source(tmp_path / f"x.tar.{ending}")
    with little():
        (sample,) = open_stream(str(tmp_path / f"x.tar.{ending}")).samples(0)
    assert "no honest file" in sample.problem


def test_huge_headers_and_sparse_members_of_a_tar_take_no_memory(tmp_path):
    path = tmp_path / "x.tar"
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("header")
        info.type, info.size = kind, 1 << 40
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(20_000))
        with little(), pytest.raises(DataError, match="a header of"):
            open_source(path)
        with little():
            (sample,) = open_stream(str(path)).samples(0)
        assert "a header of" in sample.problem


def test_a_npz_that_unpacks_without_end_or_claims_more_than_it_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE", 16 << 20)
    head = io.BytesIO()
    np.lib.format.write_array_header_2_0(head, {"descr": "|u1", "fortran_order": False, "shape": (25, 1 << 20)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            member.write(head.getvalue())
            for _ in range(25):
                member.write(bytes(1 << 20))
    with little(), pytest.raises(DataError, match="no honest file"):
        open_source(tmp_path / "x.npz")
    for shape in ((1 << 40, 4, 4), (1 << 62, 4, 4), (9,) * 40):
        head = io.BytesIO()
        np.lib.format.write_array_header_2_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
        (tmp_path / "y.npy").write_bytes(head.getvalue() + bytes(100))
        with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
            archive.writestr("images.npy", head.getvalue() + bytes(100))
        for name in ("y.npy", "y.npz"):
            with little(), pytest.raises(DataError):
                open_source(tmp_path / name)
