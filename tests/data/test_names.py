"""One rule by which names mean files, and every reader that goes by it."""

import json
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image
from support.boxmaking import draw, write_coco, write_xml, write_yaml, write_yolo
from support.segmenting import scene, write_pairs
from support.sourcemaking import png

from unmask.data.annotations.find import open_annotations
from unmask.data.datasets.detection import Boxed
from unmask.data.datasets.segmentation import Segmented
from unmask.data.labels import arrange
from unmask.data.names import as_spelled, key_of, match_names
from unmask.data.source import open_source
from unmask.errors import DataError

COMPOSED, APART = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))


def matched(names, files, **options):
    return match_names(names, {file: key_of(file) for file in files}, **options)


def opened(kind, *places, **options):
    said = []
    return kind([str(p) for p in places], max_side=64, say=said.append, **options), "\n".join(map(str, said))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/1.png", "a/1.png"),
        ("a\\1.PNG", "a/1.png"),
        ("./a//1.png", "a/1.png"),
        (f"{COMPOSED}/1.png", f"{APART}/1.png"),
        ("1.png", "images/1.png"),
        ("train2017/1.png", "train/1.png"),
        ("JPEGImages/1.png", "images/train/1.png"),
    ],
)
def test_whole_paths_match_in_any_spelling_and_below_folders_that_only_say_what_lies_there(name, file):
    matches = matched([name], [file, "b/2.png"])
    assert (matches.files, matches.loose) == ({name: file}, [])


def test_file_names_alone_count_only_where_they_are_the_only_ones_and_that_is_said():
    matches = matched(["1.png", "/home/me/2.png"], ["a/1.png", "images/2.png"])
    assert matches.files == {"1.png": "a/1.png", "/home/me/2.png": "images/2.png"}
    assert matches.remarks("rows match") == ["2 rows match by the file name alone: 1.png is taken for a/1.png, ..."]
    assert matched(["1.png"], ["a/1.png", "b/1.png"]).several == {"1.png": ["a/1.png", "b/1.png"]}
    assert matched(["x/1.png", "y/1.png"], ["1.png"]).files == {}
    assert matched(["1.png"], ["train/1.png", "val/1.png"], prefer=["val"]).files == {"1.png": "val/1.png"}


@pytest.mark.parametrize("names", [["b/1.png"], ["a/1.png", "b/1.png"], ["a/2.png", "b/1.png"], ["train/1.png"]])
def test_folders_that_differ_never_match(names):
    matches = matched(names, ["a/1.png", "a/2.png", "val/1.png"])
    assert names[-1] not in matches.files
    assert "has its name, but lies elsewhere" in matches.why_not(names[-1])


def test_a_name_with_folders_is_not_loosened_where_others_are_found_by_their_whole_path():
    assert matched(["a/1.png", "b/2.png"], ["a/1.png", "2.png"]).files == {"a/1.png": "a/1.png"}
    assert matched(["b/2.png"], ["a/1.png", "2.png"]).files == {"b/2.png": "2.png"}


def test_files_are_found_on_disk_in_any_spelling(tmp_path):
    (tmp_path / APART).mkdir()
    (tmp_path / APART / "1.JPG").touch()
    assert as_spelled(str(tmp_path / COMPOSED / "1.jpg")) == str(tmp_path / APART / "1.JPG")
    assert as_spelled(str(tmp_path / COMPOSED / "2.jpg")) is None
    assert as_spelled(str(tmp_path / "b" / "1.jpg")) is None


def test_labels_csv_of_another_folder_labels_nothing_here():
    rows = "".join(f"siteB/{i}.png,y\n" for i in range(3)) + "siteA/0.png,x\n"
    layout = arrange([f"siteA/{i}.png" for i in range(3)], [("labels.csv", f"path,label\n{rows}".encode())])
    assert [item.label for item in layout.items] == ["x", None, None]
    assert "labels.csv: 3 rows match no image: siteB/0.png, siteB/1.png, siteB/2.png" in layout.remarks


def test_class_names_of_two_unicode_forms_are_one_class():
    layout = arrange([f"train/{COMPOSED}/1.png", "train/b/1.png", f"val/{APART}/2.png", "val/b/2.png"])
    assert {item.label for item in layout.items} == {COMPOSED, "b"}


def test_zips_with_backslashes_have_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png"):
            file.writestr(name, png(0))
    content = (tmp_path / "a.zip").read_bytes()
    for name in (b"train/cat/1", b"train/dog/2", b"val/cat/3"):
        content = content.replace(name, name.replace(b"/", b"\\"))
    (tmp_path / "a.zip").write_bytes(content)
    source = open_source(tmp_path / "a.zip")
    assert (source.items[0].name, source.items[0].label) == ("train/cat/1.png", "cat")
    assert [item.split for item in source.items] == ["train", "train", "val"]
    assert len(source.read(0)) == len(png(0))


def test_lists_of_files_are_read_in_any_spelling(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{APART}.PNG").write_bytes(png(0))
    (tmp_path / "list.txt").write_text(f"a\\{COMPOSED}.png\n", encoding="utf-8")
    source = open_source(tmp_path / "list.txt")
    assert source.read(0) == png(0)
    assert source.stamp(0)


@pytest.mark.parametrize("kind", [Boxed, Segmented])
def test_coco_boxes_of_images_that_are_missing_are_not_put_on_others(kind, tmp_path):
    scenes = draw(tmp_path / "images" / "clip1", 6)
    path = write_coco(tmp_path, "all", scenes, masks=True)
    table = json.loads(path.read_text())
    gone = [{**image, "id": 90 + i, "file_name": f"clip2/{i}.png"} for i, image in enumerate(table["images"][:2])]
    for image in table["images"]:
        image["file_name"] = f"clip1/{image['file_name']}"
    more = [{**a, "image_id": 90} for a in table["annotations"][:1]]
    path.write_text(json.dumps({**table, "images": gone + table["images"], "annotations": table["annotations"] + more}))
    data, said = opened(kind, tmp_path)
    assert sum(map(len, data.splits.values())) == 6
    assert "clip2/0.png" in said
    assert "images/clip1/0.png has its name, but lies elsewhere" in said


@pytest.mark.parametrize("kind", [Boxed, Segmented])
def test_one_file_under_two_image_ids_counts_once_and_is_named(kind, tmp_path):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 6), masks=True)
    table = json.loads(path.read_text())
    table["images"] += [
        {**image, "id": 90 + i, "file_name": f"./{i}.png"} for i, image in enumerate(table["images"][:2])
    ]
    path.write_text(json.dumps(table))
    data, said = opened(kind, tmp_path)
    assert sum(map(len, data.splits.values())) == 6
    assert "duplicate image" in said


@pytest.mark.parametrize("kind", [Boxed, Segmented])
def test_ids_as_text_and_names_in_another_unicode_form_are_the_same(kind, tmp_path):
    scenes = draw(tmp_path / "images", 4)
    path = write_coco(tmp_path, "all", scenes, masks=True)
    table = json.loads(path.read_text())
    for image in table["images"]:
        (tmp_path / "images" / image["file_name"]).rename(tmp_path / "images" / f"{APART}{image['file_name']}")
        image |= {"id": str(image["id"]), "file_name": f"{COMPOSED}{image['file_name']}".replace(".png", ".PNG")}
    for annotation in table["annotations"][::2]:
        annotation |= {"image_id": float(annotation["image_id"]), "category_id": str(annotation["category_id"])}
    path.write_text(json.dumps(table))
    data, _ = opened(kind, tmp_path, max_bad=0)
    assert sum(map(len, data.splits.values())) == 4


def test_yolo_labels_and_voc_names_are_found_in_another_unicode_form(tmp_path):
    for form, name in (("images", APART), ("labels", COMPOSED)):
        scenes = draw(tmp_path / "y" / "images" / "train", 4)
        write_yolo(tmp_path / "y", "train", scenes)
        for file in (tmp_path / "y" / form / "train").iterdir():
            file.rename(file.with_name(f"{name}{file.name}"))
    for file in (tmp_path / "y" / "images" / "train").glob("[0-9]*"):
        file.unlink()
    write_yaml(tmp_path / "y", train="images/train", names="[box, disc]")
    data, _ = opened(Boxed, tmp_path / "y")
    assert data.sheet.fault_counts == {}
    assert data.sheet.empty_images == 0
    for one in draw(tmp_path / "v" / "JPEGImages", 4):
        (tmp_path / "v" / "JPEGImages" / one["file"]).rename(tmp_path / "v" / "JPEGImages" / f"{APART}{one['file']}")
        (tmp_path / "v" / "Annotations").mkdir(exist_ok=True)
        write_xml(tmp_path / "v" / "Annotations", one | {"file": f"{COMPOSED}{one['file']}"})
    assert opened(Boxed, tmp_path / "v", max_bad=0)[0].said == "3 train, 0 val, 1 test"


def test_the_name_inside_a_voc_file_does_not_take_another_file_s_image(tmp_path):
    for one in draw(tmp_path / "JPEGImages", 6):
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        write_xml(tmp_path / "Annotations", one)
    (tmp_path / "Annotations" / "0.xml").write_text((tmp_path / "Annotations" / "1.xml").read_text())
    (tmp_path / "JPEGImages" / "0.png").unlink()
    data, _ = opened(Boxed, tmp_path)
    assert data.sheet.fault_counts == {"missing image": 1}


def test_masks_of_another_folder_are_no_masks(tmp_path):
    write_pairs(tmp_path, 6, "siteC", first=20)
    write_pairs(tmp_path, 3, "siteA")
    (tmp_path / "masks" / "siteA").rename(tmp_path / "masks" / "siteB")
    data, said = opened(Segmented, tmp_path, max_bad=0.9)
    assert sum(map(len, data.splits.values())) == 6
    assert "images/siteA/000.png: has no mask" in said
    assert "masks/siteB/000.png: is a mask without an image (images/siteA/000.png has its name" in said
    (tmp_path / "images" / "siteC").rename(tmp_path / "images" / "siteD")
    with pytest.raises(DataError, match=r"no image in .* has a mask of its name"):
        opened(Segmented, tmp_path)


def test_masks_are_found_in_another_unicode_form_and_by_a_name_that_is_the_only_one(tmp_path):
    for seed in range(4):
        image, truth = scene(seed)
        for path, array in ((f"images/{APART}{seed}.png", image), (f"masks/checked/{COMPOSED}{seed}.PNG", truth)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / path)
    data, said = opened(Segmented, tmp_path, max_bad=0)
    assert data.said == "3 train, 0 val, 1 test"
    assert "4 masks are found by the file name alone" in said
    assert np.array_equal(data.map(0), scene(0)[1])


def write_nested_voc(root, *places):
    """Images and annotations in folders of one form: each place is a path without its ending."""
    scenes = draw(root / "drawn", len(places))
    for place, one in zip(places, scenes):
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "drawn" / one["file"]).rename(root / "JPEGImages" / f"{place}.png")
        write_xml((root / "Annotations" / place).parent, one | {"file": f"{place.rpartition('/')[2]}.png"})
    (root / "drawn").rmdir()
    return [one["objects"][0][1] for one in scenes]


def boxes_by_image(data, root):
    scenes = data.annotated.scenes
    return {scene.path.removeprefix(f"{root}/JPEGImages/"): (scene.split, scene.instances[0].box) for scene in scenes}


def test_folders_of_voc_annotations_mirror_those_of_images(tmp_path):
    first, second, third = write_nested_voc(tmp_path, "a/1", "b/1", "b/2 x.Y")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a/1\nb/1  1\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("b\\2 x.Y\n")
    data, _ = opened(Boxed, tmp_path, max_bad=0)
    assert boxes_by_image(data, tmp_path) == {
        "a/1.png": ("train", first), "b/1.png": ("train", second), "b/2 x.Y.png": ("test", third),
    }  # fmt: skip
    (tmp_path / "JPEGImages" / "a").rename(tmp_path / "JPEGImages" / "c")
    data, said = opened(Boxed, tmp_path, max_bad=0.9)
    assert boxes_by_image(data, tmp_path).keys() == {"b/1.png", "b/2 x.Y.png"}
    assert "1.png has its name, but lies elsewhere" in said


def test_the_folder_inside_a_voc_file_tells_which_of_several_images_it_means(tmp_path):
    box, _ = write_nested_voc(tmp_path, "1", "other/1")
    (tmp_path / "JPEGImages" / "1.png").rename(tmp_path / "JPEGImages" / "other" / "2.png")
    (tmp_path / "JPEGImages" / "site").mkdir()
    (tmp_path / "JPEGImages" / "other" / "2.png").rename(tmp_path / "JPEGImages" / "site" / "1.png")
    (tmp_path / "Annotations" / "other" / "1.xml").unlink()
    path = tmp_path / "Annotations" / "1.xml"
    with pytest.raises(DataError, match=r"may be .*other/1.png, .*site/1.png"):
        opened(Boxed, tmp_path)
    path.write_text(path.read_text().replace("<filename>", "<folder>site</folder><filename>"))
    annotated = open_annotations([str(tmp_path)])
    assert [(s.path, s.instances[0].box) for s in annotated.scenes] == [(f"{tmp_path}/JPEGImages/site/1.png", box)]


def test_yolo_labels_of_another_folder_are_said(tmp_path):
    scenes = draw(tmp_path / "images" / "train" / "a", 4)
    write_yolo(tmp_path, "train/b", scenes)
    scenes = draw(tmp_path / "images" / "train", 4)
    write_yolo(tmp_path, "train", scenes)
    write_yaml(tmp_path, train="images/train", names="[box, disc]")
    data, said = opened(Boxed, tmp_path)
    assert data.sheet.fault_counts == {"no label file": 4, "label file without image": 4}
    assert "train/b/0.txt (is not used)" in said


def test_an_id_with_zeros_in_front_is_named(tmp_path):
    path = write_coco(tmp_path, "all", draw(tmp_path / "images", 4))
    table = json.loads(path.read_text())
    for image in table["images"]:
        image["id"] = f"{image['id']:06d}"
    path.write_text(json.dumps(table))
    with pytest.raises(DataError, match="no image with id 11, but one with '000011'"):
        opened(Boxed, tmp_path)


def test_masks_of_one_class_each_lie_in_folders_of_classes(tmp_path):
    write_pairs(tmp_path, 6)
    for number, path in enumerate(sorted((tmp_path / "masks").iterdir())):
        values = (np.asarray(Image.open(path)) > 0).astype(np.uint8) * 255
        path.unlink()
        (tmp_path / "masks" / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "masks" / "ab"[number % 2] / path.name)
    data, said = opened(Segmented, tmp_path, max_bad=0)
    assert data.classes == ["background", "a", "b"]
    assert "masks lie in a folder for each class: a, b" in said
    for path in (tmp_path / "masks").glob("*/*"):  # several classes in each
        values = np.asarray(Image.open(path)) // 255
        Image.fromarray(2 * values + (np.arange(values.shape[1]) < 2).astype(np.uint8)).save(path)
    assert "a folder for each class" not in opened(Segmented, tmp_path, max_bad=0)[1]
