"""Masks as people save them by other programs: what cannot be understood without guessing is named, not guessed."""

import json

import numpy as np
import pytest
from PIL import Image
from support.segmenting import NAMES, scene, write_pairs

from unmask.data.datasets.segmentation import Segmented
from unmask.errors import DataError

COLOURS = {0: (10, 20, 30), 1: (200, 0, 0), 2: (0, 0, 200)}


def opened(place, **options):
    said = []
    data = Segmented([str(place)], max_side=256, say=said.append, **options)
    return data, "\n".join(map(str, said))


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_jpeg_masks_of_class_numbers_are_no_black_ones(tmp_path):
    write_pairs(tmp_path, 5)
    save((scene(2)[1] * 5 + 5).astype(np.uint8), tmp_path / "masks" / "002.jpg")
    (tmp_path / "masks" / "002.png").unlink()
    assert "its mask is a JPEG file, which does not keep class numbers" in opened(tmp_path)[1]


def test_a_palette_in_other_colours_of_the_legend_is_no_guess(tmp_path):
    write_pairs(tmp_path, 5)
    (tmp_path / "classes.json").write_text(json.dumps({n: {"id": i, "color": COLOURS[i]} for i, n in enumerate(NAMES)}))
    image = Image.fromarray(scene(2)[1], mode="P")
    image.putpalette([v for i in (1, 2, 0) for v in COLOURS[i]])
    image.save(tmp_path / "masks" / "002.png")
    assert f"its palette shows number 0 in the colour of {NAMES[1]}" in opened(tmp_path)[1]


def test_masks_and_images_in_folders_of_any_name(tmp_path):
    for seed in range(5):
        save(scene(seed)[0], tmp_path / "raw" / f"{seed:03d}_leftImg8bit.png")
        save(scene(seed)[1], tmp_path / "approved" / f"{seed:03d}_gtFine_labelIds.png")
    assert opened(tmp_path / "approved", images=tmp_path / "raw")[0].said == "4 train, 0 val, 1 test"
    save(scene(0)[1], tmp_path / "approved" / "000_gtFine_labelTrainIds.png")
    with pytest.raises(DataError, match="masks of one image"):
        opened(tmp_path / "approved", images=tmp_path / "raw")
