"""Tables that name the files of samples of several parts."""

import pytest
from support.joint_samples import NUMBERS, decoded, kinds_of, picture, tone, views

from unmask.data.source import open_source
from unmask.errors import UserError


def test_a_table_names_the_files_of_samples_with_gaps_labels_and_splits(tmp_path):
    for number in NUMBERS:
        picture(tmp_path / "a" / f"{number}.png", number)
        tone(tmp_path / "b" / f"x{number}.wav", number)
    rows = ["photo,noise,label,split"]
    rows += [f"a/{n}.png,{'' if n == 1 else f'b/x{n}.wav'},{'even' if n % 2 == 0 else 'odd'},train" for n in NUMBERS]
    (tmp_path / "pairs.csv").write_text("\n".join([*rows, ",,odd,train"]))
    source = open_source(tmp_path, None)
    assert kinds_of(source.modality) == {"photo": "image", "noise": "audio"}
    assert [item.label for item in source.items] == ["even", "odd", "even", "odd"]
    assert {item.split for item in source.items} == {"train"}
    assert any("pairs.csv: 1 row" in remark for remark in source.remarks)
    assert any("noise is missing in 1 sample of 4" in remark for remark in source.remarks)
    x = source.modality.whole(())(decoded(source, 1).content)
    parts = views(source.modality, x)
    assert parts["noise"].isnan().all()
    assert parts["photo"].isfinite().all()
    alone = open_source(tmp_path / "b" / "x2.wav", source.modality.text)  # a file stands for its sample
    assert [name.rsplit("/", 1)[1] for name in alone.raw(0)] == ["2.png", "x2.wav"]


def table_of(folder, content, name="pairs.csv"):
    for number in NUMBERS:
        picture(folder / "a" / f"{number}.png", number)
        tone(folder / "b" / f"x{number}.wav", number)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", ",;\t")
def test_a_table_is_read_as_spreadsheets_write_it(encoding, separator, tmp_path):
    rows = [["photo", "noise", "label"], *([f"a/{n}.png", f"b/x{n}.wav", '"two\nlines"'] for n in NUMBERS)]
    table_of(tmp_path, "\r\n".join(separator.join(row) for row in rows).encode(encoding))
    source = open_source(tmp_path, None)
    assert len(source.items) == len(NUMBERS)
    assert kinds_of(source.modality) == {"photo": "image", "noise": "audio"}
    assert {item.label for item in source.items} == {"two\\nlines"}


def test_a_table_is_not_judged_by_its_first_row_and_says_which_files_are_not_there(tmp_path):
    rows = ["photo,noise", "a/0.png,b/gone.wav", *(f"a/{n}.png,b/x{n}.wav" for n in NUMBERS)]
    table_of(tmp_path, "\n".join(rows).encode())
    assert kinds_of(open_source(tmp_path, None).modality) == {"photo": "image", "noise": "audio"}
    (tmp_path / "pairs.csv").write_text("\n".join(rows[:2]))
    with pytest.raises(
        UserError, match=r"names files of photo; what the files of noise \(b/gone\.wav\) are is not known"
    ):
        open_source(tmp_path, None)


def test_a_table_of_samples_with_another_name_is_named(tmp_path):
    table_of(tmp_path, b"photo,noise\na/0.png,b/x0.wav\n", "samples.csv")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    text = "multimodal(a=image, b=audio(rate=4000, seconds=0.25, bands=16), size=16, patch=8)"
    with pytest.raises(UserError, match=r"files of one sample have one name; samples\.csv names files of samples"):
        open_source(tmp_path, text)
    (tmp_path / "b" / "x0.wav").rename(tmp_path / "b" / "0.wav")
    (tmp_path / "samples.csv").write_text("photo,noise\na/0.png,b/0.wav\n")
    source = open_source(tmp_path, text)
    said = [remark for remark in source.remarks if ".csv" in remark]
    assert said == ["samples.csv names files of samples and is not read: call it pairs.csv"]
