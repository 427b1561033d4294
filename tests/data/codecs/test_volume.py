"""Volumes: NIfTI of any orientation as nibabel sees it and back to the bit, arrays, stacks, and what cannot be read."""

import gzip
import io
import itertools
import pickle

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volume import FIELDS, read_volume, write_volume
from unmask.errors import UserError

TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
PATIENT = b"Doe^Jane"


def affine_of(turn, spacing=(1.0, 2.0, 3.5), tilt=0.0):
    """An affine that leads the stored axes along the axes of space as `turn` says, slightly tilted."""
    axes, signs = turn
    affine = np.zeros((4, 4))
    for column, (row, sign) in enumerate(zip(axes, signs)):
        affine[row, column] = sign * spacing[column]
    cos, sin = np.cos(tilt), np.sin(tilt)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ affine[:3, :3]
    return affine + np.outer([-3.25, 7, 11.5, 1], [0, 0, 0, 1])


def image_of(array, affine, kind=nib.Nifti1Image):
    image = kind(array, affine)
    image.header["descrip"] = image.header["intent_name"] = PATIENT
    return image


@settings(max_examples=60, deadline=None)
@given(
    turn=st.sampled_from(TURNS),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    tilt=st.sampled_from([0.0, 0.3]),
    channels=st.sampled_from([0, 1, 3]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
def test_a_volume_is_turned_as_nibabel_does_and_written_where_it_lay(
    tmp_path_factory, turn, shape, tilt, channels, kind
):
    shape = shape + (channels,) * (channels > 0)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = image_of(array, affine_of(turn, tilt=tilt), kind)
    image.set_qform(image.affine, 2)
    volume = read_volume(image.to_bytes())
    canonical = nib.as_closest_canonical(image)
    right = canonical.get_fdata(dtype=np.float32).reshape(*canonical.shape[:3], -1)
    np.testing.assert_array_equal(volume.values.permute(0, 3, 2, 1).numpy(), np.moveaxis(right, 3, 0))
    np.testing.assert_array_equal(volume.affine[:, [2, 1, 0, 3]], canonical.affine)
    np.testing.assert_allclose(volume.spacing, canonical.header.get_zooms()[2::-1], rtol=1e-6)
    assert volume.geometry.codes == "".join(nib.aff2axcodes(image.affine))
    path = tmp_path_factory.mktemp("v") / "back.nii.gz"
    write_volume(path, volume.values, volume.geometry)
    back = nib.load(path)
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32).reshape(array.shape), array)
    for field in FIELDS:
        if field != "pixdim":
            np.testing.assert_array_equal(back.header[field], image.header[field], field)
    np.testing.assert_array_equal(back.header["pixdim"][:4], image.header["pixdim"][:4])
    np.testing.assert_array_equal(back.affine, image.affine)


def test_nothing_of_the_header_but_its_geometry_leaves_the_codec(tmp_path):
    image = image_of(np.zeros((2, 3, 4), np.int16), affine_of(TURNS[5]))
    volume = read_volume(image.to_bytes())
    write_volume(tmp_path / "a.nii", volume.values, volume.geometry)
    assert PATIENT in image.to_bytes()
    assert PATIENT not in (tmp_path / "a.nii").read_bytes() + pickle.dumps(volume) + repr(volume).encode()


def test_scaled_values_labels_colours_and_units_are_read_as_the_header_says(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine_of(TURNS[0]))
    image.header.set_slope_inter(0.5, -3)
    image.header.set_xyzt_units("micron")
    volume = read_volume(image.to_bytes())
    np.testing.assert_allclose(volume.spacing, (3.5e-3, 2e-3, 1e-3), rtol=1e-6)
    stored = nib.Nifti1Image.from_bytes(image.to_bytes())
    np.testing.assert_array_equal(volume.values[0].permute(2, 1, 0), stored.get_fdata())
    assert (volume.bits, volume.channels, volume.size, volume.format) == (16, 1, (4, 3, 2), "NIfTI")
    with pytest.raises(BadImage, match="whole numbers"):
        read_volume(image.to_bytes(), labels=True)
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 7
    assert read_volume(nib.Nifti1Image(colours, np.eye(4)).to_bytes()).values.mean((1, 2, 3)).tolist() == [0, 7, 0]
    big = np.full((2, 2, 2), 2**24 + 1, np.int32)
    labels = read_volume(nib.Nifti1Image(big, np.eye(4)).to_bytes(), labels=True)
    assert labels.values.dtype == torch.int64
    assert labels.values.unique().tolist() == [2**24 + 1]
    write_volume(tmp_path / "labels.nii", labels.values, labels.geometry)
    assert nib.load(tmp_path / "labels.nii").get_data_dtype() == np.int32
    floats = nib.Nifti1Image(np.float32([[[0, 2.0]]]), np.eye(4)).to_bytes()
    assert read_volume(floats, labels=True).values.flatten().tolist() == [0, 2]


def test_values_that_are_not_finite_are_set_to_0_and_counted():
    array = np.ones((2, 2, 2), np.float64)
    array[0, 0], array[1, 1, 1] = np.nan, 1e300
    volume = read_volume(nib.Nifti1Image(array, np.eye(4)).to_bytes())
    assert volume.values.sum() == 5
    assert "3 non-finite values set to 0" in volume.notes
    with pytest.raises(BadImage, match="no finite value"):
        read_volume(np.full((2, 2, 2), np.nan))
    with pytest.raises(BadImage, match="whole numbers"):
        read_volume(array, labels=True)


@pytest.mark.parametrize(
    ("shape", "size", "channels"),
    [
        ((4, 5), (1, 5, 4), 1),
        ((4, 5, 6, 1, 3), (6, 5, 4), 3),
        ((4, 5, 6, 16), (6, 5, 4), 16),
        ((4, 5, 6, 1), (6, 5, 4), 1),
    ],
)
def test_fewer_and_more_axes_than_three(shape, size, channels):
    volume = read_volume(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)).to_bytes())
    assert (volume.size, volume.channels) == (size, channels)


def test_what_cannot_be_used_is_refused_with_a_reason(tmp_path):
    whole = nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4)).to_bytes()
    singular, huge, pair = bytearray(whole), bytearray(whole), bytearray(whole)
    singular[280:328] = bytes(48)
    huge[42:48] = np.int16([32000] * 3).tobytes()
    pair[344:347] = b"ni1"
    packed = bytearray(gzip.compress(whole))
    packed[len(packed) // 2] ^= 255
    for data, reason in [
        (b"", "empty"), (whole[:200], "truncated"), (whole[:-9], "truncated"),
        (gzip.compress(whole)[:-2000], "truncated"),
        (gzip.compress(whole[:-9]), "truncated|damaged"), (bytes(packed), "damaged|truncated"), (bytes(huge), "limit"),
        (bytes(singular), "singular"), (bytes(pair), r"\.hdr and \.img: join them"), (b"GIF89a" * 99, "not NIfTI"),
        (nib.Nifti1Image(np.zeros((2, 2, 2, 17), np.uint8), np.eye(4)).to_bytes(), "fourth axis"),
        (nib.Nifti1Image(np.zeros((2, 2, 2), np.complex64), np.eye(4)).to_bytes(), "real numbers"),
        (np.zeros((3, 3)), "d h w"), (np.zeros((0, 3, 3)), "no voxels"), (np.array([[["a"]]]), "real numbers"),
    ]:  # fmt: skip
        with pytest.raises(BadImage, match=reason):
            read_volume(data)
        if isinstance(data, bytes):
            (tmp_path / "file").write_bytes(data)  # a path tells the same as its bytes
            with pytest.raises(BadImage, match=reason):
                read_volume(str(tmp_path / "file"))


def test_a_header_without_orientation_is_taken_as_nibabel_takes_it_and_said():
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(2, 3, 4)), None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    volume = read_volume(image.to_bytes())
    canonical = nib.as_closest_canonical(nib.Nifti1Image.from_bytes(image.to_bytes()))
    np.testing.assert_array_equal(volume.values[0].permute(2, 1, 0), canonical.get_fdata(dtype=np.float32))
    assert any("no orientation" in note for note in volume.notes)


def test_arrays_are_volumes_as_they_lie_and_come_back_from_what_is_written(tmp_path):
    array = np.random.default_rng(0).integers(0, 999, (3, 20, 21, 22), dtype=np.uint16)
    volume = read_volume(array)
    assert (volume.channels, volume.size, volume.spacing, volume.bits) == (3, (20, 21, 22), None, 16)
    np.testing.assert_array_equal(volume.values, array)
    np.testing.assert_array_equal(read_volume(np.moveaxis(array, 0, 3)).values, array)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", volume=array, other=array[0])
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read_volume(str(tmp_path / name)).values, array)
    np.savez(tmp_path / "b.npz", one=array, other=array)
    with pytest.raises(BadImage, match="one, other"):
        read_volume(str(tmp_path / "b.npz"))
    write_volume(tmp_path / "a.nii.gz", volume.values, volume.geometry)
    np.testing.assert_array_equal(read_volume(str(tmp_path / "a.nii.gz")).values, array)
    with pytest.raises(UserError, match="nii"):
        write_volume(tmp_path / "a.png", volume.values, volume.geometry)
    with pytest.raises(ValueError, match="size"):
        write_volume(tmp_path / "b.nii", volume.values[..., 1:], volume.geometry)


@pytest.mark.parametrize("packing", [None, "zlib", "lzw"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_the_pages_of_a_tiff_are_the_layers_of_a_volume(kind, packing):
    array = np.random.default_rng(0).integers(0, 200, (5, 7, 6)).astype(kind)
    volume = read_volume(tiff_of(array, packing))
    np.testing.assert_array_equal(volume.values[0], array)
    assert (volume.format, volume.bits, volume.spacing) == ("TIFF stack", 8 * kind().itemsize, None)


def tiff_of(array, packing=None, **more):
    file = io.BytesIO()
    if packing == "lzw":
        from PIL import Image

        pages = [Image.fromarray(page) for page in array]
        pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    else:
        tifffile.imwrite(file, array, compression=packing, **more)
    return file.getvalue()


def test_stacks_of_colours_of_microscopes_and_of_ome_are_understood():
    colours = np.random.default_rng(0).integers(0, 255, (5, 7, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        read_volume(tiff_of(colours, photometric="rgb")).values, colours.transpose(3, 0, 1, 2)
    )
    cells = np.random.default_rng(0).integers(0, 255, (5, 2, 7, 6), dtype=np.uint8)
    imagej = tiff_of(cells, imagej=True, resolution=(4, 2), metadata={"axes": "ZCYX", "spacing": 3.0, "unit": "um"})
    volume = read_volume(imagej)
    np.testing.assert_array_equal(volume.values, cells.transpose(1, 0, 2, 3))
    np.testing.assert_allclose(volume.spacing, (3e-3, 0.5e-3, 0.25e-3))
    sizes = {"axes": "ZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2, "PhysicalSizeZUnit": "mm"}
    volume = read_volume(tiff_of(cells, ome=True, photometric="minisblack", metadata=sizes))
    np.testing.assert_array_equal(volume.values, cells.transpose(1, 0, 2, 3))
    np.testing.assert_allclose(volume.spacing, (2.0, 0.5e-3, 0.25e-3))
    with pytest.raises(BadImage, match="axes TZYX"):
        read_volume(tiff_of(cells, imagej=True, metadata={"axes": "TZYX"}))
    white = tiff_of(cells[:, 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_volume(white).values[0], 255 - cells[:, 0])
    with pytest.raises(BadImage):
        read_volume(white[:300])
