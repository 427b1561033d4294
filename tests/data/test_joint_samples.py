"""Samples of several kinds of data: how their files are found, what is said of odd ones, and what a model sees."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.joint_samples import NUMBERS, decoded, kinds_of, picture, tone, views

from unmask.data.kinds import Sorting
from unmask.data.modality import make_modality
from unmask.data.sheet import inspect, write_bad_files
from unmask.data.source import open_source
from unmask.errors import DataError, UserError


@pytest.fixture
def pairs(tmp_path):
    """rgb/0.png ..., depth/0.png ..."""
    for number in NUMBERS:
        picture(tmp_path / "data" / "rgb" / f"{number}.png", number)
        picture(tmp_path / "data" / "depth" / f"{number}.png", 100 + number, channels=1)
    return tmp_path / "data"


def look(source):
    return inspect(source, max_side=64)[0]


def test_folders_of_equal_names_are_found_with_classes_and_splits(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in NUMBERS:
                picture(tmp_path / "rgb" / split / name / f"{number}.png", number)
                picture(tmp_path / "depth" / split / name / f"{number}_depth.png", number, channels=1)
    source = open_source(tmp_path, None)
    assert kinds_of(source.modality) == {"rgb": "image", "depth": "image"}
    assert len(source.items) == 16
    assert {(item.label, item.split) for item in source.items} == {
        (label, split) for label in ("cat", "dog") for split in ("train", "test")
    }
    assert source.items[0].name.endswith("0.png")
    assert all(len(source.raw(i)) == 2 for i in range(16))


def test_folders_of_classes_with_equal_names_are_no_parts(tmp_path):
    for name in ("cat", "dog"):
        for number in NUMBERS:
            picture(tmp_path / name / f"{number}.png", number)
    source = open_source(tmp_path, None)
    assert source.modality.text == "image"
    assert len(source.items) == 8
    asked = open_source(tmp_path, "multimodal")  # but they are, where that is said
    assert kinds_of(asked.modality) == {"cat": "image", "dog": "image"}


def test_images_beside_their_masks_stay_images_unless_several_kinds_are_asked_for(tmp_path):
    for number in NUMBERS:
        picture(tmp_path / "images" / f"{number}.png", number)
        picture(tmp_path / "masks" / f"{number}.png", number, channels=1)
    assert open_source(tmp_path, None).modality.text == "image"
    assert kinds_of(open_source(tmp_path, "multimodal").modality) == {"images": "image", "masks": "classes"}


def test_folders_of_different_kinds_are_found_whatever_their_names(tmp_path):
    for number in NUMBERS:
        picture(tmp_path / "front" / f"{number}.png", number)
        tone(tmp_path / "left" / f"{number}.wav", number)
    modality = open_source(tmp_path, None).modality
    assert kinds_of(modality) == {"front": "image", "left": "audio"}
    assert "rate=4000" in modality.text


@pytest.mark.parametrize("shared", [0, 1])
def test_folders_called_like_parts_that_share_too_few_names_are_said(shared, tmp_path):
    for number in NUMBERS:
        picture(tmp_path / "rgb" / f"{number}.png", number)
        picture(tmp_path / "depth" / f"{number if number < shared else number + 100}.png", number, channels=1)
    source = open_source(tmp_path, None)
    assert source.modality.text == "image"
    [remark] = [remark for remark in source.remarks if "called as parts of samples" in remark]
    assert "rgb has 0, 1" in remark
    assert "each file is a sample of its own" in remark
    for asked in ("image", "multimodal(rgb=image, depth=image)" if shared else "image"):
        assert not [remark for remark in open_source(tmp_path, asked).remarks if "called as parts" in remark]


def test_folders_of_parts_and_of_classes_are_not_said_to_be_unpaired(pairs, tmp_path):
    for folder in ("cat", "dog", "images", "masks"):
        picture(tmp_path / folder[:3] / "classes" / folder / f"{folder}.png", 1)
    for place in (pairs, tmp_path / "cat", tmp_path / "ima"):
        assert not [remark for remark in open_source(place, None).remarks if "called as parts" in remark]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: shutil.rmtree(root / "depth"), "here is 1 folder"),
        (lambda root: [path.rename(path.with_name(f"z{path.name}")) for path in (root / "depth").iterdir()], "share"),
        (lambda root: (root / "pairs.csv").write_text("rgb\nrgb/0.png"), "names files of rgb; it has a column"),
    ],
    ids=["one part", "no common names", "a table of one part"],
)
def test_what_makes_no_samples_of_several_kinds_is_refused_with_the_layout(change, message, pairs):
    change(pairs)
    with pytest.raises(UserError, match=message):
        open_source(pairs, "multimodal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("multimodal(rgb=image)", "two parts or more"),
        ("multimodal(rgb=image, depth=imago)", "did you mean 'image'"),
        ("multimodal(rgb=image, depth=5)", "is the kind of a part"),
        ("multimodal(rgb=image, depth=image, size=30, patch=8)", "nearest is 32"),
        ("multimodal(rgb=image, sound=audio)", "no sample here has two of the parts rgb, sound: there is rgb"),
    ],
)
def test_texts_that_cannot_work_are_refused(text, message, pairs):
    with pytest.raises((UserError, DataError), match=message):
        open_source(pairs, text)


def test_two_files_of_one_name_and_strays_are_said_and_the_first_counts(pairs):
    picture(pairs / "rgb" / "0.jpg", 9)
    picture(pairs / "other" / "0.png", 9)
    source = open_source(pairs, "multimodal(rgb=image, depth=image)")
    assert len(source.items) == 4
    said = " ".join(source.remarks)
    assert "two files of one name" in said
    assert "nothing says which part they are: other/0.png" in said


def test_a_broken_part_is_listed_and_its_sample_goes_on_with_the_others(pairs, tmp_path):
    path = pairs / "depth" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    (pairs / "depth" / "2.png").unlink()
    (pairs / "rgb" / "3.png").write_bytes(b"")
    (pairs / "depth" / "3.png").write_bytes(b"")
    source = open_source(pairs, "multimodal")
    sheet = look(source)
    assert sheet.num_good == 3
    assert [(name, reason.split(":")[0]) for _, name, reason in sheet.lost] == [("1.png", "depth")]
    assert [name for _, name, _ in sheet.bad] == ["3.png"]
    assert sheet.notes["without depth"] == 1
    write_bad_files(tmp_path / "bad.txt", [*sheet.bad, *sheet.lost])
    assert "1.png\tdepth: " in (tmp_path / "bad.txt").read_text()
    assert views(source.modality, source.modality.whole(())(decoded(source, 1).content))["depth"].isnan().all()


def test_images_of_one_sample_are_cropped_and_mirrored_alike_also_where_one_is_smaller(tmp_path):
    for number in NUMBERS:
        path = picture(tmp_path / "rgb" / f"{number}.png", number, size=(64, 48))
        image = Image.open(path)
        (tmp_path / "depth").mkdir(exist_ok=True)
        image.resize((24, 32), Image.Resampling.NEAREST).save(tmp_path / "depth" / f"{number}.png")
    source = open_source(tmp_path, "multimodal(rgb=image, depth=image, size=16, patch=8)")
    modality, content = source.modality, decoded(source).content
    content = type(content)(dict.fromkeys(content.contents, content.contents["rgb"]), 0)  # the same in both
    crop = modality.window("random", (), 0.2, True, "exact")
    for seed in range(8):
        rgb, depth = (
            modality.layout.raw(i, view)
            for i, view in enumerate(views(modality, crop(content, torch.Generator().manual_seed(seed))).values())
        )
        torch.testing.assert_close(rgb, depth, atol=0.05, rtol=0)


def test_images_of_other_shapes_than_the_first_of_their_sample_are_left_out(pairs):
    picture(pairs / "depth" / "1.png", 5, size=(32, 24), channels=1)
    sheet = look(open_source(pairs, "multimodal"))
    assert [name for _, name, _ in sheet.lost] == ["1.png"]
    assert "depth: is of another shape than rgb, 32 x 24 and 24 x 32" in sheet.lost[0][2]


def test_maps_of_classes_keep_whole_numbers_in_the_places_of_their_image(tmp_path):
    for number in NUMBERS:
        picture(tmp_path / "image" / f"{number}.png", number)
        ids = np.random.default_rng(number).integers(0, 5, (24, 32)).astype(np.uint8)
        ids[:4] = 255
        (tmp_path / "mask").mkdir(exist_ok=True)
        Image.fromarray(ids).save(tmp_path / "mask" / f"{number}.png")
    source = open_source(tmp_path, "multimodal(image=image, mask=classes, size=16, patch=8)")
    modality = source.modality
    assert modality.parts[1].classes == 5
    crop = modality.window("random", (), 0.2, True, "exact")
    seen = views(modality, crop(decoded(source).content, torch.Generator().manual_seed(1)))["mask"]
    assert set(seen.nan_to_num().unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    Image.fromarray(np.full((24, 32), 9, dtype=np.uint8)).save(tmp_path / "mask" / "0.png")
    assert "holds the class 9, and there are 5" in decoded(source).lost[0]


def test_a_file_whose_part_nothing_tells_is_refused_and_one_of_the_only_fitting_kind_is_taken(tmp_path, pairs):
    text = open_source(pairs, "multimodal").modality.text
    photo = picture(tmp_path / "elsewhere" / "photo.png", 1)
    sheet = look(open_source(photo, text))
    assert "nothing says which part it is" in sheet.bad[0][2]
    for number in NUMBERS:
        tone(pairs / "sound" / f"{number}.wav", number)
    text = open_source(pairs, "multimodal(rgb=image, sound=audio)").modality.text
    assert look(open_source(photo, text)).notes == {"without sound": 1}


def test_sizes_of_parts_are_refused_where_sizes_of_images_stand(pairs):
    source = open_source(pairs, None)
    modality, sheet = source.modality, look(source)
    for given in ({"patch": 8}, {"patch": None, "size": (64,)}):
        with pytest.raises(UserError, match="stand in the text of the modality"):
            modality.choices(sheet, small=True, **given)
    assert make_modality(modality.text).layout == modality.layout


def test_archives_are_refused_with_a_remedy(pairs, tmp_path):
    shutil.make_archive(str(tmp_path / "data"), "zip", pairs)
    with pytest.raises(UserError, match="unpack them"):
        open_source(tmp_path / "data.zip", "multimodal(rgb=image, depth=image)")
    assert Sorting("multimodal").name == "multimodal"


def test_a_part_that_no_sample_has_is_named_with_what_to_do(pairs):
    text = "multimodal(rgb=image, depth=image, sound=audio(rate=4000), size=16, patch=8)"
    with pytest.raises(DataError, match=r"no sample that was looked at has the part sound: .*leave sound out"):
        open_source(pairs, text)


def test_empty_files_of_every_part_are_listed_where_the_parts_are_told(pairs, tmp_path):
    for number in NUMBERS:
        tone(pairs / "sound" / f"{number}.wav", number)
    (pairs / "sound" / "1.wav").write_bytes(b"")
    (pairs / "rgb" / "2.png").write_bytes(b"")
    text = "multimodal(rgb=image, depth=image, sound=audio(rate=4000, seconds=0.25, bands=16), size=16, patch=8)"
    for asked in (text, None):
        source = open_source(pairs, asked)
        assert source.ignored == 0
        assert [(name, why) for _, name, why in look(source).lost] == [
            ("1.png", "sound: empty file"),
            ("2.png", "rgb: empty file"),
        ]
