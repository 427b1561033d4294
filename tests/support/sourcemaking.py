"""Images in folders, archives, lists and arrays, as tests of sources want them."""

import io
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

from unmask.data.codecs.decode import decode

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
