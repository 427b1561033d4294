"""Boxes and masks from COCO, VOC and YOLO: the same targets from all three; every fault counted, named, survived."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxmaking import CLASSES, draw, polygon, write_coco, write_voc, write_xml, write_yaml, write_yolo

from unmask.data.annotations.formats.coco import Coco
from unmask.data.annotations.geometry import run_lengths
from unmask.data.datasets.detection import Boxed
from unmask.errors import DataError, UserError


def open_boxed(*places, **options):
    said = []
    boxed = Boxed([str(place) for place in places], max_side=2048, say=said.append, **options)
    return boxed, "\n".join(said)


def coco(root, scenes, **options):
    draw(root / "images", len(scenes))
    for split in ("train", "val"):
        write_coco(root, split, scenes, **options)
    return root


def voc(root, scenes):
    draw(root / "BCCD" / "JPEGImages", len(scenes))  # one folder deep, as people pack it
    for split, part in (("train", scenes[:3]), ("val", scenes[3:])):
        write_voc(root / "BCCD", split, part)
    return root


def yolo(root, scenes, names="[box, disc]", **options):
    for split in ("train", "val"):
        draw(root / "images" / split, len(scenes))
        write_yolo(root, split, scenes, **options)
    write_yaml(root, path=".", train="images/train", val="images/val", names=names)
    return root


def targets(boxed, split):
    boxes = boxed.samples(split, 3)
    found = {}
    for i, name in enumerate(boxes.names):
        target = boxes.target(i)
        rows = sorted((boxed.classes[label], *box) for label, box in zip(target.labels, target.boxes.tolist()))
        found[name.split("/")[-1]] = rows
    return found


def test_the_same_annotations_in_three_forms_give_the_same_targets(tmp_path):
    scenes = draw(tmp_path / "images")
    names = {0: "box", 1: "disc"}
    one, two, three = coco(tmp_path / "c", scenes), voc(tmp_path / "v", scenes), yolo(tmp_path / "y", scenes, names)
    truth = {s["file"]: sorted((name, *map(float, box)) for name, box in s["objects"]) for s in scenes}
    for root in (one, three):
        found = targets(open_boxed(root)[0], "train")
        assert found.keys() == truth.keys()
        for name, rows in found.items():
            assert [row[0] for row in rows] == [row[0] for row in truth[name]]
            np.testing.assert_allclose([r[1:] for r in rows], [r[1:] for r in truth[name]], atol=1e-4)
    boxed, said = open_boxed(two)
    assert targets(boxed, "train") | targets(boxed, "test") == truth
    assert "count from 1" in said
    assert open_boxed(one)[0].ids == [3, 7]


def test_a_folder_with_two_forms_is_refused_with_the_option_that_decides(tmp_path):
    scenes = draw(tmp_path / "images")
    root = yolo(tmp_path / "both", scenes)
    write_coco(root, "train", scenes)
    with pytest.raises(UserError, match=r"--format coco\|yolo"):
        open_boxed(root)
    assert open_boxed(root, form="yolo")[0].said == "5 train, 0 val, 5 test"
    with pytest.raises(UserError, match="did you mean 'coco'"):
        open_boxed(root, form="cocoo")
    with pytest.raises(UserError, match="does not exist, did you mean"):
        open_boxed(tmp_path / "bot")
    with pytest.raises(DataError, match="no annotations of boxes"):
        open_boxed(tmp_path / "images")


def test_coco_with_faults_is_counted_named_and_used(tmp_path):
    scenes = draw(tmp_path / "images")
    bad = [
        {"id": 90, "image_id": 11, "category_id": 3, "bbox": [200, 200, 9, 9]},  # outside
        {"id": 91, "image_id": 11, "category_id": 3, "bbox": [5, 5, 0, 9]},  # zero area
        {"id": 92, "image_id": 11, "category_id": 99, "bbox": [5, 5, 9, 9]},  # unknown class
        {"id": 93, "image_id": 77, "category_id": 3, "bbox": [5, 5, 9, 9]},  # unknown image
        {"id": 94, "image_id": 11, "category_id": 3, "bbox": [5, "x", 9, 9]},
        {"id": 95, "image_id": 11, "category_id": 3, "bbox": [50, 50, 60, 60]},  # reaches over the edge
        {"id": 96, "image_id": 11, "category_id": 3, "bbox": [5, 5, float("nan"), 9]},
        {"id": 97, "image_id": 12, "category_id": 3, "bbox": [5, 5, 8, 9]},
        {"id": 98, "image_id": 12, "category_id": 3, "bbox": [5, 5, 8, 9]},  # once more
        {"id": 99, "image_id": 12, "category_id": 3, "bbox": [9, 9, 8, 9], "segmentation": [[1, 2, 3, 4]]},
        "no entry at all",
    ]
    images = [{"id": 50, "file_name": "gone.png", "height": 64, "width": 64}, {"id": 11, "file_name": "0.png"}, {}]
    images += [{"id": 51, "file_name": "odd.png", "height": 480, "width": 640}, {"id": 52, "file_name": "3.png"}]
    root = coco(tmp_path / "c", scenes, more={"annotations": bad, "images": images})
    Image.new("RGB", (64, 64)).save(root / "images" / "odd.png")
    (root / "images" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match=r"images cannot be used, more than 5%(.|\n)*--max-bad(.|\n)*gone.png"):
        open_boxed(root, max_bad=0.05)
    with pytest.raises(DataError, match=r"10 of 18 annotated images cannot be used, more than 25%"):
        open_boxed(root)
    boxed, said = open_boxed(root, max_bad=0.9)
    counts = boxed.sheet.fault_counts
    both = {"outside the image": 2, "zero area": 2, "unknown class": 2, "unknown image": 2, "missing image": 2}
    both |= {"reaches over the edge": 2, "duplicate box": 2, "duplicate image": 4, "wrong size": 2}
    assert counts == both | {"unreadable entry": 8, "unreadable image": 2, "unreadable outline": 2}
    assert "gone.png" in said
    assert "annotation 92: category 99" in said
    assert "640 x 480 stated, the image is 64 x 64" in said
    assert {fault["kind"] for fault in boxed.sheet.faults} == set(counts)
    assert boxed.said == "4 train, 0 val, 4 test"
    rows = targets(boxed, "train")
    assert rows["0.png"][-1] == ("disc", 50.0, 50.0, 64.0, 64.0)  # cut at the edge
    assert len(rows["1.png"]) == 4
    (root / "annotations" / "instances_val2017.json").write_text("{'no': json")
    assert open_boxed(root, max_bad=0.9)[0].sheet.fault_counts["unreadable file"] == 1
    (root / "annotations" / "instances_train2017.json").write_text("[]")
    with pytest.raises(DataError, match=r"train split cannot be read.*instances_train2017"):
        open_boxed(root)


def test_coco_numbers_may_be_text_and_an_image_with_a_list_as_id_is_a_fault(tmp_path):
    path = write_coco(tmp_path, "train", draw(tmp_path / "images", 2))
    table = json.loads(path.read_text())
    table["categories"] = [{**c, "id": str(c["id"])} for c in table["categories"]]
    path.write_text(json.dumps({**table, "images": [*table["images"], {"id": [5], "file_name": "odd.png"}]}))
    found = Coco.read(str(tmp_path), [str(path)], str(tmp_path / "images"))
    assert [fault.kind for fault in found.faults] == ["unreadable entry"] * all(s.instances for s in found.scenes)


def test_voc_with_faults_is_counted_named_and_used(tmp_path):
    scenes = draw(tmp_path / "images")
    root = voc(tmp_path / "v", scenes)
    folder = root / "BCCD" / "Annotations"
    (folder / "1.xml").write_text("<annotation><object>")
    extra = [("disc", (70, 70, 90, 90)), ("box", (5, 5, 5, 9)), ("box", (60, 60, 80, 80)), scenes[0]["objects"][0]]
    write_xml(folder, scenes[0] | {"objects": scenes[0]["objects"] + extra})
    text = (folder / "0.xml").read_text()
    broken = "<object><name>box</name><bndbox><xmin>a</xmin></bndbox></object><object></object></annotation>"
    (folder / "0.xml").write_text(text.replace("</annotation>", broken))
    with open(root / "BCCD" / "ImageSets" / "Main" / "train.txt", "a") as file:
        file.write("nowhere\n")
    (root / "BCCD" / "JPEGImages" / "2.png").unlink()
    boxed, said = open_boxed(root, max_bad=0.9)
    one = {"unreadable file": 1, "outside the image": 1, "zero area": 1, "reaches over the edge": 1}
    one |= {"duplicate box": 1, "unreadable entry": 2, "missing annotation": 1, "missing image": 1}
    assert boxed.sheet.fault_counts == one
    for name in ("1.xml", "0.xml", "nowhere.xml", "2.png"):
        assert name in said
    assert targets(boxed, "train")["0.png"][1] == ("box", 60.0, 60.0, 64.0, 64.0)


def test_yolo_with_faults_is_counted_named_and_used(tmp_path):
    scenes = draw(tmp_path / "images")
    root = yolo(tmp_path / "y", scenes)
    label = root / "labels" / "train" / "0.txt"
    good = label.read_text()
    lines = ["5 .5 .5 .1 .1", "0 .5 .5 0 .1", "0 2.5 2.5 .1 .1", "0 .5 .5 .1", "0 a b c d", "0.5 .5 .5 .1 .1"]
    lines += ["1 nan .5 .1 .1", "1 .95 .95 .2 .2", good.splitlines()[0]]
    label.write_text(good + "\n".join(lines))
    (root / "labels" / "train" / "1.txt").unlink()
    (root / "labels" / "train" / "2.txt").write_text("")
    (root / "labels" / "train" / "3.txt").write_bytes(b"\xff\xfe\x00\x01")
    boxed, said = open_boxed(root, max_bad=0.9)
    one = {"unknown class": 1, "zero area": 1, "outside the image": 1, "unreadable line": 4, "duplicate box": 1}
    assert boxed.sheet.fault_counts == one | {"reaches over the edge": 1, "unreadable file": 1, "no label file": 1}
    assert "line 3: class 5" in said
    assert "1.png (counts as empty)" in said
    assert boxed.said == "4 train, 0 val, 5 test"
    assert boxed.sheet.empty_images == 2
    (root / "list.txt").write_text("images/train/0.png\n./images/train/4.png\nimages/train/9.png\n")
    write_yaml(root, train="list.txt", val="images/val", names="{0: box, 1: disc}")
    boxed, said = open_boxed(root, max_bad=0.9)
    assert boxed.said.startswith("2 train")
    assert "images/train/9.png" in said
    write_yaml(root, train="nowhere", names="[box, disc]")
    with pytest.raises(DataError, match="leads to no images"):
        open_boxed(root)


def test_masks_are_the_same_from_polygons_and_run_lengths(tmp_path):
    scenes = draw(tmp_path / "images")
    boxed, _ = open_boxed(coco(tmp_path / "c", scenes, masks=True))
    masks = boxed.samples("train", 3).target(0).masks
    root = coco(tmp_path / "r", scenes)
    for path in (root / "annotations").iterdir():
        table = json.loads(path.read_text())
        for entry, mask in zip(table["annotations"], masks):
            left, top, width, height = entry["bbox"]
            drawn = np.zeros((64, 64), np.uint8)
            drawn[top : top + height, left : left + width] = 1
            entry["segmentation"] = run_lengths(drawn)
            if entry["image_id"] == 11:
                np.testing.assert_array_equal(mask, drawn)
        for entry in table["annotations"][len(masks) :]:
            entry["segmentation"] = [polygon((1, 1, 9, 9))]
        path.write_text(json.dumps(table))
    again, _ = open_boxed(root)
    assert again.masks
    np.testing.assert_array_equal(again.samples("train", 3).target(0).masks, masks)
    seg, _ = open_boxed(yolo(tmp_path / "y", scenes, masks=True))
    np.testing.assert_array_equal(seg.samples("train", 3).target(0).masks, masks)
    with pytest.raises(UserError, match="--masks on, but"):
        open_boxed(coco(tmp_path / "n", scenes), masks="on")


@pytest.mark.parametrize("orientation", [2, 3, 6, 7, 8])
def test_boxes_of_a_image_turned_by_exif_fit_the_size_that_is_stated(tmp_path, orientation):
    pixels = np.full((40, 60, 3), 90, np.uint8)
    pixels[5:15, 20:50] = 255  # 20 5 50 15 as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png", exif=exif)
    scene = {"file": "a.png", "size": (40, 60), "objects": [("box", (20, 5, 50, 15))]}
    if orientation < 5:  # the size does not tell, so boxes are of the image as it is shown
        scene["objects"] = [("box", (10, 5, 40, 15) if orientation == 2 else (10, 25, 40, 35))]
    shutil.copy(tmp_path / "images" / "a.png", tmp_path / "images" / "b.png")
    write_coco(tmp_path, "train", [scene, scene | {"file": "b.png"}])
    write_coco(tmp_path, "val", [scene])
    boxed, said = open_boxed(tmp_path)
    shown = boxed.samples("train", 3).image(0)
    rows, columns = torch.where(shown.image[0] > 200)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert shown.target.boxes[0].tolist() == [float(v) for v in box]
    assert "turned by EXIF" in said


def test_boxes_of_yolo_are_of_turned_images_as_shown_and_that_is_said(tmp_path):
    scenes, exif = draw(tmp_path / "images" / "train", 4), Image.Exif()
    exif[0x0112] = 6
    for scene in scenes:
        path = tmp_path / "images" / "train" / scene["file"]
        Image.open(path).save(path, exif=exif)
    write_yolo(tmp_path, "train", scenes)
    write_yaml(tmp_path, train="images/train", names="[box, disc]")
    assert "turned by EXIF: 4" in open_boxed(tmp_path)[1]


def test_files_can_be_named_and_images_lie_beside_them_or_elsewhere(tmp_path):
    scenes = draw(tmp_path / "images")
    root = coco(tmp_path / "c", scenes)
    files = sorted((root / "annotations").iterdir())
    assert open_boxed(*files)[0].said == open_boxed(root / "annotations")[0].said == "5 train, 0 val, 5 test"
    assert open_boxed(files[0])[0].said == "4 train, 0 val, 1 test"  # one file: a quarter is held out
    (root / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="missing image, 0"):
        open_boxed(root)
    assert open_boxed(root, images=str(tmp_path / "elsewhere"))[0].said == "5 train, 0 val, 5 test"
    shutil.copy(files[0], root / "annotations" / "instances_train_again.json")
    with pytest.raises(UserError, match=r"annotate the train split: name the files to use with --on"):
        open_boxed(root, images=str(tmp_path / "elsewhere"))
    for split in ("train", "valid"):  # each split a folder with its own file
        draw(tmp_path / "r" / split)
        shutil.copy(files[0], tmp_path / "r" / split / "_annotations.coco.json")
    assert open_boxed(tmp_path / "r")[0].said == "5 train, 0 val, 5 test"
    for split in ("train", "valid"):
        draw(tmp_path / "x" / split)
        for scene in scenes:
            write_xml(tmp_path / "x" / split, scene)
    assert open_boxed(tmp_path / "x")[0].said == "5 train, 0 val, 5 test"


def test_classes_are_named_in_the_order_of_the_data(tmp_path):
    scenes = draw(tmp_path / "images")
    boxed, _ = open_boxed(yolo(tmp_path / "y", scenes, names="{0: box, 1: disc, 5: never}"))
    assert boxed.classes == [*CLASSES, "never"]
    assert boxed.ids == [0, 1, 5]
    assert any("no box to learn from: never" in line for line in boxed.check())
