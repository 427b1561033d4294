"""Segmented data as people keep it: every layout gives the same maps; what is wrong is named before training."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.segmenting import NAMES, scene, write_pairs

from unmask.data.annotations.legend import read_legend
from unmask.data.datasets.segmentation import Segmented
from unmask.errors import DataError, UserError

COLOURS = {0: (10, 20, 30), 1: (200, 0, 0), 2: (0, 0, 200)}
COUNT = 6


def opened(place, **options):
    said = []
    data = Segmented([str(p) for p in (place if isinstance(place, list) else [place])], max_side=256, say=said.append,
                     **options)  # fmt: skip
    return data, "\n".join(map(str, said))


def maps(data, split="train"):
    """Maps of a split by the image's stem, in the terms of NAMES."""
    places = np.array([NAMES.index(name) for name in data.classes] + [255] * (256 - len(data.classes)))
    segments = data.segments(split, 3)
    return {name.rsplit("/", 1)[-1][:3]: places[segments.pair(i)[1]] for i, name in enumerate(segments.names)}


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def coloured(truth):
    return np.array([COLOURS[i] for i in range(3)], dtype=np.uint8)[truth]


def runs(mask):
    """COCO's uncompressed run lengths, column by column, zeros first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    bounds = np.concatenate([[0], edges, [flat.size]])
    return {"size": list(mask.shape), "counts": np.diff(bounds).tolist()}


def camvid(root, seed, split, image, truth):
    save(image, root / split / f"{seed:03d}.jpg")
    save(truth, root / f"{split}annot" / f"{seed:03d}.png")


def inner_folders(root, seed, split, image, truth):
    save(image, root / split / "images" / f"{seed:03d}.jpg")
    save(truth, root / split / "labels" / f"{seed:03d}_mask.png")


def suffixes(root, seed, split, image, truth):
    save(image, root / split / f"{seed:03d}.jpg")
    save(truth, root / split / f"{seed:03d}_L.png")


def palette(root, seed, split, pixels, truth):
    save(pixels, root / "JPEGImages" / f"{seed:03d}.jpg")
    image = Image.fromarray(truth, mode="P")
    image.putpalette([v for i in range(3) for v in COLOURS[i]])
    (root / "SegmentationClass").mkdir(exist_ok=True)
    image.save(root / "SegmentationClass" / f"{seed:03d}.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    with open(lists / f"{split}.txt", "a") as file:
        file.write(f"{seed:03d}\n")


def in_colour(root, seed, split, image, truth):
    save(image, root / "images" / split / f"{seed:03d}.jpg")
    save(coloured(truth), root / "masks" / split / f"{seed:03d}.png")
    lines = [f"{r} {g} {b}\t{NAMES[i]}" for i, (r, g, b) in COLOURS.items()]
    (root / "label_colors.txt").write_text("\n".join(lines))


LAYOUTS = [camvid, inner_folders, suffixes, palette, in_colour]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_of_images_and_masks_gives_the_same_maps(layout, tmp_path):
    for seed in range(COUNT):
        layout(tmp_path, seed, "train" if seed < 4 else "test", *scene(seed))
    if layout is not in_colour:
        (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    data, _ = opened(tmp_path)
    assert data.classes == NAMES
    for split, seeds in (("train", range(4)), ("test", (4, 5))):
        found = maps(data, split)
        assert sorted(found) == [f"{seed:03d}" for seed in seeds]
        assert all(np.array_equal(found[f"{seed:03d}"], scene(seed)[1]) for seed in seeds)


def coco(root, polygons):
    content = {"images": [], "annotations": [], "categories": [{"id": 0, "name": "disc"}, {"id": 7, "name": "box"}]}
    for seed in range(COUNT):
        image, truth = scene(seed)
        save(image, root / "images" / f"{seed:03d}.jpg")
        content["images"].append({"id": seed, "file_name": f"{seed:03d}.jpg", "height": 40, "width": 48})
        for number, category in ((1, 0), (2, 7)):
            rows, columns = np.nonzero(truth == number)
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            ring = [float(corners[i]) for i in (0, 1, 2, 1, 2, 3, 0, 3)]
            outline = [ring] if polygons and number == 2 else runs(truth == number)
            content["annotations"].append({"image_id": seed, "category_id": category, "segmentation": outline})
    return content


def test_coco_polygons_and_run_lengths_are_drawn(tmp_path):
    content = coco(tmp_path, polygons=True)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    data, said = opened(tmp_path)
    assert (data.classes, data.numbers) == (["background", "disc", "box"], [0, 1, 8])  # 0 is taken: all move up by one
    assert "no train and test splits" in said
    every = {name: np.array(data.map(i)) for i, (_, s) in enumerate(data.scenes) for name in [s.name[:3]]}
    assert all(np.array_equal(every[f"{seed:03d}"], scene(seed)[1]) for seed in range(COUNT))
    whole = {"image_id": 1, "category_id": 7, "segmentation": [[0, 0, 48, 0, 48, 40, 0, 40]]}
    (tmp_path / "annotations.json").write_text(json.dumps(content | {"annotations": [*content["annotations"], whole]}))
    over = opened(tmp_path)[0]
    (found,) = (over.map(i) for i, (_, s) in enumerate(over.scenes) if s.name == "001.jpg")
    assert np.array_equal(
        found, np.where(scene(1)[1] == 1, 1, 2)
    )  # the smaller lies on top, though it was listed first
    content["annotations"][0]["category_id"] = 99
    content["annotations"][2]["segmentation"] = [[1, 2, 3]]
    content["images"][2]["height"] = 41
    shutil.rmtree(tmp_path / "images")
    for seed in range(COUNT - 1):
        save(scene(seed)[0], tmp_path / "images" / f"{seed:03d}.jpg")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        opened(tmp_path, max_bad=0.5)
    for text in ("4 of 6", "category 99", "a polygon of 3 numbers", "are for 41 x 48", "005.jpg: missing image"):
        assert text in str(caught.value)
    boxes = {**content, "annotations": [{"image_id": 0, "category_id": 7, "bbox": [1, 2, 3, 4]}]}
    (tmp_path / "annotations.json").write_text(json.dumps(boxes))
    with pytest.raises(DataError, match="has boxes, no outlines"):
        opened(tmp_path)


def test_panoptic_pngs_and_yolo_outlines_are_read(tmp_path):
    ids = np.array([0, 70_000, 300], dtype=np.int64)  # ground is void here
    content = {"images": [], "annotations": [], "categories": [{"id": 4, "name": "disc"}, {"id": 200, "name": "box"}]}
    for seed in range(COUNT):
        image, truth = scene(seed)
        save(image, tmp_path / "images" / f"{seed:03d}.jpg")
        segments = ids[truth]
        save(np.stack([segments >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8),
             tmp_path / "p" / "panoptic" / f"{seed:03d}.png")  # fmt: skip
        info = [{"id": 70_000, "category_id": 4}, {"id": 300, "category_id": 200}]
        content["images"].append({"id": seed, "file_name": f"{seed:03d}.jpg"})
        content["annotations"].append({"image_id": seed, "file_name": f"{seed:03d}.png", "segments_info": info})
        rows, columns = np.nonzero(truth == 2)
        x, y = (np.array([v.min(), v.max() + 1]) for v in (columns, rows))
        points = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
        line = "1 " + " ".join(f"{a / 48:.6f} {b / 40:.6f}" for a, b in points)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{seed:03d}.txt").write_text(line + "\n")
    (tmp_path / "p" / "panoptic.json").write_text(json.dumps(content))
    data, _ = opened(tmp_path / "p" / "panoptic.json", images=tmp_path / "images")
    assert (data.classes, data.numbers, data.sheet.format) == (["disc", "box"], [4, 200], "panoptic")
    for i, (_, one) in enumerate(data.scenes):
        truth = scene(int(one.name[:3]))[1].astype(int)
        assert np.array_equal(data.map(i), np.where(truth == 0, 255, truth - 1))

    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: {0: disc, 1: box}\n")
    data, said = opened(tmp_path / "data.yaml")
    assert (data.classes, data.numbers, data.sheet.format) == (["background", "box"], [0, 2], "yolo")
    assert "nowhere in the data and are left out: disc" in said
    assert np.array_equal(data.map(3) == 1, scene(3)[1] == 2)


def test_bad_images_and_masks_are_counted_and_named_and_the_rest_is_used(tmp_path):
    write_pairs(tmp_path, 12)
    (tmp_path / "classes.yaml").write_text("ground: 0\ndisc: 1\nbox: 2\nvoid: 9\n")
    save(scene(0)[1][:-2], tmp_path / "masks" / "000.png")
    (tmp_path / "masks" / "001.png").unlink()
    odd = scene(2)[1]
    odd[0, :5], odd[5, :3] = 37, 9
    save(odd, tmp_path / "masks" / "002.png")
    (tmp_path / "masks" / "003.png").write_bytes((tmp_path / "masks" / "003.png").read_bytes()[:60])
    data, said = opened(tmp_path)
    assert "4 of 12 images and masks" in said
    for text in (
        "images/001.png: has no mask",
        "images/000.png: is 40 x 48, its mask 38 x 48",
        "images/002.png: its mask has the unknown class number 37 in 5 pixels",
        "images/003.png: its mask cannot be read: truncated",
    ):
        assert text in said
    assert sum(map(len, data.splits.values())) == 8
    assert len(data.sheet.left_out) == 4
    with pytest.raises(DataError, match=r"(?s)more than 10%; .*001\.png: has no mask"):
        opened(tmp_path, max_bad=0.1)
    (tmp_path / "images" / "005.png").unlink()
    assert "masks/005.png: is a mask without an image" in opened(tmp_path)[1]


def test_void_is_neither_class_nor_count(tmp_path):
    write_pairs(tmp_path, 5)
    for seed in range(5):
        truth = scene(seed)[1]
        truth[:, 0], truth[:, 1] = 255, 3
        save(truth, tmp_path / "masks" / f"{seed:03d}.png")
    (tmp_path / "classes.json").write_text(
        json.dumps({"0": "ground", "1": "disc", "2": "box", "3": "unlabelled (void)"})
    )
    data, _ = opened(tmp_path)
    assert data.classes == NAMES
    assert (data.map(0)[:, :2] == 255).all()
    assert data.sheet.void_shares["train"] == pytest.approx(2 / 48)
    shares = [np.bincount(scene(int(data.scenes[i][1].name[-7:-4]))[1][:, 2:].ravel(), minlength=3)
              for i in data.splits["train"]]  # fmt: skip
    expected = sum(shares) / sum(shares).sum()
    assert list(data.sheet.pixel_shares["train"].values()) == pytest.approx(expected.tolist())
    assert opened(tmp_path, void=("255", "ground"))[0].classes == ["disc", "box", "unlabelled (void)"]
    with pytest.raises(UserError, match="did you mean 'ground'"):
        opened(tmp_path, void=("grund",))


def test_masks_of_0_and_255_are_background_and_object(tmp_path):
    write_pairs(tmp_path, 5)
    for seed in range(5):
        save((scene(seed)[1] > 0).astype(np.uint8) * 255, tmp_path / "masks" / f"{seed:03d}.png")
    data, said = opened(tmp_path)
    assert (data.classes, data.numbers) == (["background", "object"], [0, 255])
    assert "background and object" in said
    for seed in range(5):
        (tmp_path / "masks" / f"{seed:03d}.png").unlink()
        save((scene(seed)[1] > 0).astype(np.uint8) * 255, tmp_path / "masks" / f"{seed:03d}.jpg")
    again, _ = opened(tmp_path)
    assert (again.numbers, again.map(1).shape) == ([0, 255], (40, 48))
    assert (again.map(1) == (scene(1)[1] > 0)).mean() > 0.98  # JPEG blurs edges
    save(scene(2)[1] * 100, tmp_path / "masks" / "002.jpg")
    assert "002.png: its mask is a JPEG file, which does not keep class numbers" in opened(tmp_path)[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", '["sky", "road"]'),
        ("classes.json", '{"0": "sky", "1": "road"}'),
        ("classes.json", '{"sky": 0, "road": 1}'),
        ("classes.json", '{"classes": {"sky": {"id": 0, "color": [1, 2, 3]}, "road": {"id": 1, "color": "#040506"}}}'),
        ("classes.yaml", "- {name: sky, rgb: [1, 2, 3]}\n- {name: road, rgb: [4, 5, 6]}\n"),
        ("classes.yaml", "names:\n  0: sky\n  1: road\n"),
        ("label_colors.txt", "1 2 3\tsky\n4 5 6  road\n"),
        ("class_dict.csv", "name,r,g,b\nsky,1,2,3\nroad,4,5,6\n"),
    ],
)
def test_classes_are_read_however_they_are_written(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    legend = read_legend(tmp_path / name)
    assert legend.names == {0: "sky", 1: "road"}
    assert legend.colours in ({}, {0: (1, 2, 3), 1: (4, 5, 6)})


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": null}]',
        '[["a", 1]]',
        '{"a": [1, 2]}',
        "[]",
        '{"a": "b"}',
        "[1, 2]",
        '["a", "a"]',
        "nonsense",
        '{"a": 0, "b": 0}',
    ],
)
def test_a_file_that_does_not_tell_classes_is_refused(text, tmp_path):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(DataError, match=r"classes\.json does not tell the classes"):
        read_legend(tmp_path / "classes.json")


def test_a_folder_that_leaves_open_what_is_meant_is_refused_with_the_choice(tmp_path):
    write_pairs(tmp_path, 5)
    (tmp_path / "config.yaml").write_text("train: {lr: 0.1}\nname: something else\n")  # another program's
    assert opened(tmp_path)[0].sheet.format == "pairs"
    (tmp_path / "boxes.json").write_text(json.dumps(coco(tmp_path / "other", polygons=True)))
    with pytest.raises(UserError, match=r"outlines in a \.json and masks as images"):
        opened(tmp_path)
    with pytest.raises(UserError, match="did you mean"):
        opened(tmp_path.parent / (tmp_path.name + "x"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no segmented images that are known here"):
        opened(tmp_path / "empty")
