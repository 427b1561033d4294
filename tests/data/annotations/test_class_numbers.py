"""Classes that files number or name in their own ways: they go by their names everywhere."""

import json

import numpy as np
import pytest
from PIL import Image
from support.annotating import change, opened, save
from support.boxmaking import draw, write_coco
from support.segmenting import scene
from support.sourcemaking import png

from unmask.data.annotations.legend import read_legend
from unmask.data.datasets.detection import Boxed
from unmask.data.datasets.segmentation import Segmented
from unmask.data.source import open_source


@pytest.mark.parametrize("kind", [Segmented, Boxed])
@pytest.mark.parametrize("several_places", [False, True])
def test_classes_go_by_name_where_files_number_them_differently(kind, several_places, tmp_path):
    paths = []
    for split in ("train", "val"):
        scenes = draw(tmp_path / "images" / split, 4)
        paths.append(write_coco(tmp_path, split, scenes, masks=True))

    def swap(table):
        table["categories"] = [{"id": 3, "name": "box"}, {"id": 7, "name": "disc"}]
        for annotation in table["annotations"]:
            annotation["category_id"] = 10 - annotation["category_id"]

    change(paths[1], swap)
    data, said = opened(kind, *(paths if several_places else [tmp_path]))
    assert "classes have other numbers in other files, and go by their names: disc (3, 7), box (3, 7)" in said
    if kind is Segmented:
        assert (data.classes, data.numbers) == (["background", "disc", "box"], [0, 3, 7])
        for split in ("train", "test"):
            place = data.splits[split][0]
            image = np.asarray(Image.open(data.scenes[place][1].path)).astype(int)
            assert set(np.unique(data.map(place)[image[..., 0] > 200])) == {2}  # boxes are red
    else:
        assert data.class_counts("test") == {"disc": 4, "box": 4}


def test_panoptic_files_of_two_numberings_and_of_the_published_layout_are_one_data_set(tmp_path):
    for split, first, categories in (("train2017", 0, {4: "disc", 9: "box"}), ("val2017", 4, {1: "box", 2: "disc"})):
        content = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in categories.items()]}
        ids = {name: i for i, name in categories.items()}
        for seed in range(first, first + 4):
            image, truth = scene(seed)
            save(image, tmp_path / split / f"{seed:03d}.jpg")
            save(np.stack([truth, truth * 0, truth * 0], axis=-1),
                 tmp_path / "annotations" / f"panoptic_{split}" / f"{seed:03d}.png")  # fmt: skip
            segments = [{"id": 1, "category_id": ids["disc"]}, {"id": 2, "category_id": ids["box"]}]
            content["images"].append({"id": str(seed), "file_name": f"{seed:03d}.jpg"})
            content["annotations"].append({"image_id": seed, "file_name": f"{seed:03d}.png", "segments_info": segments})
        (tmp_path / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))
    files = sorted((tmp_path / "annotations").glob("*.json"))
    for places in ([tmp_path], files):
        data, said = opened(Segmented, *places)
        assert (data.classes, data.numbers, data.sheet.format) == (["disc", "box"], [4, 9], "panoptic")
        assert (len(data.splits["train"]), len(data.splits["test"])) == (4, 4)
        assert "go by their names" in said
        for place, (_, one) in enumerate(data.scenes):
            truth = scene(int(one.name[-7:-4]))[1].astype(int)
            assert np.array_equal(data.map(place), np.where(truth == 0, 255, truth - 1))


def test_numbers_of_masks_are_those_of_the_classes_file_in_their_own_folder(tmp_path):
    for split, first, rows in (("train", 0, "0, ground\n1, disc\n2, box"), ("valid", 4, "0, ground\n1, box\n2, disc")):
        for seed in range(first, first + 4):
            image, truth = scene(seed)
            save(image, tmp_path / split / f"{seed:03d}.jpg")
            save(truth if split == "train" else np.array([0, 2, 1], np.uint8)[truth],
                 tmp_path / split / f"{seed:03d}_mask.png")  # fmt: skip
        (tmp_path / split / "_classes.csv").write_text(f"Pixel Value, Class\n{rows}\n")
    data, said = opened(Segmented, tmp_path)
    assert data.classes == ["ground", "disc", "box"]
    assert "go by their names: disc (1, 2), box (1, 2)" in said
    for place, (_, one) in enumerate(data.scenes):
        assert np.array_equal(data.map(place), scene(int(one.name[-7:-4]))[1])


def test_labelmap_of_cvat_names_classes_and_colours(tmp_path):
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nthe disc:10,20,30::\nbox:200,0,0:lid,foot:open\n"
    (tmp_path / "labelmap.txt").write_text(text)
    legend = read_legend(tmp_path / "labelmap.txt")
    assert legend.names == {0: "background", 1: "the disc", 2: "box"}
    assert legend.colours == {0: (0, 0, 0), 1: (10, 20, 30), 2: (200, 0, 0)}
    colours = np.array(list(legend.colours.values()), np.uint8)
    for seed in range(4):
        image, truth = scene(seed)
        save(image, tmp_path / "JPEGImages" / f"{seed}.jpg")
        save(colours[truth], tmp_path / "SegmentationClass" / f"{seed}.png")
        save(colours[truth], tmp_path / "SegmentationObject" / f"{seed}.png")
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "default.txt").write_text("0\n1\n2\n9\n")
    data, said = opened(Segmented, tmp_path)
    assert data.said == "2 train, 0 val, 1 test"
    assert np.array_equal(data.map(1), scene(1)[1])
    assert "SegmentationObject/ is not read: neither images nor masks (4 files)" in said
    assert "1 images are in no list" in said
    assert "9: is in a list" in said


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([0, 1, -1, 2]), ["0", "1", None, "2"]),
        (np.array([-1, 1, -1, 1]), ["-1", "1", "-1", "1"]),
        (np.array([0, np.nan, 1, 1.0]), ["0", None, "1", "1"]),
        (np.array(["a", "", "b", " "]), ["a", None, "b", None]),
        (np.array([[0, 1], [1, np.nan], [1, 1], [-1, -1]]), ["1", None, "0|1", None]),
    ],
)
def test_entries_of_arrays_that_say_nothing_are_no_labels(labels, expected, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 5, 6)), labels=labels)
    source = open_source(tmp_path / "a.npz")
    assert [item.label for item in source.items] == expected
    assert bool(source.remarks) == (None in expected)


def test_roboflow_s_table_of_zeros_and_ones_labels_images(tmp_path):
    for split, rows in (("train", "a.png, 1, 1\nb.png, 0, 0\ngone.png, 1, 0\n"), ("valid", "a.png, 0, 1\n")):
        (tmp_path / split).mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / split / name).write_bytes(png(0))
        (tmp_path / split / "_classes.csv").write_text(f"filename, cat, dog\n{rows}")
    source = open_source(tmp_path)
    assert [(item.label, item.split) for item in source.items] == [
        ("cat|dog", "train"), ("", "train"), ("dog", "val"), (None, "val"),
    ]  # fmt: skip
    assert source.multi_label
    assert any("1 rows match no image: gone.png" in remark for remark in source.remarks)
