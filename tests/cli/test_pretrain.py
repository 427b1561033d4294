"""`pretrain` and `show` from end to end, on a small folder, as a user would call them."""

import json
import os
import random
import re
import shutil
import signal
import time

import pytest
import timm
import torch
from PIL import Image
from support.forked import start, wait
from support.small import SMALL
from support.small_training import Crash

import unmask
from unmask.errors import UserError
from unmask.evaluation.watch import Watch

SMALL = SMALL | {"log_every": 1, "save_every": 4, "matmul": "default"}  # else chosen by a measurement in each process
FLAGS = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def losses(out):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in records if "loss" in r]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, its photographs and its loss trace, made once."""
    from support.photos import photo

    root = tmp_path_factory.mktemp("finished")
    folder = root / "photos"
    folder.mkdir()
    for seed in range(24):
        Image.fromarray(photo(seed)).save(folder / f"{seed:03d}.png")
    run = unmask.pretrain(folder, out=root / "run", steps=24, **SMALL)
    return run, folder


def test_the_run_folder_holds_what_the_docs_promise(finished):
    run, _ = finished
    names = {p.name for p in run.path.iterdir()}
    promised = "config.json data_sheet.json bad_files.txt metrics.jsonl last.ckpt encoder.safetensors panel.png"
    assert set(promised.split()) | {"filmstrip.png", "report.html", "summary.json", "film"} <= names
    assert len(list(run.path.glob("step_*.ckpt"))) == 4
    assert not [n for n in names if n.endswith(".part")]
    config = run.config
    assert config.model.name == SMALL["model"]
    assert config.data.crop == 0.2
    assert {"unmask", "torch", "timm"} <= set(config.record.versions)
    assert run.finished


def test_records_carry_the_loss_in_context(finished):
    run, _ = finished
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, lines) if "loss" in record][-1]
    context = run.config.record.context
    assert last["explained"] == pytest.approx(1 - last["loss"] / context["data_mean"])
    assert set(context) == {"data_mean", "unit_mean", "visible_mean", "nearest"}
    assert last["loss"] < losses(run.path)[1][1]
    assert {"step", "epoch", "lr", "grad_norm", "images_per_second", "memory_mb", "seconds", "skipped"} <= set(last)


def test_timm_opens_the_encoder_strictly_and_gives_the_same_features(finished):
    run, _ = finished
    arguments = dict(run.config.model.timm)
    net = timm.create_model(
        arguments.pop("model_name"), checkpoint_path=str(run.path / "encoder.safetensors"), **arguments
    ).eval()
    encoder = unmask.load(run.path)
    x = torch.randint(0, 256, (2, 3, 32, 32)).byte()
    with torch.no_grad():
        torch.testing.assert_close(net.forward_features(encoder.normalize(x))[:, 1:], encoder(x).units)
    assert encoder.mean.tolist() == pytest.approx(run.config.data.mean)


def test_the_exported_encoder_is_the_trained_one(finished):
    run, _ = finished
    trained = run.objective().encoder.net.state_dict()
    exported = unmask.load(run.path).net.state_dict()
    assert all(torch.equal(trained[key], exported[key]) for key in trained)


def test_the_report_is_one_self_contained_page(finished):
    run, _ = finished
    page = (run.path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") >= 3  # panel, filmstrip, curves
    for words in ("Data sheet", "Plan", "The loss in context", "this model", "timm.create_model", "images"):
        assert words in page


def test_a_finished_run_says_so_and_does_nothing(finished, capsys):
    run, folder = finished
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*")}
    again = unmask.pretrain(folder, out=run.path, steps=24, **SMALL)
    assert again.path == run.path
    assert "finished; nothing to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in run.path.rglob("*")} == before


def test_other_settings_in_the_same_folder_are_refused_with_the_fields(finished):
    run, folder = finished
    with pytest.raises(UserError) as caught:
        unmask.pretrain(folder, out=run.path, steps=25, seed=3, **SMALL)
    assert "steps: 24 in the folder, 25 now" in str(caught.value)
    assert "seed: 0 in the folder, 3 now" in str(caught.value)
    assert "batch" not in str(caught.value)


def test_a_folder_with_something_else_in_it_is_left_alone(finished, tmp_path):
    _, folder = finished
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="no run folder"):
        unmask.pretrain(folder, out=tmp_path, steps=1, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.slow
def test_config_reruns_a_saved_run_to_the_same_losses(finished, tmp_path):
    run, _ = finished
    again = unmask.pretrain(config=run.path / "config.json", out=tmp_path / "again")
    assert losses(again.path) == losses(run.path)
    other = unmask.pretrain(config=run.path / "config.json", out=tmp_path / "other", seed=5, steps=2)
    assert losses(other.path)[0] != losses(run.path)[0]


def test_a_dry_run_prints_the_plan_with_reasons_and_writes_nothing(finished, tmp_path, capsys):
    _, folder = finished
    assert (
        unmask.pretrain(folder, out=tmp_path / "run", dry_run=True, device="cpu", patch_size=16, image_size=32) is None
    )
    assert not (tmp_path / "run").exists()
    said = capsys.readouterr().out
    for words in ("24 images", "vit_tiny_patch16_224", "asked for", "Expected:", "peak memory", "images/s"):
        assert words in said


def test_changed_data_is_not_continued(finished, tmp_path):
    run, folder = finished
    copy, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(run.path, copy)
    shutil.copytree(folder, photos)
    (copy / "summary.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    config["record"]["asked"]["data"] = config["data"]["paths"] = [str(photos)]
    (copy / "config.json").write_text(json.dumps(config))
    (photos / "000.png").unlink()
    with pytest.raises(UserError, match="the data changed"):
        unmask.pretrain(photos, out=copy, steps=24, **SMALL)


@pytest.mark.slow
def test_a_run_starts_from_another_run_s_weights_and_statistics(finished, tmp_path):
    run, folder = finished
    keep = {k: v for k, v in SMALL.items() if k not in ("model", "image_size", "patch_size", "decoder")}
    later = unmask.pretrain(folder, out=tmp_path / "later", init=str(run.path), steps=2, lr=1e-9, **keep)
    a, b = run.objective().state_dict(), later.objective().state_dict()
    assert all(torch.allclose(a[key], b[key], atol=1e-5) for key in a)
    assert later.config.data.mean == run.config.data.mean
    file = unmask.pretrain(folder, out=tmp_path / "file", init=str(run.path / "encoder.safetensors"), steps=1, **SMALL)
    assert file.finished


def test_weights_that_do_not_fit_list_both_sides(finished, tmp_path):
    run, folder = finished
    options = SMALL | {"model": "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"}
    with pytest.raises(UserError, match=r"only in the model \(12\): blocks.1"):
        unmask.pretrain(folder, out=tmp_path / "r", init=str(run.path / "encoder.safetensors"), steps=1, **options)


@pytest.mark.slow
def test_broken_off_between_two_checkpoints_it_continues_to_the_very_same_losses(finished, tmp_path, monkeypatch):
    run, folder = finished
    out, look = tmp_path / "broken", Watch.__call__

    def fail(self, step, steps):
        if step == 15:  # the newest checkpoint is that of step 12
            raise Crash
        return look(self, step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "__call__", fail)
        with pytest.raises(Crash):
            unmask.pretrain(folder, out=out, steps=24, **SMALL)
    unmask.pretrain(folder, out=out, steps=24, **SMALL)
    assert losses(out) == losses(run.path)
    assert (out / "summary.json").exists()


@pytest.mark.slow
def test_killed_at_random_moments_it_continues_to_the_very_same_losses(finished, tmp_path):
    run, folder = finished
    out, rng, kills = tmp_path / "killed", random.Random(time.time()), 0
    for _ in range(40):
        process = start("pretrain", folder, "--out", out, "--steps", 24, *FLAGS)
        if kills < 3:
            metrics, seen = out / "metrics.jsonl", losses(out)[-1][0] if (out / "metrics.jsonl").exists() else 0
            goal, deadline = seen + rng.randint(1, 6), time.monotonic() + 60
            while time.monotonic() < deadline and process.is_alive():
                if metrics.exists() and metrics.read_text().count("\n") >= goal:
                    break
                time.sleep(0.002)
            process.kill()
            kills += wait(process) == -signal.SIGKILL
        elif wait(process) == 0:
            break
    assert kills == 3
    assert losses(out) == losses(run.path)
    assert (out / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_and_exit_with_their_code(finished, tmp_path, number, code):
    _, folder = finished
    out = tmp_path / "run"
    process = start("pretrain", folder, "--out", out, "--steps", 100_000, *FLAGS, said=tmp_path / "said.txt")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not ((out / "metrics.jsonl").exists() and len(losses(out)) >= 3):
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert wait(process) == code
    said = (tmp_path / "said.txt").read_text()
    assert "saved in" in said
    assert "Traceback" not in said
    saved = torch.load(out / "last.ckpt", weights_only=True)
    assert saved["step"] == losses(out)[-1][0]  # records every step here: nothing done is lost


def test_show_draws_labelled_columns_for_every_mask_and_ratio(finished, tmp_path):
    run, folder = finished
    out = unmask.show(run.path, (str(folder / "001.png"), str(folder / "002.png")), out=tmp_path / "a.png")
    small = Image.open(out).size
    out = unmask.show(run.path, folder / "001.png", ratio=(0.5, 0.9), mask=("random", "block"), out=tmp_path / "b.png")
    tall = Image.open(out).size
    assert tall[1] > small[1]  # four rows against two


def test_show_handles_a_large_photograph(finished, tmp_path):
    from support.photos import photo

    run, _ = finished
    Image.fromarray(photo(1, 4000, 6000)).save(tmp_path / "large.jpg")
    assert unmask.show(run.path, tmp_path / "large.jpg", out=tmp_path / "panel.png").exists()


def test_show_draws_a_photograph_in_tiles_of_the_run_s_size(finished, tmp_path):
    from support.photos import photo

    run, folder = finished
    side = run.config.data.image_size[0]
    Image.fromarray(photo(1, 200, 300)).save(tmp_path / "wide.jpg")
    usual = Image.open(unmask.show(run.path, tmp_path / "wide.jpg", out=tmp_path / "usual.png")).size
    tiled = Image.open(unmask.show(run.path, tmp_path / "wide.jpg", size=3 * side, out=tmp_path / "tiled.png")).size
    assert tiled[1] < usual[1]  # four tiles by three: wide, and not cut to a square
    with pytest.raises(UserError, match=f"--size {side - 1}: .* smallest tile; give {side} or more"):
        unmask.show(run.path, folder, size=side - 1, out=tmp_path / "p.png")
    with pytest.raises(UserError, match="--size is of --what rebuild, features and attention"):
        unmask.show(run.path, folder, what="masks", size=2 * side, out=tmp_path / "p.png")


def test_show_refuses_weights_without_a_decoder(finished, tmp_path):
    run, folder = finished
    with pytest.raises(UserError, match="decoder"):
        unmask.show(run.path / "encoder.safetensors", folder, out=tmp_path / "p.png")
    with pytest.raises(UserError, match="decoder"):
        unmask.show("vit_tiny_patch16_224", folder, out=tmp_path / "p.png")
    copy = tmp_path / "only"
    shutil.copytree(run.path, copy)
    for file in copy.glob("*.ckpt"):
        file.unlink()
    with pytest.raises(UserError, match="an encoder alone cannot rebuild"):
        unmask.show(copy, folder, out=tmp_path / "p.png")
    (copy / "encoder.safetensors").unlink()
    for command in (unmask.embed, unmask.show):
        with pytest.raises(
            UserError, match=r"neither last\.ckpt nor encoder\.safetensors: nothing was saved there yet"
        ):
            command(copy, folder, out=tmp_path / "p.png" if command is unmask.show else tmp_path / "f.npz")
