"""Scenes as samples: which files are scenes, windows of large ones, what is drawn, told and left out."""

import pickle
import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from PIL import Image
from rasterio.transform import from_origin

from unmask.data.codecs.scenes.colours import colour_of, composite
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.codecs.scenes.tags import time_in_name
from unmask.data.datasets.images import Samples
from unmask.data.modality import make_modality
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError

BANDS = np.random.default_rng(0).integers(1, 9999, (5, 40, 60)).astype(np.uint16)
PLACE = {"crs": "EPSG:32614", "transform": from_origin(440280, 3159720, 20, 20)}


def write(path, array=BANDS, names=(), tags=(), place=PLACE, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    with rasterio.open(path, "w", **form | {"dtype": array.dtype.name} | place | more) as file:
        file.write(array)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
        file.update_tags(**dict(tags))
    return path


def test_tiff_is_a_scene_if_it_lies_on_the_earth_or_has_many_bands_or_real_numbers(tmp_path):
    grey = BANDS[0]
    kinds = {
        "earth.tif": (lambda path: write(path, BANDS[:1].astype(np.uint8)), "bands"),
        "many.tif": (lambda path: write(path, place={}), "bands"),
        "real.tif": (lambda path: tifffile.imwrite(path, grey.astype(np.float32)), "bands"),
        "grey.tif": (lambda path: tifffile.imwrite(path, grey), "image"),
        "colour.tif": (lambda path: Image.fromarray(BANDS[:3].astype(np.uint8).transpose(1, 2, 0)).save(path), "image"),
        "thermal.png": (lambda path: Image.fromarray(grey).save(path), "image"),
    }
    for name, (make, kind) in kinds.items():
        make(tmp_path / name)
        source = open_source(tmp_path / name, None)
        assert source.modality.text.split("(")[0] == kind, name
        if kind == "image":  # and where it is asked for
            scene = open_source(tmp_path / name, "bands")
            assert scene.modality.decode(scene.raw(0)).content.dtype == torch.float32


def test_many_scenes_are_told_by_the_first_of_their_ending(tmp_path, monkeypatch):
    monkeypatch.setattr("unmask.data.kinds.OPENED", 3)
    for number in range(6):
        write(tmp_path / f"{number}.tif")
    source = open_source(tmp_path, None)
    assert (source.modality.word, len(source.items)) == ("scene", 6)


def test_maps_of_labels_beside_scenes_are_left_out_and_said(tmp_path):
    write(tmp_path / "a_input.tif")
    write(tmp_path / "a_label.tif", BANDS[:1])
    source = open_source(tmp_path, None)
    assert [item.name for item in source.items] == ["a_input.tif"]
    assert "a_label.tif" in source.remarks[0]


def test_a_large_scene_is_read_by_windows_that_cover_it(tmp_path):
    write(tmp_path / "calm" / "a.tif", tiled=True, blockxsize=16, blockysize=16)
    write(tmp_path / "loud" / "b.tif", BANDS[:, :20, :20])
    source = open_source(tmp_path, "bands(window=32)")
    assert [item.label for item in source.items] == ["calm"] * 4 + ["loud"]
    source = open_source(tmp_path / "calm", "bands(window=32)")
    assert [item.name for item in source.items] == [f"a.tif@{top}+{left}" for top in (0, 8) for left in (0, 28)]
    whole = torch.zeros(5, 40, 60)
    for number in range(4):
        raw = pickle.loads(pickle.dumps(source)).raw(number)
        assert isinstance(raw, Piece)
        top, left, height, width = raw.place
        whole[:, top : top + height, left : left + width] = source.modality.decode(raw).content
    assert torch.equal(whole, torch.from_numpy(BANDS.astype(np.float32)))
    sheet, cache = inspect(source, max_side=None, keep_bytes=2**30)
    assert (sheet.count, sheet.num_duplicates, cache) == (4, 0, {})  # windows of files are not kept in memory
    assert (
        inspect(open_source(tmp_path / "calm", "bands(window=32)"), max_side=None)[0].fingerprint == sheet.fingerprint
    )
    together = open_source([tmp_path / "calm", tmp_path / "calm"], "bands(window=32, names=('band 1',))")
    assert len(Samples(together, range(8), channels=5)) == 8
    assert isinstance(together.raw(5), Piece)


@pytest.mark.parametrize("garbage", [0, 65535])
def test_what_lies_where_there_is_no_data_changes_no_statistics_and_no_loss(tmp_path, garbage):
    """Against NaN in the same places; the value is declared in the file or given."""
    holes = np.zeros((40, 60), bool)
    holes[:13, 5:30] = True
    real = BANDS.astype(np.float32)
    real[:, holes] = np.nan
    array = BANDS.copy()
    array[:, holes] = garbage
    write(tmp_path / "nan" / "a.tif", real)
    write(tmp_path / "declared" / "a.tif", array, nodata=garbage)
    write(tmp_path / "given" / "a.tif", array)
    sheets, losses = [], []
    for name, text in (("nan", "bands"), ("declared", "bands"), ("given", f"bands(nodata={garbage})")):
        source = open_source(tmp_path / name, text)
        sheets.append(inspect(source, max_side=None)[0])
        view = source.modality.window("random", (32, 32), 0.9, False, "exact")
        x = view(source.modality.decode(source.raw(0)).content, torch.Generator().manual_seed(0))
        losses.append(_loss(x[None]))
    valid = BANDS[:, ~holes].astype(np.float64)
    for sheet, loss in zip(sheets, losses):
        np.testing.assert_allclose(sheet.mean["5"], valid.mean(axis=1))
        np.testing.assert_allclose(sheet.std["5"], valid.std(axis=1))
        assert sheet.value_range == (valid.min(), valid.max())
        assert "without data in part" in sheet.notes
        assert torch.equal(loss, losses[0])
    assert losses[0].isfinite()


def _loss(x):
    from unmask.models.encoder import create_encoder
    from unmask.registry import build

    torch.manual_seed(0)
    options = {"channels": 5, "gaps": True, "mean": (5000.0,) * 5, "std": (2000.0,) * 5}
    text = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
    encoder = create_encoder(text, image_size=(32, 32), patch_size=8, **options)
    method = build("method", "mae", encoder=encoder, decoder="full(dim=16, depth=1, heads=2)").eval()
    return method({"views": [x]})["loss"].detach()


def test_errors_where_there_is_no_value_count_for_nothing():
    """Nor do those of single pixels of a patch: the loss is that of the values that there are."""
    x = torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2000 + 5000
    x[:, :, :12] = torch.nan  # a patch and a half

    before = _loss(x)
    y = x.clone()
    y[0, :, 12:16, :4] = torch.nan  # more of it: fewer values, and a loss of the same size
    assert before.isfinite()
    assert abs(float(_loss(y)) - float(before)) < 0.2 * float(before)


def test_a_window_mixes_nothing_into_the_edge_of_what_has_no_data(tmp_path):
    array = np.full((1, 40, 60), 100, np.uint16)
    array[:, :, :30] = 9000
    path = write(tmp_path / "a.tif", array, nodata=9000)
    source = open_source(path, "bands")
    view = source.modality.whole((24, 24))(source.modality.decode(source.raw(0)).content)
    known = view[view.isfinite()]
    torch.testing.assert_close(known, torch.full_like(known, 100))
    assert 0.4 < len(known) / view.numel() < 0.6


def test_scenes_without_any_data_are_bad_and_windows_of_them_are_not(tmp_path):
    write(tmp_path / "a.tif", nodata=0)
    write(tmp_path / "b.tif", np.zeros_like(BANDS), nodata=0)
    sheet = inspect(open_source(tmp_path, "bands"), max_side=None)[0]
    assert [(name, why) for _, name, why in sheet.bad] == [("b.tif", "no pixel has data")]
    half = BANDS.copy()
    half[:, :, :30] = 0
    write(tmp_path / "b.tif", half, nodata=0)
    sheet = inspect(open_source(tmp_path / "b.tif", "bands(window=20)"), max_side=None)[0]
    assert (sheet.num_good, sheet.notes["without data"]) == (6, 2)


def test_names_of_bands_are_told_by_the_files_and_say_what_is_drawn(tmp_path):
    names = ("blue", "green", "red", "red edge", "nir")
    write(tmp_path / "a.tif", names=names)
    modality = open_source(tmp_path, None).modality
    assert modality.legend(5) == "drawn as red, green and blue: red, green, blue"
    x = torch.arange(5.0)[:, None, None].expand(-1, 2, 2)
    assert modality.flat(x)[:, 0, 0].tolist() == [2, 1, 0]
    assert list(modality.colours(5)) == ["blue", "green", "red", "band 4", "band 5"]
    assert make_modality("bands").legend(5) == "drawn as red, green and blue: band 1, band 2, band 3"
    assert make_modality("bands").legend(1) == "drawn: band 1"
    assert make_modality("bands").colours(5) is None
    assert [colour_of(name) for name in ("B04", "490 nm", "0.56 um", "Red Edge 1", "swir", "R")] == [
        "red", "blue", "green", None, None, "red"
    ]  # fmt: skip
    assert composite(("B02", "B03", "B04", "B8A"), 4) == (2, 1, 0)
    assert composite(("x", "y"), 2) == (0,)


def test_metres_follow_the_crop_and_times_come_from_tags_or_names(tmp_path):
    write(tmp_path / "a.tif", tags={"acquisition_date": "2021-06-07T10:30:00"})
    write(tmp_path / "S2A_20230517T103021_b.tif")
    write(tmp_path / "c.tif", place={})
    source = open_source(tmp_path, "bands(scale=True, time=True)")
    modality = source.modality
    assert modality.text == "bands(window=1024, scale=20.0, time=True, names=('band 1',))"
    assert modality.network(5) == {"planes": 4, "scale": 20.0}
    told = {item.name: modality.decode(source.raw(i)).content for i, item in enumerate(source.items)}
    sheet = inspect(source, max_side=None)[0]
    assert (sheet.channels, sheet.num_good) == (5, 3)
    assert told["a.tif"][5:, 0, 0].tolist() == [20, 2021, 6, 10.5]
    assert told["S2A_20230517T103021_b.tif"][6:, 0, 0].tolist() == pytest.approx([2023, 5, 10.5])
    assert told["c.tif"][5:].isnan().all()
    view = modality.whole((20, 30))(told["a.tif"])
    assert view.shape == (9, 20, 30)
    assert view[5:, 3, 3].tolist() == [40, 2021, 6, 10.5]
    assert modality.flat(view).shape == (3, 20, 30)
    with pytest.raises(UserError, match="metres=10"):
        open_source(tmp_path / "c.tif", "bands(scale=True)")
    assert time_in_name("scene_2023-13-40.tif") is None
    assert time_in_name("HLS.S30.T14RNV.2020.tif") is None
    assert time_in_name("LC08_20200102_T1.tif") == datetime(2020, 1, 2)


def test_groups_have_each_band_once(tmp_path):
    groups = make_modality("bands(groups=((0, 1, 2), ('nir', 3)), names=('b', 'g', 'r', 'x', 'nir'))").groups_of(5)
    assert groups == ((0, 1, 2), (4, 3))
    assert make_modality("bands(groups='each')").groups_of(3) == ((0,), (1,), (2,))
    for text in ("((0, 1), (1, 2))", "((0, 1),)", "(0, 1)", "((0, 1, 9), (2,))", "'all'", "(('red',), (1, 2))"):
        with pytest.raises(UserError, match="group"):
            make_modality(f"bands(groups={text})").groups_of(3)


@pytest.mark.slow
def test_an_epoch_over_the_windows_of_a_large_scene_takes_little_memory(tmp_path):
    """Of 400 MB of values, in a process of its own: a small part more than without."""
    code = """
import resource, sys
from unmask.data.datasets.images import Samples
from unmask.data.sheet import inspect
from unmask.data.source import open_source
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small, large = (open_source(path, "bands(window=512)") for path in sys.argv[1:])
def epoch(source):
    inspect(source, max_side=None, keep_bytes=2**30, threads=2)
    samples = Samples(source, range(len(source.items)), channels=10)
    view = source.modality.whole((64, 64))
    for i in range(len(samples)):
        view(samples.image(i))
    return peak()
before = epoch(small)
print(len(large.items), round(epoch(large) - before))
"""
    sides = (512, 3200)
    for side in sides:
        form = {"driver": "GTiff", "count": 10, "height": side, "width": side, "dtype": "uint16", "nodata": 0}
        form |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd"}
        with rasterio.open(tmp_path / f"{side}.tif", "w", **form, **PLACE) as file:
            rows, columns = np.ogrid[:side, :side]
            for band in range(10):
                file.write(((rows // 7 + columns // 3 + band) % 4000 + 1).astype(np.uint16), band + 1)
    paths = [str(tmp_path / f"{side}.tif") for side in sides]
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    count, more = map(int, result.stdout.split())
    assert count == 49
    assert more < 300  # MB: the whole is 410 as floats, 205 as it is stored, and GDAL keeps up to 256
