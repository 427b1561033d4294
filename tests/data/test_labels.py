"""Labels and splits: how they are found in folders, tables and arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sourcemaking import png, shades, write, zipped

from unmask.data.labels import arrange, natural, printable
from unmask.data.source import open_source
from unmask.data.sources.archive import Archive
from unmask.data.sources.folder import Folder
from unmask.errors import DataError

# Labels and splits


def arranged(*paths, table=None):
    table = [] if table is None else [("labels.csv", table.encode())]
    layout = arrange(paths, table)
    return [(item.label, item.split) for item in layout.items], layout.remarks


def test_class_folders_are_labels_only_if_all_images_lie_in_one_and_there_are_two():
    assert arranged("cat/1.png", "dog/1.png")[0] == [("cat", None), ("dog", None)]
    assert arranged("cat/1.png", "cat/2.png")[0] == [(None, None)] * 2
    both = [("cat", "train"), ("dog", "test"), ("dog", "train")]
    assert sorted(arranged("Training/cat/1.png", "Training/dog/1.png", "Testing/dog/2.png")[0]) == both
    assert arranged("cat/1.png", "dog/1.png", "3.png")[0] == [(None, None)] * 3
    assert arranged("train/cat/1.png", "test/cat/1.png")[0] == [(None, "train"), (None, "test")]
    assert arranged("cat/a/1.png", "dog/b/c/1.png")[0] == [("cat", None), ("dog", None)]


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "VAL"])
def test_split_folders_are_known_by_many_names(name):
    assert arranged("Train/cat/1.png", f"{name}/dog/1.png")[0] == [("cat", "train"), ("dog", "val")]


def test_splits_are_found_below_one_wrapping_folder():
    assert arranged("w/v/train/1.png", "w/v/test/1.png")[0] == [(None, "train"), (None, "test")]


def test_a_class_called_test_is_no_split():
    assert arranged("test/1.png", "cat/1.png", "dog/1.png")[0] == [("test", None), ("cat", None), ("dog", None)]


@pytest.mark.parametrize("inside", ["", "photos/"])
@pytest.mark.parametrize("names", [("bus", "car", "train"), ("bus", "Val"), ("a", "b", "c", "test", "train")])
def test_folders_with_names_of_splits_among_classes_are_classes_and_that_is_said(names, inside):
    layout = arrange([f"{name}/{inside}{i}.png" for name in names for i in range(2)])
    assert [(item.label, item.split) for item in layout.items] == [(name, None) for name in names for _ in range(2)]
    assert "taken for" in layout.remarks[0]


@pytest.mark.parametrize("other", ["masks/1.png", "train_old/1.png", "test/1.png", "1.png"])
def test_a_train_folder_beside_masks_or_loose_images_stays_a_split(other):
    assert arranged("train/1.png", other)[0][0] == (None, "train")


def test_images_outside_the_splits_are_told():
    found, remarks = arranged("train/cat/1.png", "train/dog/1.png", "preview.png")
    assert found == [("cat", "train"), ("dog", "train"), (None, None)]
    assert remarks == ["outside of the train, val and test folders: 1 file"]


def test_labels_csv_wins_over_folders_and_what_does_not_match_is_told():
    table = (
        "id;Filename;CLASS;split\n1;a/1.png;red;train\n2;2.png;blue;valid\n3;gone.png;x;\n4;1.png;y;\n5;a/1.png;z;\n"
    )
    found, remarks = arranged("a/1.png", "b/2.png", "b/1.png", "c/4.png", table=table)
    assert found == [("red", "train"), ("blue", "val"), (None, None), (None, None)]
    assert remarks == [
        "labels.csv: 1 rows match no image: gone.png",
        "labels.csv: 1 rows match several images: 1.png",
        "labels.csv: 1 rows are for an image that has a row already; the first counts: a/1.png",
        "labels.csv: 1 rows match by the file name alone: 2.png is taken for b/2.png",
        "labels.csv: 2 images have no row, so no label: b/1.png, c/4.png",
    ]


def test_up_to_three_rows_that_match_nothing_are_named():
    rows = "".join(f"gone{i}.png,x\n" for i in range(1200))
    _, remarks = arranged("a.png", table="path,label\na.png,y\n" + rows)
    assert remarks == ["labels.csv: 1,200 rows match no image: gone0.png, gone1.png, gone2.png, ..."]


def test_other_columns_of_labels_csv_are_kept_with_their_own_spelling():
    table = "path,Site,label,split,age band,,Site\n1.png, north ,a,train,40-60,x,again\n2.png,,b,test\n"
    layout = arrange(["1.png", "2.png", "3.png"], [("labels.csv", table.encode())])
    assert [item.columns for item in layout.items] == [
        {"Site": "north", "age band": "40-60"},
        {"Site": "", "age band": ""},
        {},
    ]
    assert [(item.label, item.split) for item in layout.items] == [("a", "train"), ("b", "test"), (None, None)]


@pytest.mark.parametrize("column", ["labels", "Classes", "tags"])
def test_a_plural_column_holds_several_labels_and_an_empty_cell_means_none_of_them(column, tmp_path):
    table = f"path,{column}\n1.png,sea | dog|sea\n2.png,\n3.png,sea\n".encode()
    files = shades([f"{i}.png" for i in (1, 2, 3, 4)]) | {"labels.csv": table}
    for source in (Folder(str(write(tmp_path / "f", files))), Archive(str(zipped(tmp_path / "a.zip", files)))):
        assert source.multi_label
        assert [item.label for item in source.items] == ["dog|sea", "", "sea", None]
        assert [source.classes(i) for i in range(4)] == [["dog", "sea"], [], ["sea"], None]


def test_one_name_in_every_row_of_a_plural_column_is_an_ordinary_label():
    layout = arrange(["1.png", "2.png"], [("labels.csv", b"path,labels\n1.png,a\n2.png,b\n")])
    assert (layout.plural, layout.multi_label) == (True, False)
    singular = arrange(["1.png", "2.png"], [("labels.csv", b"path,label,labels\n1.png,a|b,c|d\n2.png,,\n")])
    assert [item.label for item in singular.items] == ["a|b", None]
    assert not singular.multi_label


def test_several_places_must_agree_whether_a_image_has_several_labels(tmp_path):
    tables = {"many": b"path,labels\n0.png,a|b\n", "one": b"path,labels\n0.png,a\n", "single": b"path,label\n0.png,a\n"}
    for name, table in tables.items():
        write(tmp_path / name, {"0.png": png(0), "labels.csv": table})
    write(tmp_path / "bare", {"0.png": png(0)})
    both = open_source([tmp_path / "many", tmp_path / "one", tmp_path / "bare"])
    assert both.multi_label
    assert [both.classes(i) for i in range(3)] == [["a", "b"], ["a"], None]
    with pytest.raises(DataError, match=r"single has one label per image, .*many several"):
        open_source([tmp_path / "many", tmp_path / "single"])


@pytest.mark.parametrize(("key", "names"), [(None, "012"), ("classes", "abc"), ("label_names", "abc")])
def test_a_matrix_of_0_and_1_gives_several_labels_per_image(key, names, tmp_path):
    matrix = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    extra = {} if key is None else {key: np.array(list(names))}
    np.savez(tmp_path / "a.npz", x_train=np.zeros((3, 5, 6)), y_train=matrix, x_test=np.zeros((1, 5, 6)),
             y_test=matrix[:1].astype(float), **extra)  # fmt: skip
    source = open_source(tmp_path / "a.npz")
    assert source.multi_label
    both, second = f"{names[0]}|{names[2]}", names[1]
    assert [item.label for item in source.items] == [both, "", second, both]


def test_a_matrix_with_one_1_in_each_row_is_an_ordinary_label(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 6)), labels=np.eye(2))
    source = open_source(tmp_path / "a.npz")
    assert not source.multi_label
    assert [item.label for item in source.items] == ["0", "1"]


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b|c"]])
def test_names_that_do_not_fit_the_columns_of_labels_are_refused(names, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 5, 6)), labels=np.ones((2, 2)), classes=np.array(names))
    with pytest.raises(DataError, match="classes must name the 2 columns"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("table", ["", "a,b\n1,2\n", "\0\xff", "path\n1.png\n"])
def test_a_labels_csv_that_is_not_understood_is_left_and_told(table):
    found, remarks = arranged("cat/1.png", "dog/2.png", table=table)
    assert found == [("cat", None), ("dog", None)]
    assert "labels.csv is not used" in remarks[0]


def test_labels_csv_is_read_in_folders_and_archives_also_below_a_wrapper(tmp_path):
    files = shades(["w/1.png", "w/2.png"]) | {"w/labels.csv": b"\xef\xbb\xbfname,label\r\n./1.png,A\r\n2.png, B \r\n"}
    for source in (Folder(str(write(tmp_path / "f", files))), Archive(str(zipped(tmp_path / "a.zip", files)))):
        assert [item.label for item in source.items] == ["A", "B"]
        assert source.ignored == 0


@given(st.lists(st.text(alphabet="ab/01.é", min_size=1), max_size=20))
def test_the_order_of_items_does_not_depend_on_where_one_starts(names):
    backwards = names[::-1]
    assert sorted(names, key=natural) == sorted(backwards, key=natural)


def test_numbers_in_names_count_by_value():
    assert sorted(["10.png", "9.png", "a/2.png", "9a.png", "a1/1.png"], key=natural) == [
        *("9.png", "9a.png", "10.png", "a/2.png", "a1/1.png")
    ]


@given(st.text())
def test_printable_names_fit_one_line_of_text(name):
    assert printable(name).isprintable()
    assert not name or printable(name).encode()
    assert printable("bad\udcff\t\n") == r"bad\xff\t\n"


def test_a_labels_csv_is_read_as_spreadsheets_write_it(tmp_path):
    text = '"path";"label"\r\n"cat/1.png";"big\ncat"\r\n"dog/2.png";"dog"\r\n'
    files = shades(["cat/1.png", "dog/2.png"]) | {"labels.csv": text.encode("utf-16")}
    source = Folder(str(write(tmp_path, files)))
    assert [item.label for item in source.items] == ["big\\ncat", "dog"]


def test_masks_that_are_taken_for_images_are_named(tmp_path):
    names = [f"train/{folder}/{number}.png" for folder in ("images", "masks") for number in range(3)]
    source = Folder(str(write(tmp_path / "both", shades(names))))
    assert source.remarks[0].startswith(
        "3 masks beside images of the same names are taken for images, such as train/masks/0.png"
    )
    assert "--modality multimodal" in source.remarks[0]
    others = Folder(
        str(write(tmp_path / "classes", shades(["images/1.png", "images/2.png", "masks/8.png", "masks/9.png"])))
    )
    assert not [remark for remark in others.remarks if "masks" in remark]


def test_remarks_on_tables_call_samples_by_their_word_and_count_one_as_one():
    table = [("labels.csv", b"path,label\na.wav,x\ngone.wav,y\na.wav,z\n")]
    assert arrange(["a.wav", "b.wav"], table, "recording").remarks == [
        "labels.csv: 1 rows match no recording: gone.wav",
        "labels.csv: 1 rows are for a recording that has a row already; the first counts: a.wav",
        "labels.csv: 1 recording has no row, so no label: b.wav",
    ]
    assert arrange(["a.png", "b.png"], [("labels.csv", b"path,label\na.png,x\n")]).remarks == [
        "labels.csv: 1 image has no row, so no label: b.png"
    ]
