"""Hostile files: each is refused in a line, within seconds and little memory."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import unmask
from unmask.data import limits
from unmask.data.annotations.coco_tables import read_table
from unmask.data.annotations.formats.voc import Voc
from unmask.data.annotations.formats.yolo import Yolo
from unmask.data.annotations.legend import parse_yaml, read_legend
from unmask.data.annotations.objects import walk
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage
from unmask.data.limits import Bomb, require_modest_pickle
from unmask.data.shards.stream import open_stream
from unmask.data.source import open_source
from unmask.errors import DataError, UserError
from unmask.files import parse_json, read_json
from unmask.weights.files import read_weights
from unmask.weights.open import open_weights

SECONDS, MEGABYTES = 5, 900  # of processor time, and of memory beyond what is in use; one case may take no more


@contextmanager
def little():
    """Fails where the body takes more than a little time, and makes memory errors of more than a little memory."""
    status = open("/proc/self/statm").read().split()
    used = int(status[0]) * os.sysconf("SC_PAGE_SIZE")
    before, began = resource.getrlimit(resource.RLIMIT_AS), time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (used + (MEGABYTES << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - began < SECONDS


def png(size=(8, 8)):
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def zeros(path, megabytes, pack):
    """A packed file of zeros behind the head of a tar member that is called an image."""
    info = tarfile.TarInfo("big.png")
    info.size = megabytes << 20
    with pack(path, "wb") as file:
        file.write(info.tobuf())
        for _ in range(megabytes):
            file.write(bytes(1 << 20))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"images": ' + "[" * 100_000])
def test_nested_json_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with little():
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)
        with pytest.raises(ValueError, match="nested too deeply"):
            read_table(str(tmp_path / "x.json"))
        for read in (read_json, read_legend):
            with pytest.raises(UserError, match="nested too deeply"):
                read(tmp_path / "x.json")


def test_no_json_is_read_elsewhere():
    """Every file is read by `parse_json`: json's own error for deep nesting is caught by nobody."""
    root = unmask.__file__.rpartition("/")[0]
    files = subprocess.run(["grep", "-rlE", r"json\.loads?\(", root, "--include=*.py"], capture_output=True, text=True)
    assert sorted(os.path.relpath(path, root) for path in files.stdout.split()) == [
        "files.py",
        "studies/ablation/axes.py",  # a file of the package itself
    ]


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghi", "bcdefghij")
)


@pytest.mark.parametrize("text", [LAUGHS + "names: *j\n", "[" * 5000, "names: [" + "a, " * 600_000 + "]"])
def test_yaml_that_stands_for_far_more_is_refused(text, tmp_path):
    (tmp_path / "data.yaml").write_text(text + "\ntrain: images\n")
    with little():
        with pytest.raises(ValueError, match=r"aliases|nested too deeply|characters of YAML"):
            parse_yaml(text)
        with pytest.raises(DataError):
            Yolo.read(str(tmp_path), [str(tmp_path / "data.yaml")], None)


def test_a_yaml_of_a_billion_classes_is_refused(tmp_path):
    (tmp_path / "data.yaml").write_text("nc: 1000000000\ntrain: images\n")
    with little(), pytest.raises(DataError, match="nc is 1000000000"):
        Yolo.read(str(tmp_path), [str(tmp_path / "data.yaml")], None)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "xml",
    [
        ENTITIES + "]><annotation><filename>&i;</filename></annotation>",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>',
        "<annotation>" + "<a>" * 6_000_000 + "</annotation>",
    ],
)
def test_xml_with_entities_or_of_great_size_loses_that_image_only(xml, tmp_path):
    (tmp_path / "bad.xml").write_text(xml)
    box = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
    (tmp_path / "good.xml").write_text(f"<annotation><filename>good.png</filename>{box}</annotation>")
    for name in ("good", "bad"):
        (tmp_path / f"{name}.png").write_bytes(png())
    with little():
        annotated = Voc.read(str(tmp_path), [str(tmp_path)], None)
    assert [scene.name for scene in annotated.scenes] == ["good.png"]
    assert [fault.kind for fault in annotated.faults] == ["unreadable file"]
    assert "root:" not in str(annotated.faults)


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


def test_a_zip_member_that_unpacks_without_end_is_a_bad_image(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", png())
        with archive.open("bomb.png", "w", force_zip64=True) as member:
            for _ in range(400):
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


def test_a_npz_that_unpacks_without_end_or_claims_more_than_it_has_is_refused(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_2_0(head, {"descr": "|u1", "fortran_order": False, "shape": (400, 1 << 20)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as member:
            member.write(head.getvalue())
            for _ in range(400):
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


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff_of(height, width, compression, packed, rows):
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, compression), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, rows), (279, 4, len(packed))]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    packed += b"\0" * (len(packed) % 2)
    return struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + struct.pack("<H", 9) + directory + bytes(4)


@pytest.mark.slow
def test_images_that_claim_or_unpack_to_more_than_they_are_take_no_memory():
    bomb = zlib.compress(bytes(400 << 20))
    header = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    many = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    files = [
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bomb[:1000]) + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", many) + chunk(b"zTXt", b"a\0\0" + bomb) + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", many) + chunk(b"iCCP", b"a\0\0" + bomb) + chunk(b"IEND", b""),
        tiff_of(1 << 30, 1 << 30, 8, bomb[:1000], 1 << 30),
        tiff_of(170_000_000, 1, 8, bomb[:1000], 1),
        tiff_of(64, 64, 8, bomb, 64),
        tiff_of(64, 64, 34925, lzma.compress(bytes(400 << 20)), 64),
        tiff_of(64, 64, 1, bytes(100), 64),
        struct.pack("<2sIHHI", b"BM", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 1 << 30, 1 << 30, 1, 24, *(0,) * 6),
    ]
    for data in files:
        with little(), pytest.raises(BadImage):
            decode(data)


def test_packed_tiffs_are_read_as_before(tmp_path):
    values = np.random.default_rng(0).integers(0, 60_000, (40, 30, 5), np.uint16)
    for options in ({"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"compression": "lzma"}):
        for layout in (
            {"tile": (16, 16), "planarconfig": "contig"},
            {"rowsperstrip": 7, "planarconfig": "contig"},
            {"rowsperstrip": 7, "planarconfig": "separate"},
        ):
            array = values.transpose(2, 0, 1) if layout["planarconfig"] == "separate" else values
            tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", **options, **layout)
            pixels = decode((tmp_path / "x.tif").read_bytes()).pixels
            assert torch.equal(pixels, torch.from_numpy(values.transpose(2, 0, 1).astype(np.float32) / np.float32(257)))


def test_deep_folders_and_links_in_circles_end(tmp_path):
    (tmp_path / "1.png").write_bytes(png())
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):  # far longer than any path may be
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(here)
    for number in range(12):
        (tmp_path / f"link{number}").symlink_to(tmp_path)
    with little():
        source = open_source(tmp_path)
        assert [item.name for item in source.items] == ["1.png"]
        assert any("cannot be listed" in remark for remark in source.remarks)
        assert list(walk(str(tmp_path), lambda name: name.endswith(".png"))) == [str(tmp_path / "1.png")]
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)  # shutil would recurse


def laughing_pickle(levels):
    """A dictionary whose key is a tuple of two tuples of two tuples ..., each pair the same object."""
    content = (
        b"\x80\x02}(K\x01K\x02\x86q\x00"
        + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(levels))
        + b"K\x01u."
    )
    return content.replace(b"q\x00", b"q\x00")


def test_pickles_that_keep_the_reader_busy_are_refused(tmp_path):
    laughing = laughing_pickle(60)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("zip/data.pkl", laughing)
        archive.writestr("zip/version", "3\n")
        archive.writestr("zip/byteorder", "little")
    old = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    (tmp_path / "old.pth").write_bytes(b"".join(old) + laughing + pickle.dumps([], 2))
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}, 2))
        with archive.open("bomb/data/0", "w", force_zip64=True) as member:
            for _ in range(400):
                member.write(bytes(1 << 20))
    for name in ("zip", "old", "bomb"):
        with little(), pytest.raises(UserError, match="is refused"):
            read_weights(tmp_path / f"{name}.pth")
    for content in (b"\x80\x02", b"no pickle at all", laughing[:50], pickle.dumps([1] * 1000), bytes(1000)):
        (tmp_path / "x.pth").write_bytes(content)
        with little(), pytest.raises(UserError):
            read_weights(tmp_path / "x.pth")
    torch.save(
        {"model": {f"w{i}": torch.ones(2) for i in range(50)}, "shape": torch.Size([2, 3])}, tmp_path / "good.pth"
    )
    require_modest_pickle(tmp_path / "good.pth")
    assert len(read_weights(tmp_path / "good.pth")[0]) == 50
    with pytest.raises(Bomb):
        limits.require_modest(1, 1 << 40)


def test_safetensors_with_huge_or_false_headers_are_refused(tmp_path):
    entry = {"x": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}}
    heads = [b"[" * 100_000, json.dumps(entry).encode(), b"{" + b'"a":' * 100_000]
    files = [struct.pack("<Q", 1 << 62), struct.pack("<Q", (1 << 64) - 1) + b"{}"]
    files += [struct.pack("<Q", len(head)) + head + bytes(4) for head in heads]
    for content in files:
        (tmp_path / "x.safetensors").write_bytes(content)
        with little(), pytest.raises(UserError, match="holds no weights that can be read"):
            read_weights(tmp_path / "x.safetensors")


@pytest.mark.parametrize("option", ["depth=1000000", "embed_dim=1000000", "depth=-1"])
def test_weights_that_claim_to_be_huge_are_refused_by_arithmetic(option, run, tmp_path):
    state, name = load_file(run.path / "encoder.safetensors"), f"vit_tiny_patch16_224({option})"
    facts = {"timm": "{}", "settings": json.dumps({"model": name, "image_size": [32, 32]})}
    save_file(state, tmp_path / "x.safetensors", metadata=facts)
    with little(), pytest.raises(UserError, match="that of the weights is"):
        unmask.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_noticed_when_they_are_opened(value, run, tmp_path):
    from unmask.evaluation.doctor.subject import Subject

    path = run.path / "encoder.safetensors"
    state = load_file(path)
    state["norm.weight"][3] = value
    save_file(state, tmp_path / "x.safetensors", metadata={"timm": "{}"})
    with pytest.raises(UserError, match=r"not finite.*norm\.weight"):
        open_weights(tmp_path / "x.safetensors", model=run.config.model.name)
    save_file(state, path)
    with pytest.raises(UserError, match="not finite"):
        unmask.load(run.path)
    assert any("not finite" in finding.what for found in unmask.doctor(run.path).findings.values() for finding in found)
    assert Subject(str(run.path)).opened
    large = {"a": torch.full((300,), 3e38), "b": torch.tensor([1, 2])}  # whose sum is infinite
    save_file(large, tmp_path / "large.safetensors")
    from unmask.weights.files import require_finite

    require_finite(large, "large")


@pytest.mark.slow
def test_the_command_says_it_in_one_line(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(png((64, 64)))
    (tmp_path / "instances_train.json").write_text('{"images":' + "[" * 100_000)
    script = textwrap.dedent(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        from unmask.cli.main import main
        main(["transfer", "vit_tiny_patch16_224", "--init", "none", "--to", "detect", "--on", {str(tmp_path)!r}])
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode in (2, 3)
