"""Damaged volumes, slices, clouds and scenes end in a reason, never in another error; missing libraries are named."""

import contextlib
import gzip
import io
import sys

import laspy
import nibabel as nib
import numpy as np
import pytest
import tifffile
from rasterio.io import MemoryFile

from unmask.data.codecs.dicom import find_series, read_dicom
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import read_points
from unmask.data.codecs.scene import open_scene
from unmask.data.codecs.volume import read_volume
from unmask.errors import UserError

CHANCE = np.random.default_rng(0)


def nifti():
    return nib.Nifti1Image(CHANCE.normal(size=(4, 5, 6)), np.eye(4)).to_bytes()


def stack(**more):
    file = io.BytesIO()
    tifffile.imwrite(file, CHANCE.integers(0, 99, (5, 8, 9), dtype=np.uint16), **more)
    return file.getvalue()


def slices():
    import pydicom

    path = pydicom.data.get_testdata_file("CT_small.dcm")
    with open(path, "rb") as file:
        return file.read()


def las(packed):
    data = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
    data.x, data.y, data.z = CHANCE.normal(size=(3, 200))
    file = io.BytesIO()
    data.write(file, do_compress=packed)
    return file.getvalue()


def ply():
    head = b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nproperty float y\n"
    head += b"property float z\nelement face 2\nproperty list uchar int vertex_indices\nend_header\n"
    faces = b"".join(bytes([3]) + np.array(face, "<i4").tobytes() for face in ([0, 1, 2], [3, 4, 5]))
    return head + CHANCE.normal(size=(9, 3)).astype("<f4").tobytes() + faces


def scene(**more):
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", count=3, height=20, width=30, dtype="uint8", nodata=0, **more) as file:
            file.write(CHANCE.integers(0, 9, (3, 20, 30), dtype=np.uint8))
        return memory.read()


def whole_scene(data):
    opened = open_scene(data)
    opened.overview(8)
    return opened.window((0, min(opened.size[0], 99)), (0, min(opened.size[1], 99)))


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


KINDS = {
    "nifti": (read_volume, nifti), "packed nifti": (read_volume, lambda: gzip.compress(nifti())),
    "stack": (read_volume, stack), "packed stack": (read_volume, lambda: stack(compression="zlib")),
    "npz": (read_volume, lambda: npz(volume=CHANCE.normal(size=(3, 4, 5)))),
    "dicom": (lambda data: read_dicom([data]), slices),
    "las": (read_points, lambda: las(False)), "laz": (read_points, lambda: las(True)), "ply": (read_points, ply),
    "off": (read_points, lambda: b"OFF\n3 1 0\n0 0 1\n0 1 0\n1 0 0\n3 0 1 2\n"),
    "obj": (read_points, lambda: b"v 0 0 1\nv 0 1 0\nv 1 0 0\nvn 0 0 1\nf 1//1 2//1 -1//1\n"),
    "cloud": (read_points, lambda: npz(points=CHANCE.normal(size=(9, 3)), labels=np.arange(9))),
    "scene": (whole_scene, scene), "packed scene": (whole_scene, lambda: scene(compress="deflate", tiled=True,
                                                                              blockxsize=16, blockysize=16)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_any_kind_ends_in_a_reason(kind):
    read, make = KINDS[kind]
    whole = make()
    read(whole)
    chance, reasons = np.random.default_rng(len(kind)), []
    for n in range(60):
        data = bytearray(whole)
        for place in chance.integers(0, min(len(data), 700 if n % 2 else len(data)), 1 + n % 5):
            data[place] = chance.integers(256)
        with contextlib.suppress(BadImage), recorded(reasons):
            read(bytes(data[: chance.integers(len(data))] if n % 3 == 0 else data))
    assert len(reasons) > 5
    assert all(0 < len(reason) < 200 for reason in reasons)


@contextlib.contextmanager
def recorded(reasons):
    try:
        yield
    except BadImage as error:
        reasons.append(str(error))
        raise


@pytest.mark.parametrize(
    ("module", "extra", "read"),
    [
        ("nibabel", "medical", lambda: read_volume(nifti())),
        ("pydicom", "medical", lambda: read_dicom([b"\0" * 128 + b"DICM"])),
        ("pydicom", "medical", lambda: find_series(["a.dcm"])),
        ("laspy", "points", lambda: read_points(b"LASF" + bytes(400))),
        ("rasterio", "satellite", lambda: open_scene(b"II*\0" + bytes(99))),
    ],
)
def test_a_missing_library_is_named_with_its_install_command(monkeypatch, module, extra, read):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"not installed: .*unmask\[{extra}\]"):
        read()
