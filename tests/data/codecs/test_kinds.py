"""Volumes, stacks and scenes are told from images by their first bytes and their tags."""

import gzip
import io

import nibabel as nib
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.io import MemoryFile

from unmask.data.codecs.scenes.signs import is_scene, tiff_kind
from unmask.data.codecs.signature import HEAD, volume_format

PAGES = np.random.default_rng(0).integers(0, 255, (6, 20, 30), dtype=np.uint8)


def tiff(array, **more):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **more)
    return file.getvalue()


def gdal(count=1, driver="GTiff", **more):
    with MemoryFile() as memory:
        with memory.open(driver=driver, count=count, height=20, width=30, dtype="uint8", **more) as file:
            file.write(np.ones((count, 20, 30), np.uint8))
        return memory.read()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_kinds_of_tiff_are_told_by_their_tags(order, big):
    form = {"byteorder": order, "bigtiff": big}
    for data, kind in [
        (tiff(PAGES[0], **form), "image"), (tiff(PAGES, **form), "stack"),
        (tiff(PAGES[:3].transpose(1, 2, 0), **form), "image"),
        (tiff(np.zeros((20, 30, 5), np.uint8), planarconfig="contig", photometric="minisblack", **form), "scene"),
        (tiff(np.zeros((5, 20, 30), np.uint8), planarconfig="separate", photometric="minisblack", **form), "scene"),
        (tiff(PAGES[0], extratags=[(33550, "d", 3, (30.0, 30.0, 0.0), False)], **form), "scene"),
        (tiff(PAGES[0].astype(np.float32), **form), "scene"), (tiff(PAGES.astype(np.float32), **form), "stack"),
        (tiff(PAGES[:3].transpose(1, 2, 0).astype(np.float16), photometric="rgb", **form), "scene"),
        (tiff(PAGES, volumetric=False, metadata=None, **form), "stack"),
    ]:  # fmt: skip
        assert tiff_kind(data) == kind
        assert is_scene(data) == (kind == "scene")
        assert tiff_kind(data[:20]) is None


def test_copies_of_other_sizes_are_no_stack_and_imagejs_single_page_is_one(tmp_path):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(PAGES[0])
        writer.write(PAGES[0, ::2, ::2], subfiletype=1)
        writer.write(PAGES[0, ::4, ::4], subfiletype=1)
    assert tiff_kind(file.getvalue()) == "image"
    (tmp_path / "a").write_bytes(tiff(PAGES, imagej=True))
    assert tiff_kind(str(tmp_path / "a")) == "stack"
    file = io.BytesIO()
    Image.fromarray(PAGES[0]).save(file, "TIFF", save_all=True, append_images=[Image.fromarray(PAGES[0, :10])])
    assert tiff_kind(file.getvalue()) == "image"
    assert tiff_kind(str(tmp_path / "none")) is None
    loop = bytearray(tiff(PAGES[0], metadata=None))
    loop[-4:] = loop[-4:]
    assert tiff_kind(bytes(loop)) == "image"


def test_scenes_are_what_lies_on_the_earth():
    place = {"crs": "EPSG:32614", "transform": rasterio.transform.from_origin(440280, 3159720, 30, 30)}
    assert tiff_kind(gdal(**place)) == "scene"
    assert is_scene(gdal(3, "JP2OpenJPEG", codec="JP2", **place))
    assert is_scene(gdal(3, "HFA", **place))
    assert tiff_kind(gdal(3)) == "image"
    assert not is_scene(gdal(3, "JP2OpenJPEG", codec="JP2"))
    for data in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"GIF89a" + bytes(99)):
        assert tiff_kind(data) is None
        assert not is_scene(data)


def test_volumes_are_told_by_their_first_bytes():
    noise = np.random.default_rng(0).normal(size=(9, 9, 9))
    one, two = nib.Nifti1Image(noise, np.eye(4)).to_bytes(), nib.Nifti2Image(noise, np.eye(4)).to_bytes()
    big = nib.Nifti1Image(noise, np.eye(4), nib.Nifti1Header(endianness=">")).to_bytes()
    bare = b"\x08\0\x05\0CS" + bytes(HEAD)
    for data, name, kind in [
        (one, "a", "NIfTI"), (two, "a", "NIfTI"), (big, "a", "NIfTI"), (gzip.compress(one), "a.nii.gz", "NIfTI"),
        (gzip.compress(two), "a", "NIfTI"), (gzip.compress(b"a tar" * 99), "a.nii.gz", None),
        (b"\x1f\x8b", "a.nii.gz", None), (bytes(128) + b"DICM" + bytes(200), "a", "DICOM"), (bare, "a.dcm", "DICOM"),
        (bare, "a", None), (b"", "a.nii", None),
        (b"GIF89a", "a.dcm", None), (b"\x1f\x8b" + bytes(300), "a.nii.gz", None), (tiff(PAGES), "a", None),
    ]:  # fmt: skip
        assert volume_format(data[:HEAD], name) == kind, name
