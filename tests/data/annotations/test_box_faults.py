"""Annotations that once ended in a traceback, in a wrong split or in silence, and what is said of them now."""

import json
import shutil

import numpy as np
import pytest
from support.boxmaking import draw, write_coco, write_voc, write_yaml, write_yolo

import unmask
from unmask import registry
from unmask.cli.options.transfer import Transfer
from unmask.cli.task_options import joined
from unmask.data.datasets.detection import Boxed
from unmask.errors import DataError, UserError
from unmask.tasks.detection.detector import ImageDetector
from unmask.tasks.detection.figures import as_detections, draw_examples


def open_boxed(root, **options):
    said = []
    return Boxed([str(root)], max_side=2048, say=said.append, **options), "\n".join(said)


def change(path, kind, make):
    table = json.loads(path.read_text())
    table[kind] = make(table[kind])
    path.write_text(json.dumps(table))


@pytest.fixture
def coco(tmp_path):
    """A folder with a train and a val file of the same five images; objects have masks."""
    scenes = draw(tmp_path / "images")
    return tmp_path, [write_coco(tmp_path, split, scenes, masks=True) for split in ("train", "val")]


def test_run_lengths_of_another_size_or_of_nonsense_are_named(coco):
    root, (train, _) = coco
    bad = ({"size": [10**6] * 2, "counts": [10**12]}, {"size": [64, 64], "counts": [-5, 4101]}, {"size": [64, 64]})
    bad += ({"size": [64, 64], "counts": "zz~~"},)
    change(train, "annotations", lambda all_: [a | {"segmentation": b} for a, b in zip(all_, bad)] + all_[len(bad) :])
    boxed, said = open_boxed(root)
    assert boxed.sheet.fault_counts == {"unreadable outline": 2, "unreadable mask": 2}
    assert "its mask is 1000000 x 1000000, the image 64 x 64" in said


def test_classes_are_told_by_name_where_numbers_clash(coco):
    root, (train, val) = coco
    change(train, "categories", lambda all_: [*all_, {"id": 7, "name": "again"}, {"id": 9, "name": " "}])
    change(val, "categories", lambda all_: [{"id": 3, "name": "box"}, {"id": 7, "name": "cone"}])
    boxed, said = open_boxed(root)
    assert dict(zip(boxed.classes, boxed.ids)) == {"disc": 3, "box": 7, "cone": 8}
    assert "passed over: {'id': 7, 'name': 'again'}" in said
    assert "classes have other numbers in other files, and go by their names: box (3, 7), cone (7, 8)" in said
    assert boxed.class_counts("train") == {"disc": 5, "box": 5, "cone": 0}
    assert boxed.class_counts("test") == {"disc": 0, "box": 5, "cone": 5}
    boxed.samples("test", 3).target(0)


def test_a_train_split_that_cannot_be_read_is_not_replaced_by_another(coco, tmp_path):
    root, (train, _) = coco
    train.write_text(train.read_text()[:200])
    with pytest.raises(DataError, match=r"train split cannot be read.*instances_train2017"):
        open_boxed(root)
    write_yolo(tmp_path / "yolo", "val", draw(tmp_path / "yolo" / "images" / "val"))
    write_yaml(tmp_path / "yolo", train="images/tran", val="images/val", names="[box, disc]")
    with pytest.raises(DataError, match=r"no training images.*images/tran"):
        open_boxed(tmp_path / "yolo")


def test_folders_that_roboflow_writes_one_too_high_are_found(tmp_path):
    for split in ("train", "valid"):
        scenes = draw(tmp_path / "data" / split / "images")
        write_yolo(tmp_path / "data", "val", scenes)
        shutil.move(tmp_path / "data" / "labels" / "val", tmp_path / "data" / split / "labels")
    write_yaml(tmp_path / "data", train="../train/images", val="../valid/images", names="[box, disc]")
    boxed, said = open_boxed(tmp_path / "data")
    assert boxed.class_counts("train") == {"box": 5, "disc": 5}
    assert "the train images are taken from" in said


def test_xml_that_is_no_voc_is_not_a_image_without_boxes(tmp_path):
    write_voc(tmp_path, "train", draw(tmp_path / "JPEGImages"))
    path = sorted((tmp_path / "Annotations").glob("*.xml"))[0]
    path.write_text("<html><body/></html>")
    assert "<html>, not <annotation>" in open_boxed(tmp_path)[1]


def test_crowds_may_be_told_as_text_and_empty_names_are_refused(coco):
    root, (train, _) = coco
    change(train, "annotations", lambda all_: [a | {"iscrowd": "0"} for a in all_])
    scenes = open_boxed(root)[0].annotated.scenes
    assert not any(one.crowd for scene in scenes for one in scene.instances)
    write_yaml(root, train="images/train", val="images/val", names="[box, null]")
    with pytest.raises(DataError, match="names is empty"):
        open_boxed(root, form="yolo")


def test_images_of_val_that_are_in_train_are_said(coco):
    root, (_, val) = coco
    shutil.copy(root / "images" / "0.png", root / "images" / "copy.png")
    change(val, "images", lambda all_: [all_[0] | {"file_name": "copy.png"}, *all_[1:]])
    assert any("also in train" in line for line in open_boxed(root)[0].check())


def test_a_quarter_may_be_bad_and_sizes_are_checked_before_data_is_read():
    assert joined(Transfer, "detect")("run", on="x", to="detect").max_bad is None
    assert joined(Transfer, "classify")("run", on="x").max_bad == 0.05
    for size in (0, 10**6, (64, 64, 64)):
        with pytest.raises(UserError, match="--input-size"):
            unmask.transfer("run", on="x", to="detect", input_size=size)


def test_a_missing_place_and_an_option_that_is_chosen_elsewhere_are_told_as_what_they_are():
    with pytest.raises(UserError, match="--to detect --on"):
        Transfer("run", to="detect")
    with pytest.raises(UserError, match="dim is chosen for it"):
        registry.build("pyramid", "simple(dim=7)", encoder=None, dim=8)


@pytest.mark.parametrize("threshold", [2, -1, float("nan")])
def test_a_threshold_that_is_no_score_is_refused_before_images_are_read(threshold):
    with pytest.raises(UserError, match="between 0 and 1"):
        ImageDetector.predict(None, "nowhere", threshold=threshold)  # type: ignore[arg-type]


def test_annotated_masks_are_drawn_beside_those_found(coco, monkeypatch):
    boxes, seen = open_boxed(coco[0])[0].samples("test", 3), []
    pixels, target = boxes.image(0)
    monkeypatch.setattr(
        "unmask.tasks.detection.figures.draw_segmentation_masks", lambda image, masks, **_: seen.append(masks) or image
    )
    found = as_detections(target, "0.png", (64, 64), boxes.classes)
    draw_examples([(pixels, target, found)], 0.5, coco[0] / "x.png", boxes.classes)
    assert seen[0][:, ::8, ::8].any(dim=(1, 2)).all()
    assert np.allclose(seen[0][:, ::8, ::8], target.masks)
