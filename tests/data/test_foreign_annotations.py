"""Annotations as other programs write them: none is taken for another, and classes go by their names everywhere."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.boxmaking import draw, write_coco, write_yaml, write_yolo
from support.segmenting import scene, write_pairs
from support.sourcemaking import png

from unmask.data.annotations.legend import read_legend
from unmask.data.datasets.detection import Boxed
from unmask.data.datasets.segmentation import Segmented
from unmask.data.source import open_source
from unmask.errors import DataError, UserError


def opened(kind, *places, **options):
    said = []
    return kind([str(p) for p in places], max_side=64, say=said.append, **options), "\n".join(map(str, said))


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def change(path, make):
    table = json.loads(path.read_text())
    make(table)
    path.write_text(json.dumps(table))


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


def test_two_forms_of_maps_in_one_folder_are_no_guess(tmp_path):
    write_pairs(tmp_path, 4)
    scenes = draw(tmp_path / "images", 4)
    write_coco(tmp_path, "all", scenes, masks=True)
    with pytest.raises(UserError, match=r"outlines in a \.json and masks as images; give the one that is meant"):
        opened(Segmented, tmp_path)


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
