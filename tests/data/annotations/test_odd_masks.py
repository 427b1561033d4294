"""Labels and images as they come from other programs: entries that make no sense, odd files, links, two splits."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from support.boxmaking import draw, write_coco, write_yaml, write_yolo
from support.segmenting import scene, write_pairs

from unmask.data.annotations.geometry import drawn, look_at, shown_size
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.mask_files import read_truth
from unmask.data.annotations.objects import Instance
from unmask.data.annotations.objects import Scene as Annotation
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage
from unmask.data.datasets.detection import Boxed
from unmask.data.datasets.segmentation import Segmented
from unmask.tasks.detection.detections import Detections

BROKEN = {  # what is done to a COCO table -> what is said of it
    "'category_id'": lambda t: t["annotations"][0].pop("category_id"),
    "NoneType": lambda t: t["annotations"].insert(0, None),
    "KeyError('id')": lambda t: t["images"].append({"file_name": "z.png"}),
    "KeyError('file_name')": lambda t: t["images"].append({"id": 99}),
    "without id or name": lambda t: t["categories"].append({"id": 9}),
    "could not convert": lambda t: t["annotations"][0].update(segmentation=[["a"] * 6]),
    "run lengths are None": lambda t: t["annotations"][0].update(segmentation={"size": [64, 64], "counts": None}),
    "malformed": lambda t: t["annotations"][0].update(bbox=None, segmentation={"size": [64, 64], "counts": "????####"}),
}


def opened(kind, place):
    said = []
    return kind([str(place)], max_side=64, max_bad=0.9, say=said.append), "\n".join(map(str, said))


@pytest.mark.parametrize("kind", [Segmented, Boxed])
@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_entry_of_coco_is_named_and_the_rest_is_learnt(kind, words, tmp_path):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 6), masks=True)
    table = json.loads(path.read_text())
    BROKEN[words](table)
    for image in table["images"]:
        if "file_name" in image:
            image["file_name"] = "images\\" + image["file_name"]  # as Windows writes it
    path.write_text(json.dumps(table))
    data, said = opened(kind, tmp_path)
    assert words in said
    assert sum(map(len, data.splits.values())) >= 5


@pytest.mark.parametrize("line", ["nan 0 0 1 1 1 0", "0 nan 0 1 1 1 0", "0.5 0 0 1 1 1 0"])
def test_yolo_lines_that_are_no_numbers_leave_their_image_out_of_segmentation(line, tmp_path):
    for split in ("train", "val"):
        write_yolo(tmp_path, split, draw(tmp_path / "images" / split, 3), masks=True)
    write_yaml(tmp_path, train=r"images\train", val="images/val", names="[box, disc]")
    (tmp_path / "labels" / "train" / "0.txt").write_text(line)
    data, said = opened(Segmented, tmp_path)
    assert "train/0.png: unreadable line: line 1" in said
    assert data.said == "2 train, 0 val, 3 test"
    write_yaml(tmp_path, train="images/train", val="images/train", names="[box, disc]")
    for kind in (Segmented, Boxed):
        assert "images are in the train split and in another" in opened(kind, tmp_path)[1]


def test_linked_folders_and_images_outside_the_splits(tmp_path):
    real = write_pairs(tmp_path / "real", 4, "train")
    write_pairs(real, 2, "val", first=4)
    write_pairs(real, 1, None, first=9)
    (tmp_path / "linked").mkdir()
    for name in ("images", "masks"):
        (tmp_path / "linked" / name).symlink_to(real / name)
        (real / name / "round").symlink_to(real / name)
    data, said = opened(Segmented, tmp_path / "linked")
    assert data.said == "4 train, 0 val, 2 test"
    assert "1 images are in no split and are not used" in said


def test_turned_tiffs_and_bands_have_the_size_that_they_are_seen_at(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(scene(0)[0]).save(path, tiffinfo={274: 6})
    assert shown_size(str(path)) == decode(path.read_bytes()).size == (48, 40)
    assert look_at(str(path)) == ((40, 48), 6)
    tifffile.imwrite(path, np.zeros((40, 48, 5), np.uint16), photometric="minisblack", planarconfig="contig")
    assert look_at(str(path)) == ((40, 48), 1)


@pytest.mark.parametrize("number", [-2, 2**30])
def test_numbers_in_masks_that_can_be_no_class_are_refused(number, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), number, np.int32))
    with pytest.raises(BadImage, match=f"holds the number {number}"):
        read_truth((tmp_path / "a.tif").read_bytes(), Legend())


def test_masks_of_many_objects_are_made_one_by_one():
    boxes = np.array([[0, 0, 4, 4], [2, 2, 8, 6]], np.float32)
    shapes = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0)).numpy()
    found = Detections("a", (8, 9), boxes, np.zeros(2, np.int64), np.ones(2, np.float32), ["x"], shapes)
    assert found.masks.shape == (2, 8, 9)
    assert np.array_equal(found.mask(1), found.masks[1])
    assert found.above(2).masks.shape == (0, 8, 9)


def test_outlines_in_shares_are_drawn_at_the_image_s_size():
    told = Annotation(
        "a", "a", None, [Instance("x", (0, 0, 1, 1), ((0, 0, 0.5, 0, 0.5, 1, 0, 1),))], "a", relative=True
    )
    assert drawn(told.instances, (4, 8), (1, 1))[0].sum() == 16
