"""Scenes of many bands: windows, what is valid, where they lie, against tifffile and rasterio itself."""

import io
import pickle
from datetime import datetime

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scene import open_scene, write_scene
from unmask.data.codecs.scenes.georeference import Georeference
from unmask.errors import UserError

BANDS = np.random.default_rng(0).integers(1, 9999, (5, 40, 60)).astype(np.uint16)
UTM, PLACE = "EPSG:32614", from_origin(440280, 3159720, 30, 20)


def scene(array=BANDS, driver="GTiff", edit=None, tags=(), **more):
    """The bytes of a file. edit: called with the open file."""
    with MemoryFile() as memory:
        form = {"count": array.shape[0], "height": array.shape[1], "width": array.shape[2], "dtype": array.dtype.name}
        with memory.open(driver=driver, **form | {"crs": UTM, "transform": PLACE} | more) as file:
            file.write(array)
            file.update_tags(**dict(tags))
            if edit:
                edit(file)
        return memory.read()


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"},
        {"compress": "lzw", "interleave": "pixel"},
        {"compress": "deflate", "predictor": 2},
    ],
)
def test_windows_have_the_values_that_tifffile_reads(tmp_path, kind, form):
    array = (BANDS % 200).astype(kind) - (5 if kind[0] in "if" else 0)
    form = {key: value for key, value in form.items() if key != "predictor" or kind[0] != "f"}
    data = scene(array.astype(kind), **form)
    (tmp_path / "a").write_bytes(data)
    if form.get("compress") != "lzw":
        planes = tifffile.imread(io.BytesIO(data))
        stored = planes if planes.shape == BANDS.shape else planes.transpose(2, 0, 1)
        np.testing.assert_array_equal(stored, array)
    for source in (data, str(tmp_path / "a")):
        opened = pickle.loads(pickle.dumps(open_scene(source)))
        assert (opened.size, opened.channels, opened.format) == ((40, 60), 5, "GeoTIFF")
        assert opened.bits == 8 * np.dtype(kind).itemsize
        values, valid = opened.window((7, 30), (11, 54))
        np.testing.assert_array_equal(values, array[:, 7:30, 11:54])
        assert bool(valid.all())
        again, _ = opened.window((7, 30), (11, 54))
        assert torch.equal(again, values)


def test_what_lies_beyond_the_scene_is_not_valid():
    opened = open_scene(scene())
    values, valid = opened.window((-3, 5), (55, 70))
    np.testing.assert_array_equal(values[:, 3:, :5], BANDS[:, :5, 55:])
    assert valid.sum() == 25
    assert values[:, ~valid].abs().sum() == 0
    assert open_scene(scene()).window((50, 60), (0, 5))[1].sum() == 0
    with pytest.raises(ValueError, match="window"):
        opened.window((5, 5), (0, 5))


def test_pixels_without_data_in_any_band_are_not_valid():
    array = BANDS.astype(np.float32)
    array[0, 1, 2], array[4, 3, 3], array[2, 5, 5], array[1, 6, 6] = -9999, np.nan, np.inf, 77777
    wrong = torch.zeros(40, 60, dtype=torch.bool)
    wrong[1, 2] = wrong[3, 3] = wrong[5, 5] = True
    data = scene(array, nodata=-9999)
    values, valid = open_scene(data).window((0, 40), (0, 60))
    assert torch.equal(~valid, wrong)
    assert values[:, wrong].abs().sum() == 0
    with MemoryFile(data) as memory, memory.open() as file:
        np.testing.assert_array_equal(values[0][valid], file.read(1)[valid.numpy()])
    wrong[6, 6] = True
    assert torch.equal(~open_scene(data, nodata=77777).window((0, 40), (0, 60))[1], wrong)
    zeros = BANDS.copy()
    zeros[:, :4] = 0
    assert open_scene(scene(zeros, nodata=0)).window((0, 40), (0, 60))[1].sum() == 36 * 60
    assert bool(open_scene(scene(BANDS % 200, nodata=65535)).window((0, 40), (0, 60))[1].all())
    lowest = float(np.finfo(np.float32).min)
    array[:] = 1
    array[0, 0, 0] = lowest
    assert open_scene(scene(array, nodata=lowest)).window((0, 40), (0, 60))[1].sum() == 40 * 60 - 1


def test_an_alpha_band_and_a_mask_say_what_is_valid():
    colour = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    array = BANDS[:4] % 255
    array[3] = 255
    array[3, :10] = 0
    opened = open_scene(scene(array.astype(np.uint8), photometric="RGB", alpha="yes",
                              edit=lambda file: setattr(file, "colorinterp", colour)))  # fmt: skip
    assert (opened.channels, opened.names) == (3, ("red", "green", "blue"))
    values, valid = opened.window((5, 15), (0, 60))
    np.testing.assert_array_equal(values[:, 5:], array[:3, 10:15])
    assert valid.sum() == 300
    assert opened.overview(20)[1].sum() > 0
    assert any("alpha" in note for note in opened.notes)
    mask = np.full((40, 60), 255, np.uint8)
    mask[:, 0] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        masked = open_scene(scene(edit=lambda file: file.write_mask(mask)))
    assert masked.window((0, 40), (0, 60))[1].sum() == 40 * 59


def test_scales_names_and_times_are_those_of_the_tags():
    def edit(file):
        file.scales, file.offsets = (0.1, 1, 1, 1, 1), (-5, 0, 0, 0, 0)
        file.descriptions = ("B02", "B03", None, None, None)
        file.update_tags(3, wavelength="665", wavelength_units="nm")
        file.update_tags(4, name="near  infrared")

    opened = open_scene(scene(edit=edit, tags={"TIFFTAG_DATETIME": "2020:01:02 03:04:05"}))
    assert opened.names == ("B02", "B03", "665 nm", "near infrared", "band 5")
    assert opened.time == datetime(2020, 1, 2, 3, 4, 5)
    values, _ = opened.window((0, 40), (0, 60))
    np.testing.assert_allclose(values[0], BANDS[0] * 0.1 - 5, rtol=1e-5)
    np.testing.assert_array_equal(values[1], BANDS[1])
    assert "scaled by its tags" in opened.notes


@pytest.mark.parametrize(
    ("tags", "right"),
    [
        ({"ACQUISITION_DATE": "2018-07-09", "TIFFTAG_DATETIME": "2020:01:01 00:00:00"}, datetime(2018, 7, 9)),
        ({"SENSING_TIME": "2018-07-09T17:20:01.123Z; 2018-07-09T17:21:01Z"}, datetime(2018, 7, 9, 17, 20, 1)),
        ({"datetime": "20180709T172001"}, datetime(2018, 7, 9, 17, 20, 1)),
        ({"datetime": "not a day"}, None), ({"datetime": "2018-99-99"}, None), ({}, None),
    ],
)  # fmt: skip
def test_times_of_any_spelling_are_read(tags, right):
    assert open_scene(scene(tags=tags)).time == right


def test_the_georeference_is_rasterios_and_comes_back_with_a_prediction(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(scene(nodata=3))
    opened = open_scene(str(path))
    assert opened.georeference.metres == (20, 30)
    classes = (BANDS[0] > 5000).astype(np.int64)
    write_scene(tmp_path / "classes.tif", torch.from_numpy(classes), opened.georeference, names=["class"])
    with rasterio.open(path) as original, rasterio.open(tmp_path / "classes.tif") as written:
        assert written.transform == original.transform
        assert written.crs == original.crs == CRS.from_wkt(opened.georeference.wkt)
        assert written.descriptions == ("class",)
        assert written.is_tiled
        np.testing.assert_array_equal(written.read(1), classes)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "classes.tif"), classes)
    part = opened.georeference.window((10, 20), (5, 45))
    valid = np.ones((10, 40), bool)
    valid[0] = False
    write_scene(tmp_path / "part.tif", np.ones((2, 10, 40), np.float16), part, valid=valid)
    with rasterio.open(tmp_path / "part.tif") as written, rasterio.open(path) as original:
        assert written.transform == original.window_transform(((10, 20), (5, 45)))
        assert np.isnan(written.nodata)
        assert written.dtypes == ("float32", "float32")
    again = open_scene(str(tmp_path / "part.tif"))
    assert torch.equal(again.window((0, 10), (0, 40))[1], torch.from_numpy(valid))
    small = opened.georeference.at_size((10, 15))
    assert small.metres == (80, 120)
    write_scene(tmp_path / "small.tif", np.zeros((10, 15), np.uint8), small)
    with rasterio.open(tmp_path / "small.tif") as written, rasterio.open(path) as original:
        assert written.bounds == original.bounds


def test_scenes_in_degrees_in_feet_turned_and_nowhere():
    degrees = open_scene(scene(crs="EPSG:4326", transform=from_origin(10, 60.02, 0.001, 0.001))).georeference
    np.testing.assert_allclose(degrees.metres, (111.2, 55.6), rtol=1e-3)
    feet = open_scene(scene(crs="EPSG:2263", transform=from_origin(0, 0, 10, 10))).georeference
    np.testing.assert_allclose(feet.metres, (3.048, 3.048), rtol=1e-4)
    turned = (
        rasterio.Affine.translation(440280, 3159720) * rasterio.Affine.rotation(30) * rasterio.Affine.scale(30, -20)
    )
    np.testing.assert_allclose(open_scene(scene(transform=turned)).georeference.metres, (20, 30))
    nowhere = open_scene(scene(crs=None, transform=None)).georeference
    assert nowhere == Georeference((40, 60))


def test_ground_control_points_and_cameras_come_back(tmp_path):
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100, 3.0) for r, c in ((0, 0), (0, 59), (39, 0))]
    data = scene(crs=None, transform=None, edit=lambda file: setattr(file, "gcps", (points, CRS.from_epsg(4326))))
    opened = open_scene(data)
    assert opened.georeference.transform is None
    write_scene(tmp_path / "a.tif", BANDS[0], opened.georeference)
    back = open_scene(str(tmp_path / "a.tif")).georeference
    assert back.gcps == opened.georeference.gcps != ()
    assert CRS.from_wkt(back.wkt) == CRS.from_epsg(4326)
    rpc = RPC(1.0, 2.0, 3.0, 4.0, [0.5] * 20, [0.25] * 20, 5.0, 6.0, 7.0, 8.0, [1.0] * 20, [2.0] * 20, 9.0, 10.0)
    camera = open_scene(scene(crs=None, transform=None, edit=lambda file: setattr(file, "rpcs", rpc))).georeference
    write_scene(tmp_path / "b.tif", BANDS[0], camera)
    assert open_scene(str(tmp_path / "b.tif")).georeference == camera
    assert len(camera.rpcs) >= 14


@pytest.mark.parametrize(("driver", "kind"), [("JP2OpenJPEG", "JPEG2000"), ("HFA", "ERDAS"), ("PNG", "PNG")])
def test_other_formats_are_scenes_too(driver, kind):
    array = BANDS[:1] if driver == "PNG" else BANDS[:3]
    lossless = {"quality": 100, "reversible": "yes"} if driver.startswith("JP2") else {}
    opened = open_scene(scene(array, driver=driver, **lossless))
    assert opened.format == kind
    values, valid = opened.window((0, 40), (0, 60))
    np.testing.assert_array_equal(values, array)
    assert bool(valid.all())


def test_envi_is_known_by_its_header(tmp_path):
    form = {"driver": "ENVI", "count": 5, "height": 40, "width": 60, "dtype": "uint16", "crs": UTM, "transform": PLACE}
    with rasterio.open(tmp_path / "cube.dat", "w", **form) as file:
        file.write(BANDS)
    opened = open_scene(str(tmp_path / "cube.dat"))
    np.testing.assert_array_equal(opened.window((3, 9), (4, 8))[0], BANDS[:, 3:9, 4:8])
    assert (opened.format, opened.georeference.transform) == ("ENVI", tuple(PLACE)[:6])


def test_arrays_are_scenes_with_their_bands_on_the_shorter_side(tmp_path):
    np.save(tmp_path / "a.npy", BANDS)
    content = (tmp_path / "a.npy").read_bytes()
    for source in (BANDS, BANDS.transpose(1, 2, 0), str(tmp_path / "a.npy"), content):
        opened = open_scene(source, nodata=int(BANDS[0, 3, 4]))
        assert (opened.channels, opened.size, opened.bits, opened.format) == (5, (40, 60), 16, "array")
        values, valid = opened.window((3, 9), (4, 8))
        np.testing.assert_array_equal(values[:, valid], BANDS[:, 3:9, 4:8][:, valid])
        assert not valid[0, 0]
    assert open_scene(BANDS[0]).overview(30)[0].shape == (1, 20, 30)
    with pytest.raises(BadImage, match="c h w"):
        open_scene(np.zeros((2, 2, 2, 2)))


def test_an_overview_is_small_and_honest():
    array = np.repeat(np.repeat(BANDS, 2, 1), 2, 2)
    values, valid = open_scene(scene(array)).overview(60)
    assert values.shape == (5, 40, 60)
    np.testing.assert_array_equal(values, BANDS)
    assert bool(valid.all())
    assert open_scene(scene()).overview(1000)[0].shape == (5, 40, 60)
    coarse = open_scene(scene(array, edit=lambda file: file.build_overviews([2], rasterio.enums.Resampling.nearest)))
    np.testing.assert_array_equal(coarse.overview(60)[0], BANDS)


@pytest.mark.parametrize("part", [1, 7000, 1 << 24])
def test_an_overview_is_the_same_whatever_parts_it_is_read_in(monkeypatch, part):
    large = np.random.default_rng(1).integers(1, 99, (2, 300, 1100)).astype(np.uint8)
    large[:, 100:] = 0
    monkeypatch.setattr("unmask.data.codecs.scene.PART", part)
    for form in ({}, {"tiled": True, "blockxsize": 64, "blockysize": 64}):
        values, valid = open_scene(scene(large, nodata=0, **form)).overview(110)
        assert values.shape == (2, 30, 110)
        np.testing.assert_array_equal(values, large[:, 5::10, 5::10])
        assert valid.sum() == 10 * 110


def test_what_cannot_be_read_or_written_is_said(tmp_path, monkeypatch):
    whole = scene(tiled=True, blockxsize=16, blockysize=16)
    for data, reason in [
        (b"", "empty"), (b"GIF89a" + bytes(99), "not a scene"), (whole[:50], "truncated"),
        (b"<VRTDataset rasterXSize='4' rasterYSize='4'/>", "not a scene"),
        (scene(BANDS.astype(np.complex64)), "complex64"), (b"\x93NUMPY" + bytes(20), "damaged"),
    ]:  # fmt: skip
        with pytest.raises(BadImage, match=reason):
            open_scene(data)
    with pytest.raises(BadImage, match="No such file"):
        open_scene(str(tmp_path / "none.tif"))
    cut = bytearray(scene())[:-4000]
    with pytest.raises(BadImage, match="truncated"):
        open_scene(bytes(cut)).window((0, 40), (0, 60))
    monkeypatch.setattr("unmask.data.codecs.scene.MAX_BLOCK", 1000)
    with pytest.raises(BadImage, match="TILED=YES"):
        open_scene(whole)
    there = Georeference((40, 60))
    with pytest.raises(UserError, match=r"written as \.tif"):
        write_scene(tmp_path / "a.png", BANDS, there)
    with pytest.raises(ValueError, match="for a scene of"):
        write_scene(tmp_path / "a.tif", BANDS[:, 1:], there)
    with pytest.raises(ValueError, match="whole numbers"):
        write_scene(tmp_path / "a.tif", BANDS, there, valid=np.ones((40, 60), bool))
