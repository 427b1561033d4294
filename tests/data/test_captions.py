"""Captions: where they lie, how they are read, and what is said of those that fit nothing."""

import csv
import shutil

import pytest
import torch
from support.captioned import captioned, shard

from unmask.data.captions.table import captions_in, count_captions
from unmask.data.captions.tokenizer import CaptionSettings, CaptionTokenizer, opened_tokenizer, train_tokenizer
from unmask.data.captions.tokens import Captions
from unmask.data.shards.stream import open_stream
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError

SETTINGS = CaptionSettings(vocabulary=300, context=8)


def write(folder, rows, encoding="utf-8", delimiter=","):
    with open(folder / "captions.csv", "w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return open_source(folder)


def told(source):
    return {item.name: captions_in(item.columns) for item in source.items}


@pytest.fixture
def folder(tmp_path):
    captioned(tmp_path / "images", each=1)
    return tmp_path / "images"


def test_a_table_gives_every_image_its_captions(folder):
    source = open_source(folder)
    assert told(source)["red0.png"] == ("a red square", "something red, number 0")
    assert (source.ignored, source.remarks) == (0, [])
    sheet, _ = inspect(source, max_side=32)
    assert sheet.captions == {"images": 3, "captions": 6, "different": 6, "words": 11, "longest": 4}
    assert "6 captions of 3 images; 11 different words" in sheet.text()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_and_separators_are_found_out(folder, encoding, delimiter):
    said = "un carré rouge, très grand; et plat"
    source = write(folder, [("Image", "Caption"), ("red0.png", said)], encoding, delimiter)
    assert told(source)["red0.png"] == (said,)
    guess = {"utf-16": "UTF-16", "cp1252": "no UTF-8"}.get(encoding)
    assert any(guess in remark for remark in source.remarks) if guess else not source.remarks


def test_a_caption_may_hold_the_separator_lines_and_any_script(folder):
    rows = ["file,caption", "red0.png,a square, red, and large", 'blue0.png,"two\nlines"', "green0.png,绿色的正方形"]
    (folder / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    captions = told(open_source(folder))
    assert captions["red0.png"] == ("a square, red, and large",)
    assert captions["blue0.png"] == ("two lines",)
    assert captions["green0.png"] == ("绿色的正方形",)


def test_a_table_without_a_header_is_known_by_its_files(folder):
    assert told(write(folder, [("red0.png", "red"), ("blue0.png", "blue")]))["red0.png"] == ("red",)


def test_what_fits_nothing_is_said_and_counted(folder):
    rows = [
        ("file", "caption"),
        ("gone.png", "a ghost"),
        ("red0.png", " "),
        ("blue0.png", "blue"),
        ("blue0.png", "blue"),
    ]
    source = write(folder, rows)
    remarks = "\n".join(source.remarks)
    assert "1 caption is for images that are not there: gone.png" in remarks
    assert "1 caption is empty: red0.png" in remarks
    assert told(source) == {"red0.png": (), "blue0.png": ("blue",), "green0.png": ()}
    assert "1 caption of 1 image, 2 have none" in inspect(source, max_side=32)[0].text()


def test_a_table_of_other_columns_is_not_used_and_says_why(folder):
    (remark,) = write(folder, [("file", "price"), ("red0.png", "3")]).remarks
    assert "captions.csv is not used: its columns are file, price; it needs one of" in remark


def test_tables_lie_in_folders_too_and_make_no_signals(tmp_path):
    for part in ("train", "test"):
        captioned(tmp_path / "data" / part, each=1)
    source = open_source(tmp_path / "data", None)
    assert len(source.items) == 6
    assert told(source)["test/blue0.png"][0] == "a blue square"


def test_captions_that_change_make_other_data(folder):
    before = inspect(open_source(folder), max_side=32)[0].fingerprint
    after = inspect(write(folder, [("file", "caption"), ("red0.png", "crimson")]), max_side=32)[0].fingerprint
    assert before != after


@pytest.mark.parametrize(("text", "second"), [("txt", ()), ("json", ("it is red",))])
def test_shards_hold_text_beside_each_image(tmp_path, text, second):
    path = shard(tmp_path / "a.tar", each=1, text=text)
    source = open_source(path)
    assert told(source)["000.png"] == ("a red square", *second)
    assert source.ignored == 0
    (tmp_path / "shards").mkdir()
    shutil.move(path, tmp_path / "shards" / "a.tar")
    samples = [sample for _, sample in open_stream(tmp_path / "shards")]
    assert captions_in(samples[0].columns) == ("a red square", *second)


def test_boxes_beside_images_are_no_captions(tmp_path):
    from unmask.data.captions.table import beside_images

    contents = {"a.txt": b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.3", "b.txt": b"two 2 dogs"}
    assert beside_images(["a.jpg", "b.jpg", "c.jpg"], contents, contents.__getitem__) == {"b.jpg": "two 2 dogs"}


def test_a_tokenizer_is_a_function_of_the_captions_and_writes_every_text():
    texts = ["a red square", "a blue square", "a red circle"] * 4
    first, second = train_tokenizer(texts, SETTINGS), train_tokenizer(texts[::-1], SETTINGS)
    assert first.json == second.json
    again = opened_tokenizer(first.json, 8, "here")
    rows = again(["A RED square", "a red square", "", "Ω 漢字 🙂"])
    assert torch.equal(rows[0], rows[1])
    assert rows[2].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert 258 < again.size <= 300
    assert rows.max() < again.size
    assert again.long(["a red square", "a red square " * 9]) == ["a red square " * 9]
    assert again(["a red square " * 9])[0, -1] == 1  # the end stays
    with pytest.raises(UserError, match="here holds no tokenizer"):
        opened_tokenizer("{}", 8, "here")
    with pytest.raises(UserError, match="258 tokens"):
        CaptionSettings(vocabulary=100, context=8)


def test_one_caption_of_each_image_is_drawn_and_none_is_zeros():
    tokens = Captions([("red", "crimson"), (), ("blue",)]).tokens(SETTINGS)
    rows = {tuple(tokens.draw(0, torch.Generator().manual_seed(seed)).tolist()) for seed in range(20)}
    assert len(rows) == 2
    assert not tokens.draw(1, torch.Generator()).any()
    batch = tokens.drawn(torch.tensor([0, 1, 2, 2]), torch.tensor([0.99, 0.5, 0.0, 0.999]))
    assert torch.equal(batch[2], batch[3])
    assert not Captions([()]).tokens(SETTINGS).draw(0, torch.Generator()).any()


def test_nothing_is_counted_where_no_image_has_a_caption(folder):
    (folder / "captions.csv").unlink()
    assert count_captions(open_source(folder).items) == {}


def test_a_tokenizer_goes_along_to_other_processes():
    import pickle

    tokenizer = train_tokenizer(["a red square"] * 3, SETTINGS)
    copy: CaptionTokenizer = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(copy(["red"]), tokenizer(["red"]))
