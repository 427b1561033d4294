"""Outlines of objects in all forms that programs write, keypoints that are none, and crowds."""

import json

import numpy as np
import pytest
from PIL import Image
from support.annotating import change, opened, save
from support.boxmaking import draw, write_coco, write_yaml, write_yolo

from unmask.data.datasets.detection import Boxed
from unmask.data.datasets.segmentation import Segmented
from unmask.errors import DataError


@pytest.mark.parametrize("size", [2, 3])
def test_keypoints_of_yolo_are_no_outline(size, tmp_path):
    scenes = draw(tmp_path / "images" / "train", 8)
    write_yolo(tmp_path, "train", scenes)
    for label in (tmp_path / "labels" / "train").iterdir():
        rows = [line.split() for line in label.read_text().splitlines()]
        points = [[*row[1:3], *(["2"] if size == 3 else [])] * 2 for row in rows]
        label.write_text("\n".join(" ".join([*row, *more]) for row, more in zip(rows, points)))
    write_yaml(tmp_path, train="images/train", names="[box, disc]", kpt_shape=f"[2, {size}]")
    data, said = opened(Boxed, tmp_path)
    assert "keypoints" in said
    assert not data.masks
    truth = {s["file"]: sorted(map(list, (box for _, box in s["objects"]))) for s in scenes}
    for part in data.annotated.scenes:
        np.testing.assert_allclose(sorted(list(i.box) for i in part.instances), truth[part.name], atol=1e-3)
    write_yaml(tmp_path, train="images/train", names="[box, disc]")
    with pytest.raises(DataError, match="kpt_shape"):
        opened(Boxed, tmp_path)
    write_yaml(tmp_path, train="images/train", names="[box, disc]", kpt_shape="7")
    with pytest.raises(DataError, match="its kpt_shape is 7"):
        opened(Boxed, tmp_path)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_outlines_and_masks_of_an_image_as_stored_are_turned_with_it(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
    for seed in range(4):
        image = np.full((40, 60, 3), 60, np.uint8)
        image[5:15, 20:50] = 255
        save(image, tmp_path / "c" / "images" / f"{seed}.png", exif=exif)
        save((image[..., 0] > 100).astype(np.uint8), tmp_path / "m" / "masks" / f"{seed}.png")
        box = [20, 5, 50, 5, 50, 15, 20, 15] if orientation > 4 else [10, 25, 40, 25, 40, 35, 10, 35]
        content["images"].append({"id": seed, "file_name": f"{seed}.png", "height": 40, "width": 60})
        content["annotations"].append({"image_id": seed, "category_id": 1, "segmentation": [box]})
    (tmp_path / "c" / "annotations.json").write_text(json.dumps(content))
    places = [(tmp_path / "c", None)]
    if orientation > 4:
        places.append((tmp_path / "m" / "masks", tmp_path / "c" / "images"))
    for place, images in places:
        data, said = opened(Segmented, place, images=images, max_bad=0)
        pixels, truth = data.segments("train", 3).pair(0)
        assert np.array_equal(truth, (pixels[0] > 100).numpy())
        assert ("4 masks: turned along with the image" in said) == (orientation > 4)


OUTLINES = {
    "flat": lambda p: p,
    "pairs": lambda p: [[x, y] for x, y in zip(p[::2], p[1::2])],
    "pairs in a list": lambda p: [[[x, y] for x, y in zip(p[::2], p[1::2])]],
    "as usual": lambda p: [p],
}


@pytest.mark.parametrize("form", OUTLINES)
def test_one_polygon_that_is_in_no_list_is_a_polygon(form, tmp_path):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 4), masks=True)
    expected = [data.instances for data in opened(Boxed, tmp_path)[0].annotated.scenes]

    def flatten(table):
        for annotation in table["annotations"]:
            annotation["segmentation"] = OUTLINES[form](annotation["segmentation"][0])

    change(path, flatten)
    assert [data.instances for data in opened(Boxed, tmp_path)[0].annotated.scenes] == expected


@pytest.mark.parametrize("outline", ["nonsense", [["a"] * 6], {"counts": None}, 7, [3], [[1, 2, 3]]])
def test_a_box_counts_whatever_its_outline_is(outline, tmp_path):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 4), masks=True)
    change(path, lambda table: table["annotations"][0].update(segmentation=outline))
    data, _ = opened(Boxed, tmp_path, masks="off")
    assert sum(len(one.instances) for one in data.annotated.scenes) == 8
    assert data.sheet.fault_counts == {"unreadable outline": 1}


def test_a_file_of_crowds_says_so_and_can_be_learnt(tmp_path):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 6), masks=True)
    change(path, lambda table: [annotation.update(iscrowd=1) for annotation in table["annotations"]])
    data, _ = opened(Boxed, tmp_path)
    with pytest.raises(DataError, match=r"all 12 objects .* marked as crowds .*--crowds learn"):
        data.check()
    assert opened(Boxed, tmp_path, crowds="learn")[0].check() == []
    change(path, lambda table: table["annotations"][0].update(iscrowd=0))
    (line, *_) = opened(Boxed, tmp_path)[0].check()
    assert "11 objects are marked as crowds" in line
