"""Results of a detector carry the ids of the annotation file that was asked for."""

import json

import numpy as np
import pytest
import torch
from support.boxmaking import draw, write_coco

from unmask.errors import DataError, UserError
from unmask.tasks.detection.detections import Detections
from unmask.tasks.detection.predict import Writer, open_images


def table_of(tmp_path, **changes):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 3))
    table = json.loads(path.read_text())
    for place, image in enumerate(table["images"]):
        image["id"] = ["b", 40, 7][place]
    path.write_text(json.dumps(table | changes))
    return path


def test_results_carry_the_ids_of_images_and_categories_of_the_file(tmp_path):
    asked = open_images([str(table_of(tmp_path))], ["disc", "box", "cone"], [0, 1, 2])
    assert asked.ids == ["b", 40, 7]
    assert asked.categories == [3, 7, 8]
    assert any("lacks cone" in remark for remark in asked.remarks)
    writer = Writer(tmp_path / "out", ["disc", "box", "cone"], asked.categories, 0.5)
    for place, item in enumerate(asked.source.items):
        boxes = np.array([[1, 2, 11, 22]], np.float32)
        found = Detections(item.name, (64, 64), boxes, np.array([1]), np.array([0.9], np.float32), ["x"] * 3, None)
        writer.add(found, torch.zeros(3, 64, 64, dtype=torch.uint8), asked.ids[place])
    writer.finish()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in results] == [("b", 7), (40, 7), (7, 7)]
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(image["id"], image["file_name"]) for image in predictions["images"]] == [
        ("b", "0.png"), (40, "1.png"), (7, "2.png"),
    ]  # fmt: skip


def test_a_file_without_annotations_will_do_and_missing_images_are_named(tmp_path):
    path = table_of(tmp_path)
    table = json.loads(path.read_text())
    table.pop("annotations")
    path.write_text(json.dumps(table))
    (tmp_path / "images" / "1.png").unlink()
    asked = open_images([str(path)], ["disc"], [0])
    assert asked.ids == ["b", 7]
    assert [name for name, _ in asked.missing] == ["1.png"]
    with pytest.raises(UserError, match="alone"):
        open_images([str(path), str(tmp_path / "images")], ["disc"], [0])
    path.write_text("{}")
    with pytest.raises(DataError, match="it has no images, categories"):
        open_images([str(path)], ["disc"], [0])
    assert open_images([str(tmp_path / "images")], ["disc"], [5]).categories == [5]
