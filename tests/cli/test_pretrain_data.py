"""`pretrain` on bad files, deep and odd images, and with options that are wrong."""

import os

import numpy as np
import pytest
from support.small import SMALL

import unmask
from unmask.data import sheet
from unmask.errors import DataError

SMALL = SMALL | {"log_every": 1, "save_every": 4, "matmul": "default"}  # else chosen by a measurement in each process


def test_bad_files_are_listed_and_do_not_stop_a_run(photos, tmp_path):
    (photos / "empty.jpg").write_bytes(b"")
    run = unmask.pretrain(photos, out=tmp_path / "run", steps=2, **SMALL)
    assert "empty.jpg\tempty file" in (run.path / "bad_files.txt").read_text()
    assert run.config.data.count == 24


def test_too_many_bad_files_are_one_clear_error_before_training(photos, tmp_path):
    for number in range(3):
        (photos / f"bad{number}.jpg").write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"3 of 27 .*more than 5%"):
        unmask.pretrain(photos, out=tmp_path / "run", steps=2, **SMALL)
    assert not (tmp_path / "run").exists()
    assert unmask.pretrain(photos, out=tmp_path / "run", steps=2, max_bad=0.2, **SMALL).finished


def test_an_image_that_breaks_during_training_is_replaced_and_listed(photos, tmp_path, monkeypatch):
    import unmask.planning.inspect_data as module

    inspect = sheet.inspect

    def then_break(*args, **kwargs):
        sheet, _ = inspect(*args, **kwargs)
        (photos / "005.png").write_bytes(b"broken meanwhile")
        return sheet, {}

    monkeypatch.setattr(module, "inspect", then_break)
    run = unmask.pretrain(photos, out=tmp_path / "run", steps=6, **SMALL)
    assert "005.png\tnot an image" in (run.path / "bad_files.txt").read_text()


def test_sixteen_bit_many_band_arrays_train_at_full_precision(tmp_path):
    rng = np.random.default_rng(0)
    images = (rng.random((20, 32, 32, 5)) * 0.5 + np.linspace(0, 9000, 32)[:, None, None]).astype(np.float32)
    np.save(tmp_path / "bands.npy", images)
    run = unmask.pretrain(tmp_path / "bands.npy", out=tmp_path / "run", steps=2, **SMALL)
    assert run.config.data.channels == 5
    assert run.config.data.mean[0] == pytest.approx(images[..., 0].mean(), rel=1e-3)
    assert unmask.show(run.path, tmp_path / "bands.npy", out=tmp_path / "panel.png", most=2).exists()


@pytest.mark.slow
def test_one_grey_image_and_hiera_and_every_mask_work(tmp_path, photos):
    small = {k: v for k, v in SMALL.items() if k not in ("model", "patch_size", "image_size")}
    run = unmask.pretrain(photos, out=tmp_path / "hiera", model="hiera_tiny_224", image_size=(64, 96), steps=1, **small)
    assert run.config.model.patch_size == 32
    for mask in ("block", "grid", "blob(ratio=0.5)"):
        assert unmask.pretrain(photos, out=tmp_path / mask[:4], mask=mask, steps=1, **SMALL).finished


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pretrian"], 2, "did you mean 'pretrain'"),
        (["pretrain"], 2, "say on which images"),
        (["pretrain", "/no/such/folder"], 2, "does not exist"),
        (["pretrain", "demo", "--epochs", "1", "--steps", "3"], 2, "give one of"),
        (["pretrain", "demo", "--epoch", "1"], 2, "--epochs"),
        (["pretrain", "demo", "--batch", "0"], 2, "above 0"),
        (["pretrain", "demo", "--mask", "blok"], 2, "did you mean 'block'"),
        (["pretrain", "demo", "--model", "resnet50"], 2, "Hiera"),
        (["pretrain", "demo", "--method", "mea"], 2, "did you mean 'mae'"),
        (["pretrain", "demo", "--device", "tpu"], 2, "cuda"),
        (["pretrain", "--config", "nothing.json"], 2, "nothing.json"),
        (["show", "nowhere", "x.png"], 2, "nowhere: no folder"),
        (["show", "nowhere"], 2, "at least one image"),
    ],
)
def test_mistakes_get_a_message_and_exit_code_two(arguments, code, words, tmp_path, monkeypatch, capsys):
    from unmask.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr()
    assert caught.value.code == code
    assert words.lower() in (said.err + said.out).lower().replace("\n", " ")
    assert os.listdir(tmp_path) == []
