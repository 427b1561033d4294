"""Which kind of data a place holds, where it holds several."""

import re
import shutil
import subprocess
import sys
import zipfile

import nibabel as nib
import numpy as np
import pytest
from support.sampling import write_clip, write_image, write_recording, write_scene, write_volume

from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import DataError, UserError


@pytest.fixture
def mixed(tmp_path):
    """Two images, three clips, a text."""
    folder = tmp_path / "telephone"
    folder.mkdir()
    for number in range(2):
        write_image(folder / f"photo{number}", 0, number)
    for number in range(3):
        write_clip(folder / f"clip{number}", 0, number)
    (folder / "notes.txt").write_text("nothing")
    return folder


def test_the_kind_that_most_files_are_of_is_taken_and_the_others_are_counted(mixed):
    source = open_source(mixed, None)
    assert (source.modality.word, len(source.items), source.ignored) == ("clip", 3, 3)
    assert any("left out: 2 images" in remark and "--modality image" in remark for remark in source.remarks)


def test_a_kind_that_is_asked_for_overrules_the_count(mixed):
    assert len(open_source(mixed, "image").items) == 2
    with pytest.raises(DataError, match="no recordings in"):
        open_source(mixed, "audio")
    with pytest.raises(UserError, match="vidoe"):
        open_source(mixed, "vidoe")


def test_a_tie_is_a_question(mixed):
    write_image(mixed / "photo2", 0, 2)
    with pytest.raises(UserError, match="3 each: say which are meant with --modality video or --modality image"):
        open_source(mixed, None)


def test_a_file_is_what_its_first_bytes_say(tmp_path):
    path = write_clip(tmp_path / "one", 0, 0)
    shutil.move(path, tmp_path / "holiday.jpg")
    assert open_source(tmp_path, None).modality.word == "clip"


def test_a_folder_of_frames_is_a_clip_where_clips_are_asked_for(tmp_path):
    for number in range(4):
        (tmp_path / "walk").mkdir(exist_ok=True)
        write_image(tmp_path / "walk" / f"{number}", 0, number)
    assert open_source(tmp_path, None).modality.word == "image"
    source = open_source(tmp_path, "video")
    assert [item.name for item in source.items] == ["walk"]
    assert source.modality.decode(source.raw(0)).size == (4, 24, 24)


def test_photographs_beside_clips_are_no_frames(mixed):
    source = open_source(mixed, "video")
    assert [item.name for item in source.items] == ["clip0.mp4", "clip1.mp4", "clip2.mp4"]
    assert any("left out: 2 images beside clips" in remark for remark in source.remarks)


def test_maps_of_labels_are_no_volumes_to_learn_from(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            write_volume(tmp_path / folder / f"{number}", 0, number)
    source = open_source(tmp_path, None)
    assert [item.name for item in source.items] == ["images/0.nii.gz", "images/1.nii.gz"]
    assert any("2 maps of labels" in remark for remark in source.remarks)


def test_places_with_different_kinds_are_refused(mixed, tmp_path):
    (tmp_path / "sounds").mkdir()
    write_recording(tmp_path / "sounds" / "a", 0, 0)
    with pytest.raises(UserError, match="different kinds of data"):
        open_source([mixed, tmp_path / "sounds"], None)


@pytest.mark.parametrize(
    ("write", "name", "word"),
    [
        (write_clip, "broken.mp4", "clip"),
        (write_recording, "broken.wav", "recording"),
        (write_volume, "b.nii", "volume"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"hello " * 100])
def test_files_that_only_their_names_know_are_bad_ones(tmp_path, write, name, word, content):
    """Not files of no kind, which nobody would miss."""
    for number in range(2):
        write(tmp_path / f"good{number}", 0, number)
    (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("nothing")
    source = open_source(tmp_path, None)
    assert (source.modality.word, len(source.items), source.ignored) == (word, 3, 1)
    assert not source.other_kinds
    sheet, _ = inspect(source, max_side=64)
    assert [bad for _, bad, _ in sheet.bad] == [name]


def test_an_unknown_tiff_is_an_image_beside_images_and_a_scene_beside_scenes(tmp_path):
    for number in range(2):
        write_image(tmp_path / f"photo{number}", 0, number)
    (tmp_path / "empty.tif").touch()
    assert len(open_source(tmp_path, None).items) == 3
    for number in range(4):
        write_scene(tmp_path / f"scene{number}", 0, number)
    source = open_source(tmp_path, None)
    assert (source.modality.word, len(source.items), source.ignored) == ("scene", 5, 2)
    assert any("left out: 2 images" in remark for remark in source.remarks)


def test_a_clip_that_is_called_an_image_is_taken_beside_other_clips(mixed):
    shutil.move(mixed / "clip0.mp4", mixed / "clip0.jpg")
    names = ["clip0.jpg", "clip1.mp4", "clip2.mp4"]
    assert [item.name for item in open_source(mixed, None).items] == names
    assert [item.name for item in open_source(mixed, "video").items] == names


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_pairs_of_nifti_are_volumes_that_say_what_to_do(kind, tmp_path):
    write_volume(tmp_path / "good", 0, 1)
    nib.save(kind(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "pair.hdr")
    source = open_source(tmp_path, None)
    assert (source.modality.word, len(source.items), source.ignored) == ("volume", 2, 1)
    assert not source.other_kinds
    (_, name, why), *_ = inspect(source, max_side=64)[0].bad
    assert (name, "in two files" in why) == ("pair.hdr", True)
    command = re.search(r'-c "(.*)"', why)[1]
    (tmp_path / "a.hdr").write_bytes((tmp_path / "pair.hdr").read_bytes())
    (tmp_path / "a.img").write_bytes((tmp_path / "pair.img").read_bytes())
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert inspect(open_source(tmp_path / "a.nii", None), max_side=64)[0].num_good == 1


def test_analyze_is_a_volume_that_cannot_be_used(tmp_path):
    nib.save(nib.AnalyzeImage(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "old.hdr")
    sheet = inspect(open_source(tmp_path, None), max_side=64)[0]
    assert "Analyze 7.5" in sheet.bad[0][2]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.WAV", b"RIFF0000WAVE", "recording"),
        ("scan", bytes(128) + b"DICM", "volume"),
        ("cloud.ply", b"ply\n", "cloud"),
    ],
)
def test_what_is_read_elsewhere_is_called_by_its_own_word_where_images_are_wanted(name, content, word, tmp_path):
    root = tmp_path / "d"
    root.mkdir()
    (root / name).write_bytes(content)
    (root / "notes.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(root / name, name)
    for place in (root, tmp_path / "d.zip"):
        with pytest.raises(DataError, match=f"it holds 1 {word}$"):
            open_source(place)
    write_image(root / "b.png", 0, 0)
    assert f"left out: 1 {word}" in open_source(root).remarks
