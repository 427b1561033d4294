"""Folders of masks as other programs arrange them: one per class, others beside them, two forms at once."""

import numpy as np
import pytest
from support.annotating import opened, save
from support.boxmaking import draw, write_coco
from support.segmenting import scene, write_pairs

from unmask.data.datasets.segmentation import Segmented
from unmask.errors import UserError


@pytest.mark.parametrize("beside", ["instances16", "instance_masks", "preview"])
def test_folders_beside_those_of_images_and_masks_are_said_and_not_read(beside, tmp_path):
    write_pairs(tmp_path, 6)
    for seed in range(6):
        save(scene(seed)[1], tmp_path / beside / f"{seed:03d}.png")
    for places, images in (
        (tmp_path, None),
        (tmp_path, tmp_path / "images"),
        (tmp_path / "masks", tmp_path / "images"),
    ):
        data, said = opened(Segmented, places, images=images, max_bad=0)
        assert sum(map(len, data.splits.values())) == 6
        assert (f"{beside}/ is not read" in said) == (places == tmp_path)


@pytest.mark.parametrize("names", [("disc", "box"), ("1", "2"), ("0", "1")])
def test_masks_in_a_folder_for_each_class_are_put_together(names, tmp_path):
    for seed in range(5):
        image, truth = scene(seed)
        save(image, tmp_path / "images" / f"{seed}.png")
        for number, name in enumerate(names, 1):
            save((truth == number).astype(np.uint8) * 255, tmp_path / "masks" / name / f"{seed}.png")
    data, said = opened(Segmented, tmp_path)
    assert "a folder for each class" in said
    expected = scene(1)[1].astype(int)
    if names == ("0", "1"):
        assert data.numbers == [0, 1]
        assert np.array_equal(data.map(1), np.where(expected == 0, 255, expected - 1))
    else:
        assert data.classes == ["background", *sorted(names)]
        assert np.array_equal(np.array(data.classes)[data.map(1)], np.array(["background", *names])[expected])


def test_two_forms_of_maps_in_one_folder_are_no_guess(tmp_path):
    write_pairs(tmp_path, 4)
    scenes = draw(tmp_path / "images", 4)
    write_coco(tmp_path, "all", scenes, masks=True)
    with pytest.raises(UserError, match=r"outlines in a \.json and masks as images; give the one that is meant"):
        opened(Segmented, tmp_path)
