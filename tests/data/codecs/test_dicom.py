"""DICOM series: order, gaps, doubles, geometry, values, several series in one folder, and no word about a patient."""

import io
import pickle

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from unmask.data.codecs.dicom import find_series, read_dicom
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volume import write_volume

SERIES, PATIENT = generate_uid(), "Doe^Jane"
PIXELS = np.random.default_rng(0).integers(0, 4096, (7, 5, 4)).astype(np.uint16)
AXIAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)


def dataset(pixels, number=1, position=(0, 0, 0), across=AXIAL, **tags):
    """One file as bytes. pixels: rows columns (3), or frames rows columns."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.PatientName, data.PatientID, data.StudyDescription = PATIENT, PATIENT, PATIENT
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    data.SeriesInstanceUID, data.InstanceNumber = SERIES, number
    data.PixelSpacing, data.SliceThickness = [0.5, 0.75], 9
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    if position is not None:
        data.ImagePositionPatient = [float(n) for n in position]
    if across is not None:
        data.ImageOrientationPatient = [float(n) for n in across]
    for name, value in tags.items():
        setattr(data, name, value)
    colour = data.SamplesPerPixel == 3
    data.Rows, data.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if pixels.ndim == (4 if colour else 3):
        data.NumberOfFrames = len(pixels)
    data.PixelData = pixels.tobytes()
    return data


def as_bytes(data):
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def one(pixels, **more):
    return as_bytes(dataset(pixels, **more))


def series(places=None, pixels=PIXELS, **more):
    """Files of slices at mm along the head axis, or three times their index."""
    places = [3 * n for n in range(len(pixels))] if places is None else places
    return [one(p, number=n, position=(-10, -20, z), **more) for n, (p, z) in enumerate(zip(pixels, places))]


def test_slices_in_any_order_make_the_same_volume_in_the_right_place(tmp_path):
    files = series()
    volume = read_dicom(files[::-1])
    # rows lead to the back: the first is the front, so h is the other way round; columns lead to the left
    np.testing.assert_array_equal(volume.values[0], PIXELS[:, ::-1, ::-1].astype(np.float32))
    assert (volume.size, volume.channels, volume.bits, volume.format) == ((7, 5, 4), 1, 12, "DICOM series")
    assert volume.spacing == (3, 0.5, 0.75)
    assert volume.geometry.codes == "LPS"
    corner = volume.affine @ [6, 4, 3, 1]  # the last slice's first row and column
    np.testing.assert_allclose(corner[:3], [10, 20, 18])  # left and back, 10 and 20 the other way, of DICOM's axes
    again = read_dicom([files[n] for n in (3, 1, 6, 0, 2, 5, 4)])
    assert torch.equal(again.values, volume.values)
    write_volume(tmp_path / "labels.nii", (volume.values > 2000).long(), volume.geometry)
    written = nib.load(tmp_path / "labels.nii")
    assert nib.aff2axcodes(written.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(written.get_fdata(), PIXELS.transpose(2, 1, 0) > 2000)
    np.testing.assert_allclose(written.affine @ [0, 0, 0, 1], [10, 20, 0, 1])


def test_a_series_of_another_direction_is_brought_to_the_same_one():
    space = np.random.default_rng(1).integers(0, 99, (6, 5, 4)).astype(np.uint16)  # to the head, the back, the left
    axial = [one(space[z], position=(0, 0, z), PixelSpacing=[1, 1]) for z in range(6)]
    sagittal = [one(space[::-1, :, x], position=(x, 0, 5), across=SAGITTAL, PixelSpacing=[1, 1]) for x in range(4)]
    a, b = read_dicom(axial), read_dicom(sagittal)
    assert torch.equal(a.values, b.values)
    np.testing.assert_allclose(a.affine, b.affine)


def test_a_tilted_gantry_is_in_the_affine():
    volume = read_dicom([one(PIXELS[n], position=(0, 0.3 * n, 3 * n)) for n in range(7)])
    np.testing.assert_allclose(volume.affine[:3, 0], [0, -0.3, 3], atol=1e-9)
    assert any("tilt of 5.7 degrees" in note for note in volume.notes)


def test_missing_slices_are_interpolated_and_said():
    smooth = np.arange(0, 700, 100, dtype=np.uint16)[:, None, None] + np.zeros((1, 5, 4), np.uint16)
    files = series(pixels=smooth)
    volume = read_dicom([files[n] for n in (0, 1, 4, 5, 6)])
    assert torch.equal(volume.values, read_dicom(files).values)
    assert any("2 slices missing" in note for note in volume.notes)
    assert volume.spacing == (3, 0.5, 0.75)
    labels = read_dicom([files[n] for n in (0, 1, 4, 5, 6)], labels=True)
    assert labels.values.dtype == torch.int64
    assert set(labels.values.unique().tolist()) <= {0, 100, 400, 500, 600}
    with pytest.raises(BadImage, match="7 of 11 slices missing"):
        read_dicom(series([0, 3, 6, 30]))


def test_doubled_slices_are_left_out_and_said():
    files = series()
    volume = read_dicom([*files, one(PIXELS[0], number=99, position=(-10, -20, 6)), files[3]])
    assert torch.equal(volume.values, read_dicom(files).values)
    assert any("2 doubled slices left out" in note for note in volume.notes)


def test_uneven_steps_are_made_even_and_said():
    volume = read_dicom(series([0, 3, 6.5, 9, 12, 15, 18]))
    between = (PIXELS[1] + (PIXELS[2].astype(float) - PIXELS[1]) * 3 / 3.5)[::-1, ::-1]
    np.testing.assert_allclose(volume.values[0, 2], between, rtol=1e-6)
    assert any("2.5 to 3.5 mm" in note for note in volume.notes)
    assert not any("mm apart" in note for note in read_dicom(series([0, 3.01, 6, 9, 11.99, 15, 18])).notes)


def test_each_slice_is_rescaled_by_its_own_slope():
    files = [one(PIXELS[n], position=(0, 0, n), RescaleSlope=str(n + 0.5), RescaleIntercept="-1024") for n in range(7)]
    right = PIXELS * (np.arange(7) + 0.5)[:, None, None] - 1024
    np.testing.assert_allclose(read_dicom(files).values[0], right[:, ::-1, ::-1], rtol=1e-6)


def test_inverted_and_padded_pixels_are_turned_round_and_said():
    pixels = PIXELS[:1].copy()
    pixels[0, 0, 0] = 4095
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095, "RescaleIntercept": "-5"}
    volume = read_dicom([one(pixels[0], **tags)])
    right = 4095.0 - pixels[0] - 5
    right[0, 0] = right[pixels[0] != 4095].min()
    np.testing.assert_array_equal(volume.values[0, 0], right[::-1, ::-1])
    assert {"MONOCHROME1 inverted", "padding set to the lowest value"} <= set(volume.notes)
    signed = one(pixels[0].astype(np.int16) - 9, PhotometricInterpretation="MONOCHROME1", PixelRepresentation=1,
                 BitsStored=16, HighBit=15)  # fmt: skip
    np.testing.assert_array_equal(read_dicom([signed]).values[0, 0], 8.0 - pixels[0, ::-1, ::-1])


def test_colours_are_channels():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 3)).astype(np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    volume = read_dicom([one(pixels, BitsAllocated=8, BitsStored=8, HighBit=7, **tags)])
    np.testing.assert_array_equal(volume.values[:, 0], pixels[::-1, ::-1].transpose(2, 0, 1))


def test_files_of_several_frames_lie_as_each_frame_says():
    def groups(z):
        item, position = Dataset(), Dataset()
        position.ImagePositionPatient = [-10, -20, z]
        item.PlanePositionSequence = [position]
        rescale = Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = 2, z
        item.PixelValueTransformationSequence = [rescale]
        return item

    shared, measures, directions = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, directions.ImageOrientationPatient = [0.5, 0.75], 9, [*AXIAL]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [directions]
    data = dataset(PIXELS[::-1], position=None, across=None, SharedFunctionalGroupsSequence=[shared])
    data.PerFrameFunctionalGroupsSequence = [groups(3 * n) for n in reversed(range(7))]
    del data.PixelSpacing
    volume, plain = read_dicom([as_bytes(data)]), read_dicom(series())
    places = 3 * np.arange(7)[:, None, None]
    np.testing.assert_array_equal(volume.values[0].numpy(), 2 * plain.values[0].numpy() + places)
    np.testing.assert_allclose(volume.affine, plain.affine)
    dose = one(PIXELS, position=(-10, -20, 0), GridFrameOffsetVector=[3 * n for n in range(7)])
    assert torch.equal(read_dicom([dose]).values, plain.values)
    np.testing.assert_allclose(read_dicom([dose]).affine, plain.affine)
    film = read_dicom([one(PIXELS, SpacingBetweenSlices="2")])
    assert (film.size, film.spacing) == ((7, 5, 4), (2, 0.5, 0.75))


def test_slices_without_positions_are_sorted_by_what_they_have_and_it_is_said():
    files = [one(PIXELS[n], number=n, position=None, across=None) for n in (4, 2, 0, 1, 6, 5, 3)]
    volume = read_dicom(files)
    np.testing.assert_array_equal(volume.values[0], PIXELS[:, ::-1, ::-1])
    assert {"no positions in it: in the order of instance numbers", "no direction in it: taken as axial"} <= set(
        volume.notes
    )
    assert volume.spacing == (9, 0.5, 0.75)
    files = [one(PIXELS[n], number=n, position=None, SliceLocation=str(-2 * n)) for n in range(7)]
    assert torch.equal(read_dicom(files).values[0], torch.from_numpy(PIXELS[::-1, ::-1, ::-1].astype(np.float32)))
    assert read_dicom(files).spacing[0] == 2


def test_the_series_of_a_folder_are_told_apart_and_other_files_are_named(tmp_path):
    other = generate_uid()
    contents = {f"{n}.dcm": file for n, file in enumerate(series())}
    contents |= {f"b{n}": one(PIXELS[n], position=(0, 0, -n), SeriesInstanceUID=other) for n in range(3)}
    contents |= {"local.dcm": one(PIXELS[0], across=SAGITTAL), "notes.txt": b"about this patient" * 20}
    report = dataset(PIXELS[0])
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    contents |= {"report.dcm": as_bytes(report), "short.dcm": contents["0.dcm"][:400]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    groups, reasons = find_series([str(tmp_path / name) for name in reversed(contents)])
    names = [[path.rpartition("/")[2] for path in group] for group in groups]
    assert sorted(names) == [[f"{n}.dcm" for n in range(7)], ["b2", "b1", "b0"], ["local.dcm"]]
    assert {path.rpartition("/")[2] for path in reasons} == {"notes.txt", "report.dcm", "short.dcm"}
    assert reasons[str(tmp_path / "notes.txt")] == "not DICOM"
    assert reasons[str(tmp_path / "report.dcm")] == "DICOM without an image"
    for group in groups:
        assert read_dicom(group).size[0] == len(group) or read_dicom(group).size[2] == 1


def test_what_makes_no_volume_is_refused_with_a_reason_that_quotes_nothing():
    files, odd = series(), dataset(PIXELS[0])
    odd.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    odd.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff" + bytes(99)])
    for sources, reason in [
        ([], "no slices"), ([b""], "not DICOM"), ([PATIENT.encode() * 99], "not DICOM"),
        ([files[0], one(PIXELS[0, :4])], "sizes: 4 x 4, 5 x 4"),
        ([files[0], one(PIXELS[0], across=SAGITTAL)], "directions"),
        ([files[0], one(PIXELS[0], SeriesInstanceUID=generate_uid())], "several series"),
        ([files[0][:-9]], "truncated"), ([as_bytes(odd)], "JPEG Lossless"),
        ([one(PIXELS[0], across=(1, 0, 0, 1, 0, 0))], "singular|orientation"),
    ]:  # fmt: skip
        with pytest.raises(BadImage, match=reason) as error:
            read_dicom(sources)
        assert PATIENT not in str(error.value)
        assert error.value.__cause__ is None


def test_no_word_about_the_patient_leaves_the_codec(tmp_path):
    files = series()
    volume = read_dicom(files)
    write_volume(tmp_path / "a.nii", volume.values, volume.geometry)
    output = (tmp_path / "a.nii").read_bytes() + pickle.dumps(volume) + repr(volume).encode()
    assert PATIENT.encode() in files[0]
    assert PATIENT.encode() not in output
    assert SERIES.encode() not in output


def test_files_without_a_preamble_are_read():
    data = dataset(PIXELS[0])
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = io.BytesIO()
    del data.file_meta
    pydicom.dcmwrite(file, data, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert file.getvalue()[:2] == b"\x08\0"
    np.testing.assert_array_equal(read_dicom([file.getvalue()]).values[0, 0], PIXELS[0, ::-1, ::-1])
