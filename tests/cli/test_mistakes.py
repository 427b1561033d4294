"""What users tripped over once: damaged run folders, mistakes that must be said early, numbers that must not drift."""

import shutil

import pytest
import torch
from support.small import SMALL

import unmask
from unmask.errors import DataError, UserError
from unmask.training.log import read


@pytest.mark.slow
def test_the_loss_in_context_does_not_depend_on_accumulation(photos, tmp_path):
    parts = [unmask.pretrain(photos, out=tmp_path / str(n), steps=1, accumulate=n, **SMALL) for n in (1, 4)]
    assert parts[0].config.record.context == parts[1].config.record.context


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b'{"a'),
        ("config.json", b"{}"),
        ("config.json", b'{"asked":{},"settings":{},"mean":[],"std":[],"timm":{},"fit":{},"data":{}}'),
        ("config.json", b'{"data":{},"model":{},"method":{},"training":{},"runtime":{},"record":{}}'),
    ],
)
def test_a_damaged_run_folder_is_a_message(run, photos, tmp_path, file, content):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    (copy / file).write_bytes(content)
    with pytest.raises(UserError, match=file):
        unmask.show(copy, photos, out=tmp_path / "p.png", device="cpu")


def test_a_damaged_newest_checkpoint_is_passed_over_aloud_and_the_one_before_is_used(run, photos, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    for file in copy.glob("*2.ckpt"):
        file.unlink()
    (copy / "last.ckpt").write_bytes(b"junk")
    assert unmask.show(copy, photos, out=tmp_path / "p.png", device="cpu", most=1).exists()
    assert "last.ckpt is damaged" in capsys.readouterr().err
    for file in copy.glob("*.ckpt"):
        file.write_bytes(b"junk")
    with pytest.raises(UserError, match=r"last\.ckpt and .* are damaged"):
        unmask.show(copy, photos, out=tmp_path / "p.png", device="cpu")


def test_a_run_that_never_had_a_finite_step_still_gets_its_report_and_its_exit_code(photos, tmp_path):
    from unmask.errors import Diverged

    with pytest.raises(Diverged, match="--lr"):
        unmask.pretrain(photos, out=tmp_path / "run", steps=40, lr=1e30, log_every=1, **SMALL)
    assert (tmp_path / "run" / "report.html").exists()


def test_a_probe_without_labels_is_refused_before_training(photos, tmp_path):
    with pytest.raises(DataError, match="label"):
        unmask.pretrain(photos, out=tmp_path / "run", steps=2, probe=photos, **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_for_other_channels_are_refused_or_the_data_is_brought_to_them(photos, run, tmp_path):
    grey = unmask.pretrain(photos, out=tmp_path / "grey", steps=1, channels=1, **SMALL)
    keep = {k: v for k, v in SMALL.items() if k not in ("model", "image_size", "patch_size", "decoder")}
    later = unmask.pretrain(photos, out=tmp_path / "later", steps=1, init=grey.path, **keep)
    assert later.config.data.channels == 1
    with pytest.raises(UserError, match="3 channels, the input has 1"):
        unmask.load(run.path)(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epoch": 1}, "did you mean 'epochs'"),
        ({"lr": float("inf")}, "finite and above 0, got inf"),
        ({"seed": -1}, "0 or more"),
        ({"mask": "random(ratio='x')"}, "ratio is a number or a tuple of 2; got 'x'"),
        ({"model": "vit_tiny_patch16_224(depth=0)"}, "depth"),
        ({"model": "vit_tiny_patch16_224(num_classes=10)"}, "set by unmask"),
        ({"init": "nowhere"}, "no folder, no file and no model"),
    ],
)
def test_mistakes_are_said_with_what_is_allowed(photos, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        unmask.pretrain(photos, out=tmp_path / "run", steps=1, **SMALL | options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_photograph_larger_than_needed_is_continued_with_the_very_same_pixels(tmp_path):
    """The side that images are shrunk to is fixed when the run begins, not anew from the size chosen then."""
    from PIL import Image
    from support.photos import photo

    folder = tmp_path / "large"
    folder.mkdir()
    for seed in range(8):
        Image.fromarray(photo(seed, 500, 600)).save(folder / f"{seed}.png")
    options = {k: v for k, v in SMALL.items() if k != "image_size"} | {
        "steps": 4,
        "log_every": 1,
        "patch_size": 16,
        "keep_every": 2,
    }
    whole = unmask.pretrain(folder, out=tmp_path / "whole", **options)
    broken = tmp_path / "broken"
    shutil.copytree(whole.path, broken)
    (broken / "summary.json").unlink()
    (broken / "last.ckpt").unlink()
    shutil.copy(broken / "step_00000002.ckpt", broken / "last.ckpt")
    unmask.pretrain(folder, out=broken, **options)
    of = lambda out: [r["loss"] for r in read(out / "metrics.jsonl") if "loss" in r]  # noqa: E731
    assert of(broken) == of(whole.path)


def test_a_run_or_model_that_is_not_there_is_named_with_what_is_near(run, photos, tmp_path, labelled):
    near = str(run.path)
    for verb, options in (("transfer", {"on": labelled}), ("labels", {"on": labelled}), ("evaluate", {"on": labelled})):
        with pytest.raises(UserError, match=f"runn: .*did you mean '{near}'"):
            getattr(unmask, verb)(tmp_path / "runn", **options)
    with pytest.raises(UserError, match=f"no folder, did you mean '{near}'"):
        unmask.predict(tmp_path / "runn", photos, out=tmp_path / "p.csv")
    with pytest.raises(UserError, match=f"no such folder, did you mean '{near}'"):
        unmask.export(tmp_path / "runn", to="timm")
    with pytest.raises(UserError, match="did you mean 'vit_tiny_patch16_224'"):
        unmask.load("vit_tiny_patch16_223")


def test_rare_combinations_of_labels_are_held_out_too(photos, tmp_path):
    from itertools import combinations

    from unmask.data.datasets.classification import Labelled

    folder = tmp_path / "several"
    shutil.copytree(photos, folder)
    names = sorted(path.name for path in folder.iterdir())
    sets = ["|".join(some) for n in (1, 2, 3) for some in combinations("abcde", n)][: len(names)]
    rows = [f"{name},{some}" for name, some in zip(names, sets)]
    (folder / "labels.csv").write_text("\n".join(["path,labels", *rows]))
    splits = Labelled([str(folder)], max_side=64, hold_out_val=False).splits
    assert len(splits["test"]) == round(len(sets) / 4)


def test_sigterm_promises_nothing_about_training(monkeypatch, capsys):
    import os
    import signal

    from unmask.cli import main

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(main, "run", lambda arguments: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(SystemExit) as ended:
            main.main([])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert capsys.readouterr().err.split() == ["unmask:", "stopped", "by", "SIGTERM"]
