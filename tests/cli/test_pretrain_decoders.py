"""Runs with other decoders than MAE's: resumed, shown, opened, gone on from, varied."""

import json
import shutil

import pytest
import torch
from support.configuring import config_of
from support.small import SMALL

import unmask
from unmask.cli.main import run as command
from unmask.errors import UserError
from unmask.planning.initial_weights import initial
from unmask.planning.plan import Plan
from unmask.runs.run import Run, make_objective
from unmask.studies.ablation.axes import make_axes

TWO = {**SMALL, "model": "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"}
SIZE = "dim=32, depth=2, heads=2"
CROSS = f"cross(predict=0.25, {SIZE})"
OFTEN = {"steps": 4, "log_every": 1, "save_every": 1, "keep_every": 2}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    from PIL import Image
    from support.photos import photo

    folder = tmp_path_factory.mktemp("images")
    for seed in range(16):
        Image.fromarray(photo(seed)).save(folder / f"{seed:03d}.png")
    return folder


@pytest.fixture(scope="module")
def crossed(images, tmp_path_factory):
    """Made by the command line, with masks whose order is not random."""
    out, words = tmp_path_factory.mktemp("cross") / "run", []
    for name, value in (TWO | OFTEN | {"decoder": CROSS, "mask": "blob"}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    assert command(["pretrain", str(images), "--out", str(out), *words]) == 0
    return Run(out)


def losses(run):
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in records if "loss" in r]


def test_a_run_with_cross_resumes_to_the_very_same_losses(crossed, images, tmp_path):
    out = tmp_path / "stopped"
    shutil.copytree(crossed.path, out)
    (out / "summary.json").unlink()
    shutil.copy(crossed.path / "step_00000002.ckpt", out / "last.ckpt")
    lines = (crossed.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= 2))
    assert losses(unmask.pretrain(images, out=out, **TWO | OFTEN | {"decoder": CROSS, "mask": "blob"})) == losses(
        crossed
    )


def test_it_can_be_opened_and_shown_and_its_panel_is_complete(crossed, images, tmp_path):
    assert unmask.load(crossed.path)(torch.zeros(1, 3, 32, 32)).units.shape == (1, 16, 48)
    assert unmask.show(crossed.path, images, out=tmp_path / "shown.png", most=2, ratio=(0.5, 0.9)).stat().st_size > 1000
    assert (crossed.path / "panel.png").exists()
    assert crossed.config.method.decoder == CROSS


def opened(place, asked):
    """What `--init` does with the decoder: its text, and whether the objective gets it or a fresh one."""
    left_open = dict.fromkeys(("model", "image_size", "patch_size", "channels", "target"))
    start, plan = initial(str(place)), Plan({"method": "mae", "decoder": asked, **left_open})
    start.guide(plan, 3)
    return start, plan


def test_going_on_keeps_the_decoder_where_it_is_of_the_same_kind(crossed, tmp_path):
    start, plan = opened(crossed.path, None)
    assert plan.settings["decoder"] == CROSS
    assert "with decoder" in start.lines[0]
    run = Run(crossed.path)
    for asked, same in ((CROSS, True), (f"cross(predict=1, {SIZE})", True), (f"full({SIZE})", False)):
        made = make_objective(run.config.with_options({"decoder": asked}))
        assert start.new_decoder(asked, made, run.config.method.target) is not same
        if same:
            made.decoder.predict.weight.data.zero_()
            start.load(made, asked, None)
            assert torch.equal(made.decoder.predict.weight, run.objective().decoder.predict.weight)


@pytest.mark.slow
def test_equal_shapes_do_not_make_full_and_windowed_the_same(crossed, images, tmp_path, capsys):
    options = TWO | OFTEN | {"steps": 2}
    run = unmask.pretrain(images, out=tmp_path / "run", **options | {"decoder": f"windowed(window=2, {SIZE})"})
    _, plan = opened(run.path, None)
    assert plan.settings["decoder"] == f"windowed(window=2, {SIZE})"
    with pytest.raises(UserError, match="leaves none of 2 steps"):  # a fresh one, which is warmed up
        unmask.pretrain(
            images, out=tmp_path / "o", init=run.path, decoder_warmup=2, **options | {"decoder": f"full({SIZE})"}
        )
    unmask.pretrain(images, out=tmp_path / "o", init=run.path, dry_run=True, **options | {"decoder": f"full({SIZE})"})
    assert "the weights bring no decoder for this" in " ".join(capsys.readouterr().out.split())
    start = initial(str(run.path))
    other = make_objective(run.config.with_options({"decoder": f"full({SIZE})"}))
    fresh = other.decoder.predict.weight.clone()
    start.load(other, f"full({SIZE})", None)
    assert torch.equal(other.decoder.predict.weight, fresh)
    assert torch.equal(other.encoder.net.cls_token, run.encoder().net.cls_token)


def test_axes_vary_the_size_of_any_decoder():
    config = config_of(decoder="cross(predict=0.5, depth=2)")
    texts = [v.changes.get("decoder") for v in make_axes(("depth",), config, 100)[0][0].values]
    assert "cross(dim=512, depth=4, heads=16, predict=0.5)" in texts
    assert texts[1] is None
