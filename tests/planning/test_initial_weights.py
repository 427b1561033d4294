"""`pretrain --init` on foreign weights: what is taken over, what a fresh decoder gets, and what is said afterwards."""

import json
import shutil

import pytest
import timm
import torch
from support.small import SMALL

import unmask
from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import hide_top
from unmask.planning.initial_weights import FromWeights
from unmask.training.objective import Objective
from unmask.weights.open import open_weights

MODEL = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
OPTIONS = {"batch": 8, "precision": "32", "device": "cpu", "log_every": 1, "save_every": 1}
FRESH = {"decoder": SMALL["decoder"], "model": MODEL}

EIGHT = {"steps": 8, "decoder_warmup": 5, "keep_every": 1, **FRESH, **OPTIONS}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    from PIL import Image
    from support.photos import photo

    folder = tmp_path_factory.mktemp("images")
    for seed in range(24):
        Image.fromarray(photo(seed)).save(folder / f"{seed:03d}.png")
    return folder


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """An encoder-only file under an official name."""
    torch.manual_seed(0)
    options = {"depth": 1, "embed_dim": 48, "num_heads": 3, "img_size": 32, "patch_size": 8, "num_classes": 0}
    net = timm.create_model("vit_tiny_patch16_224", **options)
    path = tmp_path_factory.mktemp("official") / "mae_pretrain_vit_base.pth"
    torch.save({"model": net.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=192, image_size=32, patch_size=8,
        decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=128,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hf")
    ViTMAEForPreTraining(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def continued(images, official, tmp_path_factory):
    """A run that went on from the encoder-only file, with a fresh decoder."""
    out = tmp_path_factory.mktemp("continued") / "run"
    return unmask.pretrain(images, out=out, init=official, **EIGHT)


def losses(out):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in records if "loss" in r]


def test_the_encoder_waits_for_a_fresh_decoder_and_then_moves(official, continued):
    given = torch.load(official, weights_only=True)["model"]
    saved = {
        step: torch.load(continued.path / f"step_{step:08d}.ckpt", weights_only=True)["objective"] for step in (2, 5, 6)
    }
    for step, same in ((5, True), (6, False)):
        equal = [torch.equal(saved[step][f"encoder.net.{key}"], value) for key, value in given.items()]
        assert all(equal) if same else sum(equal) < len(equal) / 2
    assert not torch.equal(saved[2]["decoder.predict.weight"], saved[5]["decoder.predict.weight"])


def test_a_run_stopped_in_its_warm_up_goes_on_to_the_very_same_losses(images, official, tmp_path, continued):
    stop = 3
    out = tmp_path / "stopped"
    shutil.copytree(continued.path, out)
    (out / "summary.json").unlink()
    shutil.copy(continued.path / f"step_{stop:08d}.ckpt", out / "last.ckpt")
    lines = (continued.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= stop))
    unmask.pretrain(images, out=out, init=official, **EIGHT)
    assert losses(out) == losses(continued.path)
    before, after = (json.loads((path / "continued.json").read_text()) for path in (continued.path, out))
    assert before == after


def test_the_warm_up_is_planned_by_the_length_with_a_reason(images, official, tmp_path, capsys):
    unmask.pretrain(images, out=tmp_path / "r", init=official, steps=90, dry_run=True, **FRESH, **OPTIONS)
    said = " ".join(capsys.readouterr().out.split())
    assert "decoder_warmup 9 steps; the weights bring no decoder" in said
    assert "licence of these weights: CC-BY-NC 4.0" in said
    assert not (tmp_path / "r").exists()
    with pytest.raises(UserError, match="leaves none of 3 steps"):
        unmask.pretrain(images, out=tmp_path / "r", init=official, steps=3, decoder_warmup=3, **FRESH, **OPTIONS)
    with pytest.raises(UserError, match="--decoder-warmup belongs to --init"):
        unmask.pretrain(images, out=tmp_path / "r", decoder_warmup=3, steps=4)
    with pytest.raises(UserError, match="no such file"):
        unmask.pretrain(images, out=tmp_path / "r", init="mae_nothing.pth", steps=3)
    assert not (tmp_path / "r").exists()


def test_the_report_compares_before_and_after_and_names_the_licence(continued):
    found = json.loads((continued.path / "continued.json").read_text())
    assert (found["before"]["step"], found["after"]["step"]) == (5, 8)
    assert f"{found['before']['loss']:.4f} (measured after the fresh decoder's 5 steps" in found["sentence"]
    page = (continued.path / "report.html").read_text()
    assert "Before and after" in page
    assert "CC-BY-NC 4.0" in page
    assert found["sentence"].split(":")[0] in page
    assert {"panel_before.png", "panel_after.png"} <= {path.name for path in continued.path.iterdir()}


def test_a_decoder_that_comes_with_the_weights_is_used_and_not_warmed_up(hf_folder, images, tmp_path):
    from transformers import ViTMAEForPreTraining

    run = unmask.pretrain(images, out=tmp_path / "run", init=hf_folder, steps=1, lr=1e-9, **OPTIONS)
    method = run.config.method
    assert (method.decoder_warmup, method.target) == (None, "pixels(normalize=False)")
    assert run.config.model.name == "vit_base_patch16_224(embed_dim=48, depth=1, num_heads=3)"
    mae, hf = run.objective(), ViTMAEForPreTraining.from_pretrained(hf_folder).eval()
    x, noise = torch.rand(2, 3, 32, 32) * 255, torch.rand(2, 16)
    with torch.no_grad():
        got = mae({"views": [x], "mask": hide_top(noise, 0.75)})["loss"]
        torch.testing.assert_close(got, hf(mae.encoder.normalize(x), noise=noise).loss, rtol=1e-3, atol=1e-4)
    found = json.loads((run.path / "continued.json").read_text())
    assert found["before"]["step"] == 0
    assert found["before"]["loss"] == pytest.approx(found["after"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_probe_is_compared_too(official, labelled, tmp_path):
    run = unmask.pretrain(
        labelled, out=tmp_path / "run", init=official, steps=4, decoder_warmup=1, probe=labelled, **FRESH, **OPTIONS
    )
    found = json.loads((run.path / "continued.json").read_text())
    assert {"probe_knn", "probe_linear"} <= set(found["before"]) & set(found["after"])
    assert "knn accuracy from" in found["sentence"]


def test_a_run_of_a_run_keeps_the_licence_and_its_file_says_all(continued, images, tmp_path, capsys):
    keep = {"steps": 1, "lr": 1e-9, **OPTIONS}
    later = unmask.pretrain(images, out=tmp_path / "later", init=continued.path, **keep)
    assert "CC-BY-NC 4.0" in later.config.record.licence
    a, b = continued.objective().state_dict(), later.objective().state_dict()
    assert all(torch.allclose(a[key], b[key], atol=1e-5) for key in a)
    capsys.readouterr()
    alone = tmp_path / "alone.safetensors"
    shutil.copy(continued.path / "encoder.safetensors", alone)
    encoder, x = unmask.load(alone), torch.rand(1, 3, 32, 32) * 255
    assert "CC-BY-NC 4.0" in capsys.readouterr().err
    assert torch.equal(encoder(x).units, unmask.load(continued.path)(x).units)
    opened = open_weights(continued.path)
    assert "stored" not in opened.decoder_text(opened.grid)
    assert opened.decoder_text(Grid((6, 6), (8, 8))).endswith("position='stored')")


def test_bands_and_statistics_of_unknown_channels_come_from_the_data(official, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    images = (rng.random((16, 32, 32, 4)) * [200, 200, 200, 60] + [20, 20, 20, 0]).astype(np.float32)
    np.save(tmp_path / "bands.npy", images)
    options = {"init": official, "steps": 2, **FRESH, **OPTIONS}
    run = unmask.pretrain(tmp_path / "bands.npy", out=tmp_path / "named", bands="R,G,B,NIR", **options)
    assert run.config.data.mean[:3] == pytest.approx([123.675, 116.28, 103.53])
    assert run.config.data.mean[3] == pytest.approx(images[..., 3].mean(), rel=1e-2)


def test_weights_statistics_are_not_forced_on_data_in_other_units(official):
    from unmask.planning.initial_weights import initial
    from unmask.planning.plan import Plan

    start, plan = initial(str(official), model=MODEL), Plan({"channels": 3})
    near, far = ((110.0,) * 3, (70.0,) * 3), ((0.4,) * 3, (0.2,) * 3)
    assert start.statistics(near, plan)[0] == (123.675, 116.28, 103.53)
    assert not plan.reasons
    assert start.statistics(far, plan) == far
    assert "far apart" in plan.reasons["mean and std"]
    plan = Plan({"channels": 5})
    data = ((1.0,) * 5, (2.0,) * 5)
    assert start.statistics(data, plan) == data


def test_a_method_without_a_decoder_refuses_weights_that_bring_one(hf_folder):
    class WithoutDecoder(Objective):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, batch):
            return {"loss": self.encoder(batch["views"][0]).units.mean()}

    start = FromWeights(open_weights(hf_folder))
    objective = WithoutDecoder(start.opened.encoder())
    decoder = start.opened.decoder_text(objective.encoder.grid)
    with pytest.raises(UserError, match=r"brings a decoder, and WithoutDecoder has none; .*encoder\.safetensors"):
        start.load(objective, decoder, None)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["hog", "pixels(scales=(1, 2))", "features(of='random')", "ema"])
def test_a_run_goes_on_with_its_own_target_or_with_another_and_a_fresh_decoder(target, images, tmp_path):
    shape = {"image_size": 32, "patch_size": 8}
    run = unmask.pretrain(images, out=tmp_path / "run", target=target, steps=2, **FRESH, **shape, **OPTIONS)
    decoder = run.objective().decoder.state_dict()
    for other, fresh in ((None, False), ("pca(components=20)", True), ("pixels", True)):
        given = {"init": run.path, "lr": 1e-9, "steps": 10} | ({} if other is None else {"target": other})
        again = unmask.pretrain(images, out=tmp_path / f"again-{other}", **given, **OPTIONS)
        assert again.config.method.target == (other or target)
        assert (again.config.method.decoder_warmup is not None) is fresh
        began = again.objective().decoder.state_dict()
        taken = all(torch.allclose(began[key], decoder[key], atol=1e-6) for key in decoder if "blocks" in key)
        assert taken is not fresh


@pytest.mark.slow
def test_another_method_takes_the_encoder_of_a_run_and_leaves_its_decoder(images, tmp_path):
    run = unmask.pretrain(images, out=tmp_path / "run", steps=2, image_size=32, patch_size=8, **FRESH, **OPTIONS)
    encoder = run.encoder().net.state_dict()
    for method, target in (("simmim", "pixels(normalize=False)"), ("dbot(rounds=1)", None)):
        out = tmp_path / method[:4]
        again = unmask.pretrain(images, out=out, init=run.path, method=method, lr=1e-9, steps=10, **OPTIONS)
        assert again.config.method.target == target
        for key, value in again.encoder().net.state_dict().items():
            torch.testing.assert_close(value, encoder[key], atol=1e-6, rtol=0)
