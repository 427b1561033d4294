"""Copies: the same file, the same pixels and near copies are found with their leaks; unrelated images are not."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from support.photos import photo

from unmask.data.codecs.decode import decode
from unmask.data.source import open_source
from unmask.tasks.retrieval.duplicates import find_copies, write_copies
from unmask.tasks.retrieval.index import open_index
from unmask.tasks.retrieval.likeness import thumbnail, tiny_image


@pytest.fixture
def copied(labelled):
    """32 photographs of two classes and splits; of the first in train/red: the same file twice in test/blue, the same
    pixels in another format, and a smaller JPEG of it; of another a brighter one."""
    first = labelled / "train" / "red" / "000.png"
    shutil.copy(first, labelled / "test" / "blue" / "copy.png")
    shutil.copy(first, labelled / "test" / "blue" / "again.png")
    Image.open(first).save(labelled / "train" / "red" / "lossless.bmp")
    Image.open(first).resize((40, 30), Image.Resampling.BILINEAR).save(labelled / "train" / "red" / "s.jpg", quality=60)
    second = np.asarray(Image.open(labelled / "train" / "blue" / "004.png")) * 0.8 + 30
    Image.fromarray(second.astype(np.uint8)).save(labelled / "train" / "blue" / "brighter.png")
    return labelled


@pytest.mark.parametrize("by", ["pixels", "features"])
def test_copies_of_every_kind_are_grouped_and_others_are_not(encoder, copied, tmp_path, by):
    source = open_source(copied)
    index = open_index(tmp_path / "index", encoder, source)
    if by == "features":  # of an encoder that knows its trade
        index.features = 5 + index.tiny.astype(np.float32)
        index.tiny = np.zeros_like(index.tiny)
    found = find_copies(index, source, by)
    assert found.count == 45
    assert [len(group.members) for group in found.groups] == [5, 2]
    group = found.groups[0]
    kinds = {member.path: member.kind for member in group.members}
    assert kinds == {
        "test/blue/again.png": "first",
        "test/blue/copy.png": "same file",
        "train/red/000.png": "same file",
        "train/red/lossless.bmp": "same pixels",
        "train/red/s.jpg": "near",
    }
    assert group.leak
    assert group.mixed
    assert found.leaked == ["test/blue/again.png", "test/blue/copy.png"]
    said = " ".join(write_copies(found, index, source, tmp_path))
    assert "2 val or test images have a copy or near copy in train" in said
    assert "2 are the same file, 1 have the same pixels" in said
    with open(tmp_path / "duplicates.csv", encoding="utf-8", newline="") as file:
        table = {row["path"]: row for row in csv.DictReader(file)}
    assert float(table["train/red/s.jpg"]["similarity"]) < 1
    assert table["train/red/s.jpg"]["leak"] == table["train/red/s.jpg"]["labels_differ"] == "yes"
    page = (tmp_path / "duplicates.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == len(table)
    assert [member.path for member in found.groups[1].members] == ["train/blue/004.png", "train/blue/brighter.png"]
    assert not found.groups[1].leak
    assert "train/blue/brighter.png" in page
    if by == "pixels":
        strict = find_copies(index, source, threshold=1.0)
        assert [len(group.members) for group in strict.groups] == [4, 2]  # brightness and contrast do not matter
        loose = find_copies(index, source, threshold=0.2)
        assert max(len(group.members) for group in loose.groups) > 20


def test_without_copies_old_images_of_them_go(encoder, photos, tmp_path):
    source = open_source(photos)
    index = open_index(tmp_path / "index", encoder, source)
    (tmp_path / "duplicates.html").write_text("old")
    found = find_copies(index, source)
    assert found.groups == []
    said = write_copies(found, index, source, tmp_path)
    assert said[0].endswith("images: no copies and no near copies")
    assert "the most similar pair below that" in said[-2]
    assert not (tmp_path / "duplicates.html").exists()
    assert len((tmp_path / "duplicates.csv").read_text().splitlines()) == 1


def test_looks_ignore_encoding_and_plain_images_look_like_nothing():
    image = decode(photo(3, 300, 400)).pixels
    small = decode(thumbnail(image, 100, quality=50)).pixels
    assert float(tiny_image(image) @ tiny_image(small)) > 0.99
    assert float(tiny_image(image) @ tiny_image(decode(photo(4, 300, 400)).pixels)) < 0.6
    assert float(tiny_image(image.float() * 7 - 900) @ tiny_image(image)) > 0.95  # deep images, on a scale of their own
    assert not tiny_image(decode(np.full((20, 30, 3), 200, np.uint8)).pixels).any()
