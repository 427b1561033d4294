"""Files and folders for benchmarks/bad_inputs.py: hostile, damaged, empty, endless ones, and some of a right kind with
a wrong content. None can serve as images, labels, weights or a run, but for those whose names begin with "fair". What
runs code leaves the file `RAN`.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import smoke
from PIL import Image

RAN = Path("/tmp/unmask_bad_inputs_ran_this")
ENDINGS = (
    *("bin", "npz", "npy", "zip", "tar", "tar.gz", "parquet", "txt", "jpg", "png", "tif", "webp", "json", "jsonl"),
    *("csv", "yaml", "xml", "safetensors", "pth", "ckpt", "onnx"),
)
HUGE = 1 << 40  # bytes of a file that the disk holds as nothing


class Runs:
    """Unpickled, it makes the file that tells that code was run."""

    def __reduce__(self):
        return os.system, (f"touch {RAN}",)


def make_files(folder: Path) -> None:
    """All of them, once."""
    if (folder / "made").exists():
        return
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes()
    for ending in ENDINGS:
        (folder / f"noise.{ending}").write_bytes(noise)
        (folder / f"empty.{ending}").write_bytes(b"")
        if ending in ("json", "csv", "yaml", "txt", "pth", "safetensors", "npy", "zip", "jpg"):
            with open(folder / f"huge.{ending}", "wb") as file:
                file.truncate(HUGE)
    texts(folder)
    archives(folder, noise)
    arrays(folder)
    weights(folder)
    odd_places(folder, noise)
    images(folder, noise)
    (folder / "made").touch()


def texts(folder: Path) -> None:
    """Lists, tables, settings."""
    aliases = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50))
    coco = {"images": [{"id": [], "file_name": None}], "annotations": {"a": 1}, "categories": 5}
    for name, text in {
        "null.json": "null", "list.json": "[1]", "nested.json": "[" * 100_000, "settings.json": '{"settings": null}',
        "batch.json": '{"task": "classify", "settings": {"batch": "abc"}}', "nul.txt": "a\0b.jpg\n",
        "paths.txt": "nosuch.jpg\n/etc/passwd\n", "brackets.txt": "a[/red]/[bold]x.jpg\n", "loops.txt": "loops.txt\n",
        "pretrain.json": '{"settings": {"batch": "abc", "image_size": {"a": 1}}}', "utf16.csv": "path,label\n",
        "header.csv": "path,label\n", "nul.csv": "path,label\na\0.jpg,b\n", "quotes.csv": 'path,label\n"a.jpg,b\n' * 9,
        "wide.csv": "path" + "," * 200_000, "numbers.json": '{"batch": 1e999}', "coco.json": json.dumps(coco),
        "list.yaml": "- 1", "nested.yaml": "{a: " * 5000, "batch.yaml": "batch: abc", "nul.yaml": "batch: a\0b",
        "bomb.yaml": aliases, "itself.yaml": "batch: &a [*a]", "odd.yaml": "nosuch: 1", "tab.yaml": "batch:\n\t- 1",
        "runs.yaml": f'batch: !!python/object/apply:os.system ["touch {RAN}"]', "date.yaml": "batch: 2001-01-01",
        "entities.xml": '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "devices.txt": "/dev/zero\n/dev/stdin\n",
    }.items():  # fmt: skip
        (folder / name).write_text(text, encoding="utf-16" if name.startswith("utf16") else "utf-8")


def archives(folder: Path, noise: bytes) -> None:
    """Archives that lead out, unpack without end, are cut, or hold nothing of use."""
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.png", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    with tarfile.open(folder / "bomb.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("bomb.png")
        info.size = 300 << 20
        with open(folder / "huge.jpg", "rb") as zeros:
            archive.addfile(info, zeros)
    for kind in ("zip", "tar"):
        names = ("../../out.png", "/abs.png", "a/../../x.png", "a\nb[/red].png", "\x1b[31mred.png")
        if kind == "zip":
            with zipfile.ZipFile(folder / "out.zip", "w") as archive:
                for name in names:
                    archive.writestr(name, noise)
        else:
            with tarfile.open(folder / "out.tar", "w") as archive:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size = len(noise)
                    archive.addfile(info, io.BytesIO(noise))
                for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
                    info = tarfile.TarInfo(f"special{kind!r}.png")
                    info.type, info.linkname = kind, "/etc/passwd"
                    archive.addfile(info)
    for name in ("out.zip", "out.tar", "bomb.tar.gz"):
        (folder / f"cut_{name}").write_bytes((folder / name).read_bytes()[:-300])
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, HUGE
    (folder / "header.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(20_000))
    with zipfile.ZipFile(folder / "nested.zip", "w") as archive:
        archive.write(folder / "out.zip", "inner.zip")


def arrays(folder: Path) -> None:
    """Arrays of objects, of text, of a size that nothing has, without images."""
    np.save(folder / "strings.npy", np.array(["a", "b"]))
    np.save(folder / "objects.npy", np.array([Runs()], object))
    np.savez(folder / "objects.npz", images=np.array([Runs()], object))
    np.savez(folder / "labels_only.npz", labels=np.arange(4))
    np.save(folder / "none.npy", np.zeros((0, 8, 8, 3), np.uint8))
    np.save(folder / "scalar.npy", np.float32(1))
    np.save(folder / "cut.npy", np.zeros((8, 16, 16, 3), np.uint8))
    with open(folder / "cut.npy", "r+b") as file:
        file.truncate(500)
    for name, shape in (("long", (HUGE, 8, 8, 3)), ("deep", (2,) * 40), ("less", (-1, 8, 8, 3))):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
        (folder / f"{name}.npy").write_bytes(head.getvalue() + bytes(1000))


def weights(folder: Path) -> None:
    """Pickles that run code or are too much, false headers, a run that names a part that lies in its folder."""
    (folder / "runs.pth").write_bytes(pickle.dumps({"model": Runs()}, 2))
    with zipfile.ZipFile(folder / "runs_zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"model": Runs()}, 2))
        archive.writestr("a/version", "3\n")
    (folder / "nested.pth").write_bytes(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")
    entry = {"x": {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 4]}}
    named = {"__metadata__": {"unmask": json.dumps({"model": "lab.net", "image_size": [32, 32]})}}
    for name, head in {"huge_shape": entry, "dotted": named, "nested": None}.items():
        text = json.dumps(head).encode() if head else b'{"a":' * 50_000
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    run = folder / "foreign run"
    run.mkdir(exist_ok=True)
    (run / "lab.py").write_text(f"import os\nos.system('touch {RAN}')\n")
    (run / "config.json").write_text('{"task": "pretrain", "settings": {"mask": "lab.comb", "model": "lab.net"}}')
    for name, text in {"empty config": "", "list config": "[]", "nested config": "[" * 100_000}.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(text)


def odd_places(folder: Path, noise: bytes) -> None:
    """Names that are no text, links in circles, pipes, devices, sockets, depth."""
    for name in ("empty folder", "[red]folder[", "links", "not utf8", "a\nb", "pipes", "deep"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "[red]folder[" / "bold]:smile:.png").write_bytes(noise)  # together they read as a closing tag
    (folder / "a\nb" / "\x1b[31mred\x07.png").write_bytes(noise)
    for name in (b"caf\xe9.png", b"\xff\xfe.jpg"):
        Path(os.fsdecode(os.fsencode(folder / "not utf8") + b"/" + name)).write_bytes(noise)
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xe9.zip"))).write_bytes(noise)
    links = {"loop": "loop", "broken": "nosuch", "links/round": ".", "zero.png": "/dev/zero"}
    for name, target in links.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    for name in ("pipe", "pipe.json", "pipe.npz", "pipe.txt", "pipes/pipe.png"):
        if not (folder / name).exists():
            os.mkfifo(folder / name)
    (folder / "deep" / "/".join(["d"] * 300)).mkdir(parents=True, exist_ok=True)


def images(folder: Path, noise: bytes) -> None:
    """Images that claim much, hold little, or are none; and fair ones that hardly are images."""
    header = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    (folder / "claims.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(99))
    whole = io.BytesIO()
    smoke.image(0).save(whole, "PNG")
    (folder / "cut.png").write_bytes(whole.getvalue()[:300])
    (folder / "web.jpg").write_bytes(b"<!DOCTYPE html><html>404</html>")
    for name, size in {"pixel": (1, 1), "line": (5000, 1), "column": (1, 3), "two": (2, 2)}.items():
        Image.new("RGB", size, (9, 99, 199)).save(folder / f"fair {name}.png")
    for name, shapes in {"fair pixels": [(1, 1)] * 12, "fair mixture": [(1, 9), (300, 2), (64, 64)] * 4}.items():
        (folder / name).mkdir(exist_ok=True)
        for number, size in enumerate(shapes):
            smoke.image(number, 32).resize(size).save(folder / name / f"{number}.png")
            (folder / name / f"{number}.jpg").write_bytes(noise)
