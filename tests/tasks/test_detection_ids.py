"""Results of a detector carry the ids of the annotation file that was asked for."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxmaking import IDS, draw, write_coco

from unmask.data.annotations.geometry import box_of
from unmask.data.datasets.detection import Boxed
from unmask.errors import DataError, UserError
from unmask.tasks.detection import figures
from unmask.tasks.detection.detections import Detections
from unmask.tasks.detection.detector import read_image
from unmask.tasks.detection.predict import Writer, open_images
from unmask.tasks.detection.results import result_entries, write_split_results


def table_of(tmp_path, **changes):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 3))
    table = json.loads(path.read_text())
    for place, image in enumerate(table["images"]):
        image["id"] = ["b", 40, 7][place]
    path.write_text(json.dumps(table | changes))
    return path


def test_results_carry_the_ids_of_images_and_categories_of_the_file(tmp_path):
    asked = open_images([str(table_of(tmp_path))], ["disc", "box", "cone"], [0, 1, 2])
    assert [annotation.id_ for annotation in asked.annotations] == ["b", 40, 7]
    assert asked.categories == [3, 7, 8]
    assert any("lacks cone" in remark for remark in asked.remarks)
    writer = Writer(tmp_path / "out", ["disc", "box", "cone"], asked.categories, 0.5)
    for place, item in enumerate(asked.source.items):
        boxes = np.array([[1, 2, 11, 22]], np.float32)
        found = Detections(item.name, (64, 64), boxes, np.array([1]), np.array([0.9], np.float32), ["x"] * 3, None)
        writer.add(found, torch.zeros(3, 64, 64, dtype=torch.uint8), asked.annotations[place])
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
    assert [annotation.id_ for annotation in asked.annotations] == ["b", 7]
    assert [name for name, _ in asked.missing] == ["1.png"]
    with pytest.raises(UserError, match="one annotation file"):
        open_images([str(path), str(path)], ["disc"], [0])
    with pytest.raises(UserError, match="is no folder: beside"):
        open_images([str(path), str(tmp_path / "images" / "0.png")], ["disc"], [0])
    path.write_text("{}")
    with pytest.raises(DataError, match="it has no images, categories"):
        open_images([str(path)], ["disc"], [0])
    asked = open_images([str(tmp_path / "images")], ["disc"], [5])
    assert asked.categories == [5]
    assert "images are numbered from 1" in asked.remarks[0]


def test_folders_beside_the_file_are_where_its_images_lie(tmp_path):
    path = table_of(tmp_path)
    (tmp_path / "images").rename(tmp_path / "else")
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = path.rename(tmp_path / "a" / "b" / "all.json")
    (tmp_path / "else" / "unlisted.png").write_bytes((tmp_path / "else" / "0.png").read_bytes())
    with pytest.raises(DataError, match="none of the 3 images"):
        open_images([str(path)], ["disc"], [0])
    asked = open_images([str(tmp_path / "else"), str(path)], ["disc"], [0])
    assert [annotation.id_ for annotation in asked.annotations] == ["b", 40, 7]
    assert any("1 images in" in remark and "are left out" in remark for remark in asked.remarks)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("masks", [False, True])
def test_results_are_in_the_pixels_of_the_file_where_images_are_turned(orientation, masks, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((40, 60), np.uint8)
    stored[5:15, 10:40] = 255
    (tmp_path / "images").mkdir()
    Image.fromarray(stored).save(tmp_path / "images" / "a.png", exif=exif)
    content = {"images": [{"id": 9, "file_name": "a.png", "width": 60, "height": 40}],
               "categories": [{"id": 4, "name": "disc"}]}  # fmt: skip
    (tmp_path / "all.json").write_text(json.dumps(content))
    asked = open_images([str(tmp_path / "all.json")], ["disc"], [0])
    pixels = read_image(asked.source, 0, 3)
    rows, columns = np.nonzero(pixels[0].numpy() > 128)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    shapes = np.ones((1, 8, 8), np.float32) if masks else None
    size = (pixels.shape[1], pixels.shape[2])
    found = Detections("a", size, box, np.array([0]), np.array([0.9], np.float32), ["disc"], shapes)
    (entry,) = result_entries(found, asked.annotations[0], asked.categories)
    if orientation < 5:  # the sizes cannot tell, so annotations are taken to be of the image as shown
        assert asked.annotations[0].turn == 1
        stored = pixels[0].numpy()
    rows, columns = np.nonzero(stored > 128)
    width, height = columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()
    assert entry["bbox"] == [columns.min(), rows.min(), width, height]
    if masks:
        assert entry["segmentation"]["size"] == list(stored.shape)
        corners = (*entry["bbox"][:2], columns.max() + 1, rows.max() + 1)
        assert box_of(entry["segmentation"]) == pytest.approx(corners, abs=1)  # of masks that are pasted into boxes


def test_results_of_a_split_have_the_ids_and_the_pixels_of_its_file_and_only_where_it_has_ids(tmp_path):
    scenes = draw(tmp_path / "images", 3, size=200)
    for split in ("train", "val", "test"):
        write_coco(tmp_path, split, scenes)
    boxes = Boxed([str(tmp_path)], max_side=64).samples("test", 3)
    assert boxes.image(0).image.shape == (3, 64, 64)
    corners = np.array([[8, 16, 32, 48]], np.float32)
    found = [
        Detections(name, (64, 64), corners, np.array([1]), np.array([0.9], np.float32), boxes.classes, None)
        for name in boxes.names
    ]
    write_split_results(found, boxes, tmp_path)
    entries = json.loads((tmp_path / "results.json").read_text())
    assert [entry["image_id"] for entry in entries] == [11, 12, 13]
    assert {entry["category_id"] for entry in entries} == {IDS[boxes.classes[1]]}
    assert all(entry["bbox"] == [25, 50, 75, 100] for entry in entries)
    (tmp_path / "results.json").unlink()
    write_split_results(found, replace(boxes, scenes=[replace(scene, id_=None) for scene in boxes.scenes]), tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_an_image_of_another_size_than_the_file_states_is_named(tmp_path):
    path = table_of(tmp_path)
    table = json.loads(path.read_text())
    table["images"][1] |= {"width": 7, "height": 9}
    path.write_text(json.dumps(table))
    asked = open_images([str(path)], ["disc"], [0])
    assert [annotation.id_ for annotation in asked.annotations] == ["b", 7]
    assert "not 7 x 9 as stated" in asked.missing[0][1]


def test_a_class_has_one_colour_in_boxes_and_curves(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        figures,
        "save",
        lambda figure, _: drawn.update({c.get_label().split(",")[0]: c.get_color() for c in figure.axes[0].lines}),
    )
    curves = {"cat": np.full(3, 0.2), "dog": np.full(3, 0.9)}  # the better class is drawn first
    figures.draw_curves(curves, np.linspace(0, 1, 3), tmp_path / "p.png", ["cat", "bird", "dog"])
    for name, number in {"cat": 0, "dog": 2}.items():
        np.testing.assert_allclose(255 * drawn[name], figures.COLOURS[number])
