"""Which kind of data a place holds, where it holds several."""

import shutil

import pytest
from support.sampling import write_clip, write_image, write_recording, write_volume

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
