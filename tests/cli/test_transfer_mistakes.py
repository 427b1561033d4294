"""What users do wrong with `transfer` and `predict`: one line each, and nothing is left behind."""

# ruff: noqa: F811  (fixtures are imported, and then named as arguments)

import shutil

import pytest
from PIL import Image
from support.photos import photo
from support.small import SMALL
from support.tinting import FAST, data, done, place, run, tinted, write  # noqa: F401

import unmask
from unmask.cli.main import main
from unmask.errors import DataError


def refused(capsys, arguments, out=None, code=2):
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert caught.value.code == code
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert said.count("\n") == 0, said
    if out is not None:
        assert not out.exists()
    return said


def broken_run(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "broken", ignore=shutil.ignore_patterns("classify"))
    (copy / "encoder.safetensors").write_bytes(b"not weights")
    return copy


def unlabelled(tmp_path):
    (tmp_path / "flat").mkdir()
    for seed in range(4):
        Image.fromarray(photo(seed)).save(tmp_path / "flat" / f"{seed}.png")
    return tmp_path / "flat"


MISTAKES = {
    "no folder": (lambda r, d, t: [r, "--on", t / "nothing"], 2, "does not exist"),
    "no labels": (lambda r, d, t: [r, "--on", unlabelled(t)], 3, "labels.csv"),
    "only in test": (lambda r, d, t: [r, "--on", write(t / "x", train=(4, 0), test=(2, 2))], 3, "two classes or more"),
    "one class": (lambda r, d, t: [r, "--on", write(t / "x", all=(4, 0))], 3, "has a label"),
    "one image each": (lambda r, d, t: [r, "--on", write(t / "x", all=(1, 1))], 3, "no class has two labelled"),
    "bad weights": (lambda r, d, t: [broken_run(r, t), "--on", d], 2, "no weights that can be read"),
    "protocol": (lambda r, d, t: [r, "--on", d, "--protocol", "liner"], 2, "did you mean 'linear'"),
    "task": (lambda r, d, t: [r, "--on", d, "--to", "clasify"], 2, "did you mean 'classify'"),
    "pooling": (lambda r, d, t: [r, "--on", d, "--pooling", "meen"], 2, "did you mean 'mean'"),
    "blocks": (lambda r, d, t: [r, "--on", d, "--protocol", "partial", "--blocks", "99"], 2, "--blocks must be"),
    "blocks of full": (lambda r, d, t: [r, "--on", d, "--blocks", "1"], 2, "for --protocol partial"),
    "no run": (lambda r, d, t: [t, "--on", d], 2, "give a run"),
    "no name": (lambda r, d, t: ["vit_nonsense", "--on", d], 2, "vit_nonsense"),
    "recipe": (lambda r, d, t: [r, "--on", d, "--recipe", "mae_vit_base"], 2, "is for unmask pretrain"),
    "randaug": (lambda r, d, t: [r, "--on", d, "--randaug", "nonsense"], 2, "rand-m9-mstd0.5-inc1"),
    "optimizer": (lambda r, d, t: [r, "--on", d, "--optimizer", "adam"], 2, "adamw"),
    "no data": (lambda r, d, t: [r], 2, "labelled data"),
    "pooled twice": (lambda r, d, t: [r, "--on", d, "--protocol", "attentive", "--pooling", "cls"], 2, "own pooling"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_line_and_leave_nothing(mistake, run, data, tmp_path, capsys):
    arguments, code, says = MISTAKES[mistake]
    out = tmp_path / "out"
    common = ["--out", out, "--device", "cpu", "--precision", "32", "--batch", "8", "--epochs", "1"]
    assert says in refused(capsys, ["transfer", *arguments(run, data, tmp_path), *common], out, code)


def test_a_class_that_train_lacks_is_named(run, tmp_path, capsys):
    on = write(tmp_path / "x", train=(4, 4), test=(2, 2))
    (on / "test" / "green").mkdir()
    Image.fromarray(photo(5)).save(on / "test" / "green" / "a.png")
    common = ["--device", "cpu", "--precision", "32", "--out", tmp_path / "out"]
    said = refused(capsys, ["transfer", run, "--on", on, *common], tmp_path / "out", 3)
    assert "green (1)" in said


def test_one_image_per_class_is_learnt_where_there_is_a_test_split(run, tmp_path):
    on = write(tmp_path / "x", train=(1, 1), test=(2, 2))
    found = unmask.transfer(run, on=on, out=tmp_path / "out", epochs=2, device="cpu", precision="32", randaug="off")
    assert found.metrics["test"]["count"] == 4


def test_a_folder_with_other_content_and_rows_without_files(run, data, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    said = refused(capsys, ["transfer", run, "--on", data, "--out", tmp_path / "out"])
    assert "something else" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]

    on = tmp_path / "table"
    on.mkdir()
    rows = ["path,label"]
    for i in range(16):
        Image.fromarray(tinted(i % 2, i)).save(on / f"{i}.png")
        rows.append(f"{i}.png,{'blue' if i % 2 == 0 else 'red'}")
    (on / "labels.csv").write_text("\n".join([*rows, "gone.png,red"]))
    assert unmask.transfer(run, on=on, out=tmp_path / "t", dry_run=True, **FAST) is None
    assert "gone.png" in capsys.readouterr().out
    assert not (tmp_path / "t").exists()


def test_predict_refuses_what_is_no_classifier_and_what_is_no_image(done, run, data, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("classify"))
    out = tmp_path / "p.csv"
    assert "transfer" in refused(capsys, ["predict", copy, data, "--out", out], out)
    assert "no such file or folder" in refused(capsys, ["predict", tmp_path / "nothing", data, "--out", out], out)
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert "bad.png" in refused(capsys, ["predict", done.path, tmp_path / "bad.png", "--out", out], out, 3)
    assert ".csv" in refused(capsys, ["predict", done.path, data, "--out", tmp_path / "p.txt"], tmp_path / "p.txt")
    with pytest.raises(DataError, match="bad"):
        unmask.load(done.path).predict(tmp_path / "bad.png")


def test_a_class_token_is_asked_of_a_model_without_one(data, photos, tmp_path, capsys):
    small = SMALL | {"model": "vit_medium_patch16_reg4_gap_256(depth=1, embed_dim=48, num_heads=3)"}
    run = unmask.pretrain(photos, out=tmp_path / "run", steps=1, **small).path
    common = ["--on", data, "--device", "cpu", "--precision", "32", "--out", tmp_path / "out"]
    said = refused(capsys, ["transfer", run, "--pooling", "cls", *common], tmp_path / "out")
    assert "no class token" in said
