"""Pixels of a mask that belong to no class: no data, 255, blended edges."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.annotating import opened, save
from support.segmenting import scene, write_pairs

from unmask.data.datasets.segmentation import Segmented
from unmask.errors import DataError


def write_tiffs(root, change, dtype, **options):
    for seed in range(6):
        image, truth = scene(seed)
        save(image, root / "images" / f"{seed}.png")
        (root / "masks").mkdir(exist_ok=True)
        values = truth.astype(dtype)
        values[:4] = change
        tifffile.imwrite(root / "masks" / f"{seed}.tif", values, **options)


NODATA = {"extratags": [(42113, 2, 0, "-9999", True)]}


@pytest.mark.parametrize(
    ("value", "dtype", "options", "void", "words"),
    [
        (-1, np.int16, {}, (), "6 masks: -1 counts as void"),
        (-1, np.int8, {}, (), "-1 counts as void"),
        (np.nan, np.float32, {}, (), "6 masks: NaN counts as void"),
        (-9999, np.float32, NODATA, (), "6 masks: -9999 is declared as no data, and counts as void"),
        (-9999, np.int16, NODATA, (), "-9999 is declared as no data"),
        (-9999, np.int32, {}, ("-9999",), ""),
        (2**32 - 1, np.uint32, {}, (str(2**32 - 1),), ""),
        (250, np.uint8, {"extratags": [(42113, 2, 0, "250", True)]}, (), "250 is declared as no data"),
    ],
)
def test_no_data_in_masks_is_void(value, dtype, options, void, words, tmp_path):
    write_tiffs(tmp_path, value, dtype, **options)
    data, said = opened(Segmented, tmp_path, void=void)
    assert (data.numbers, words in said) == ([0, 1, 2], True)
    expected = scene(0)[1].copy()
    expected[:4] = 255
    assert np.array_equal(data.map(0), expected)


@pytest.mark.parametrize(("value", "dtype", "words"), [(-9999, np.int32, "--void=-9999"), (0.5, np.float32, "whole")])
def test_numbers_that_can_be_no_class_are_refused_with_what_to_do(value, dtype, words, tmp_path):
    write_tiffs(tmp_path, value, dtype)
    with pytest.raises(DataError, match=words):
        opened(Segmented, tmp_path)


def test_255_as_void_is_said_with_its_share(tmp_path):
    write_pairs(tmp_path, 5)
    for seed in range(5):
        save(np.array([255, 128, 0], np.uint8)[scene(seed)[1]], tmp_path / "masks" / f"{seed:03d}.png")
    data, said = opened(Segmented, tmp_path)
    share = np.mean([scene(seed)[1] == 0 for seed in range(5)])
    assert data.numbers == [0, 128]
    assert f"255 is void, neither learnt nor judged: {share:.1%} of the pixels" in said
    assert opened(Segmented, tmp_path, void=("none",))[0].numbers == [0, 128, 255]


def test_blended_edges_are_no_classes(tmp_path):
    write_pairs(tmp_path, 5)
    for seed in range(5):
        mask = Image.fromarray((scene(seed)[1] > 0).astype(np.uint8) * 255)
        mask.resize((24, 20), Image.Resampling.BILINEAR).resize((48, 40), Image.Resampling.BILINEAR).save(
            tmp_path / "masks" / f"{seed:03d}.png"
        )
    data, said = opened(Segmented, tmp_path)
    assert (data.classes, data.numbers) == (["background", "object"], [0, 255])
    assert "blended edges" in said
    assert (data.map(0) == (scene(0)[1] > 0)).mean() > 0.97
    for seed in range(5):
        mask = Image.fromarray(np.array([0, 120, 250], np.uint8)[scene(seed)[1]])
        mask.resize((96, 80), Image.Resampling.BILINEAR).resize((48, 40), Image.Resampling.BILINEAR).save(
            tmp_path / "masks" / f"{seed:03d}.png"
        )
    with pytest.raises(DataError, match="blended"):
        opened(Segmented, tmp_path)
