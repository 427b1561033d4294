"""Weights of every layout, opened: the same features and losses as the programs that made them."""

import argparse
import json
import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

import unmask
from unmask.encoder import create_encoder
from unmask.errors import UserError
from unmask.grid import Grid
from unmask.init import FromWeights
from unmask.mask import hide_top
from unmask.methods.mae import MAE
from unmask.opening import open_weights
from unmask.position import sincos
from unmask.weights import read_weights

DIM, DEPTH, HEADS, SIDE, PATCH = 64, 2, 4, 32, 8
DECODER = (32, 1, 2)
OURS = f"vit_base_patch16_224(embed_dim={DIM}, depth={DEPTH}, num_heads={HEADS})"
GRID = Grid((SIDE // PATCH,) * 2, (PATCH,) * 2)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope="module")
def hf():
    """transformers' own ViTMAE: the reference that every layout with a decoder is measured against."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(
        hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * DIM,
        image_size=SIDE, patch_size=PATCH, decoder_hidden_size=DECODER[0], decoder_num_hidden_layers=DECODER[1],
        decoder_num_attention_heads=DECODER[2], decoder_intermediate_size=4 * DECODER[0], norm_pix_loss=True,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.1)
        if ("layernorm" in name and name.endswith("weight")) or name.endswith("decoder_norm.weight"):
            parameter.data += 1
    with torch.no_grad():
        tables = model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed
        for table in tables:
            table.copy_(torch.nn.functional.pad(sincos(GRID, table.shape[-1]), (0, 0, 1, 0))[None])
    return model


@pytest.fixture(scope="module")
def hf_state(hf, tmp_path_factory):
    """The state dict as transformers writes it into model.safetensors."""
    from safetensors.torch import load_file

    folder = tmp_path_factory.mktemp("hf")
    hf.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def fair_state(hf_state):
    """The same weights under the reference implementation's names, by the table of its keys."""
    inner = {"layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
             "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"}  # fmt: skip
    state = {
        "cls_token": hf_state["vit.embeddings.cls_token"],
        "pos_embed": hf_state["vit.embeddings.position_embeddings"],
        "mask_token": hf_state["decoder.mask_token"],
        "decoder_pos_embed": hf_state["decoder.decoder_pos_embed"],
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = hf_state[f"vit.embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = hf_state[f"vit.layernorm.{kind}"]
        for name in ("decoder_embed", "decoder_norm", "decoder_pred"):
            state[f"{name}.{kind}"] = hf_state[f"decoder.{name}.{kind}"]
        towers = [
            ("vit.encoder.layer", "blocks", DEPTH),
            ("decoder.decoder_encoder.layer", "decoder_blocks", DECODER[1]),
        ]
        for theirs, fair, depth in towers:
            for i in range(depth):
                for old, new in inner.items():
                    state[f"{fair}.{i}.{new}.{kind}"] = hf_state[f"{theirs}.{i}.{old}.{kind}"]
                parts = [hf_state[f"{theirs}.{i}.attention.attention.{x}.{kind}"] for x in ("query", "key", "value")]
                state[f"{fair}.{i}.attn.qkv.{kind}"] = torch.cat(parts)
    return state


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    return torch.randint(0, 256, (3, 3, SIDE, SIDE)).float(), torch.rand(3, GRID.num_units)


def normalized(x):
    shape = (-1, 1, 1)
    return (x - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)


def reference_features(hf, x):
    noise = torch.arange(GRID.num_units).float().expand(len(x), -1)  # in reading order: nothing is shuffled
    hf.vit.config.mask_ratio = 0.0
    try:
        return hf.vit(normalized(x), noise=noise).last_hidden_state
    finally:
        hf.vit.config.mask_ratio = 0.75


def same_features(encoder, hf, x):
    tokens = encoder.eval()(x)
    want = reference_features(hf, x)
    torch.testing.assert_close(torch.cat([tokens.prefix, tokens.units], dim=1), want, rtol=1e-5, atol=1e-5)


def same_loss(opened, hf, batch, normalize=True):
    x, noise = batch
    settings = {"decoder": opened.decoder_text(GRID)}
    mae = MAE(opened.encoder(), target=f"pixels(normalize={normalize})", decoder=settings["decoder"])
    torch.nn.init.normal_(mae.encoder.net.cls_token)  # whatever is there must be replaced
    FromWeights(opened).load(mae, settings)
    with torch.no_grad():
        hf.config.norm_pix_loss = normalize
        want = hf(normalized(x), noise=noise).loss
        got = mae.eval()({"views": [x], "mask": hide_top(noise, 0.75)})["loss"]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def mmpretrain(state):
    rename = {"norm1": "ln1", "norm2": "ln2", "mlp.fc1": "ffn.layers.0.0", "mlp.fc2": "ffn.layers.1"}
    new = {"data_preprocessor.mean": torch.tensor(MEAN), "data_preprocessor.std": torch.tensor(STD)}
    for key, value in state.items():
        for old, name in rename.items():
            key = key.replace(old, name)
        key = key.replace("decoder_norm", "ln1") if key.startswith("decoder_norm") else key
        if key.startswith(("decoder_", "mask_token", "ln1")):
            new[f"neck.{key}"] = value
        else:
            key = key.replace("patch_embed.proj", "patch_embed.projection").replace("blocks.", "layers.")
            new["backbone." + ("ln1" + key[4:] if key.startswith("norm.") else key)] = value
    return {"state_dict": new, "meta": {"epoch": 300}}


def solo(state):
    decoder = {f"decoder.{k}": v for k, v in state.items() if k.startswith(("decoder_", "mask_token"))}
    encoder = {f"backbone.{k}": v for k, v in state.items() if f"decoder.{k}" not in decoder}
    return {"state_dict": encoder | decoder | {"classifier.weight": torch.zeros(10, DIM)}, "epoch": 3}


def lightly(state):
    content = solo(state)["state_dict"]
    content = {k.replace("backbone.", "backbone.vit."): v for k, v in content.items() if "classifier" not in k}
    return {"state_dict": content | {"backbone.mask_token": torch.zeros(1, 1, DIM)}, "hyper_parameters": {"lr": 0.1}}


def lightly_torchvision(state):
    inner = {"norm1": "ln_1", "norm2": "ln_2", "attn.qkv.": "self_attention.in_proj_",
             "attn.proj": "self_attention.out_proj", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}  # fmt: skip
    outer = {"cls_token": "class_token", "patch_embed.proj": "conv_proj", "pos_embed": "encoder.pos_embedding"}
    new = {}
    for key, value in state.items():
        for old, name in (inner if "blocks." in key else {}).items():
            key = key.replace(old, name)
        key = key.replace("blocks.", "layers.encoder_layer_")
        if key.startswith("decoder_layers"):
            new["decoder." + key.removeprefix("decoder_")] = value
        elif key.startswith("decoder_"):
            names = {"decoder_pos_embed": "pos_embedding", "decoder_norm": "ln", "decoder_pred": "prediction_head"}
            stem, dot, kind = key.partition(".")
            new[f"decoder.{names.get(stem, stem)}{dot}{kind}"] = value
        elif key == "mask_token":
            new[key] = value
        elif key.startswith("layers."):
            new[f"backbone.encoder.{key}"] = value
        elif key.startswith("norm."):
            new[f"backbone.encoder.ln.{key[5:]}"] = value
        else:
            for old, name in outer.items():
                key = key.replace(old, name)
            new[f"backbone.{key}"] = value
    return {"state_dict": new}


LAYOUTS = {
    "checkpoint-800.pth": lambda s: {"model": s, "epoch": 799, "args": argparse.Namespace(lr=1e-4, betas=(0.9, 0.95))},
    "ddp.pth": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    "mmpretrain.pth": mmpretrain,
    "solo.ckpt": solo,
    "lightly.ckpt": lightly,
    "lightly_torchvision.ckpt": lightly_torchvision,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_reference_s_features_and_loss(name, hf, fair_state, batch, tmp_path, monkeypatch):
    import unmask.layouts.solo as module

    monkeypatch.setattr(module, "HEADS", {DIM: HEADS})  # its own rule is tested below
    torch.save(LAYOUTS[name](fair_state), tmp_path / name)
    opened = open_weights(tmp_path / name, model=OURS)
    opened.weights.__dict__["decoder_heads"] = DECODER[2]  # 2, where the usual number would be 1
    same_features(opened.encoder(), hf, batch[0])
    same_loss(opened, hf, batch)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin", "sharded", "in memory"])
def test_hugging_face_folders_give_their_own_features_and_loss(kind, hf, hf_state, batch, tmp_path, capsys):
    hf.config.norm_pix_loss = False
    hf.save_pretrained(tmp_path, max_shard_size="100KB" if kind == "sharded" else "1GB")
    if kind in ("pytorch_model.bin", "in memory"):
        (tmp_path / "model.safetensors").unlink()
        torch.save(hf.state_dict() if kind == "in memory" else hf_state, tmp_path / "pytorch_model.bin")
    opened = open_weights(tmp_path)
    assert opened.weights.heads == HEADS
    assert opened.weights.normalize is False
    assert opened.model == OURS
    assert "4 attention heads, as its config says" in " ".join(opened.lines)
    same_features(opened.encoder(), hf, batch[0])
    same_loss(opened, hf, batch, normalize=False)
    same_features(unmask.load(tmp_path), hf, batch[0])
    assert "licence of these weights: unknown" in capsys.readouterr().err


def test_a_hugging_face_vit_brings_its_head_and_statistics(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    small = {"hidden_size": DIM, "num_hidden_layers": DEPTH, "num_attention_heads": 2, "intermediate_size": 2 * DIM,
             "image_size": SIDE, "patch_size": PATCH, "id2label": {0: "cat", 1: "dog"}}  # fmt: skip
    model = ViTForImageClassification(ViTConfig(**small)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    opened = open_weights(tmp_path)
    encoder, x = opened.encoder(), torch.randint(0, 256, (2, 3, SIDE, SIDE)).float()
    assert encoder.mean.tolist() == [127.5] * 3
    assert encoder.std.tolist() == [63.75] * 3
    assert (opened.weights.pooling, opened.weights.classes) == ("cls", ("cat", "dog"))
    assert opened.licence.startswith("apache-2.0")
    with torch.no_grad():
        logits = encoder(x).prefix[:, 0] @ opened.weights.head["weight"].T + opened.weights.head["bias"]
        torch.testing.assert_close(logits, model(encoder.normalize(x)).logits, rtol=1e-5, atol=1e-5)


def test_official_names_tell_target_licence_and_pooling(fair_state, tmp_path):
    encoder_only = {k: v for k, v in fair_state.items() if not k.startswith(("decoder_", "mask_token"))}
    torch.save({"model": encoder_only}, tmp_path / "mae_pretrain_vit_base.pth")
    opened = open_weights(tmp_path / "mae_pretrain_vit_base.pth", model=OURS)
    assert opened.decoder is None
    assert "CC-BY-NC 4.0" in opened.licence
    assert opened.statistics == (MEAN, STD)
    for name, normalize in (("mae_pretrain_vit_base_full.pth", True), ("mae_visualize_vit_base.pth", False)):
        torch.save({"model": fair_state}, tmp_path / name)
        assert open_weights(tmp_path / name, model=OURS).weights.normalize is normalize


def test_a_fine_tuned_file_without_norm_puts_fc_norm_there(tmp_path):
    torch.manual_seed(0)
    options = {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS, "img_size": SIDE, "patch_size": PATCH}
    net = timm.create_model("vit_base_patch16_224", global_pool="avg", num_classes=5, **options).eval()
    torch.nn.init.normal_(net.fc_norm.weight)
    torch.save({"model": net.state_dict()}, tmp_path / "mae_finetuned_vit_base.pth")
    opened = open_weights(tmp_path / "mae_finetuned_vit_base.pth", model=OURS)
    assert opened.weights.pooling == "mean"
    encoder, x = opened.encoder(), torch.randint(0, 256, (2, 3, SIDE, SIDE)).float()
    norm = encoder.net.norm
    encoder.take_norm()
    head = opened.weights.head
    with torch.no_grad():
        logits = norm(encoder(x).units.mean(dim=1)) @ head["weight"].T + head["bias"]
        torch.testing.assert_close(logits, net(encoder.normalize(x)), rtol=1e-5, atol=1e-5)


TIMM = {
    "vit_tiny_patch16_224": {"depth": 2},
    "vit_small_patch14_dinov2": {"depth": 1},
    "vit_small_patch14_reg4_dinov2": {"depth": 1},
}


@pytest.mark.parametrize("model", TIMM)
@pytest.mark.parametrize("wrap", ["model", "state_dict", None, "safetensors"])
def test_timm_files_are_read_off_their_shapes(model, wrap, tmp_path):
    if wrap != "safetensors" and model != "vit_tiny_patch16_224":
        pytest.skip("one way of wrapping is enough for it")
    torch.manual_seed(0)
    net = timm.create_model(model, num_classes=3, img_size=56 if "14" in model else 32, **TIMM[model]).eval()
    state = net.state_dict()
    path = tmp_path / ("some.safetensors" if wrap == "safetensors" else "some.pth")
    if wrap == "safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state, "epoch": 1} if wrap else state, path)
    opened = open_weights(path)
    encoder, x = opened.encoder(), torch.randint(0, 256, (2, 3, *net.patch_embed.img_size)).float()
    assert encoder.net.blocks[0].attn.num_heads == net.blocks[0].attn.num_heads
    with torch.no_grad():
        want = net.forward_features(encoder.normalize(x))
    torch.testing.assert_close(encoder(x).units, want[:, -encoder.grid.num_units :], rtol=1e-5, atol=1e-5)


def test_a_dinov3_file_is_found_by_its_keys_or_its_name(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("vit_small_patch16_dinov3", num_classes=0, img_size=64).eval()
    for name in ("vit_small_patch16_dinov3.lvd1689m.safetensors", "unnamed.safetensors"):
        save_file(net.state_dict(), tmp_path / name)
        opened = open_weights(tmp_path / name)
        encoder, x = opened.encoder(image_size=(64, 64)), torch.randint(0, 256, (1, 3, 64, 64)).float()
        with torch.no_grad():
            want = net.forward_features(encoder.normalize(x))[:, 5:]
        torch.testing.assert_close(encoder(x).units, want, rtol=1e-5, atol=1e-5)


def test_timm_hub_folders_say_what_they_are(tmp_path):
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    cfg = {"mean": [0.1] * 3, "std": [0.2] * 3, "license": "mit"}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": cfg}))
    with pytest.raises(UserError, match=r"only in the model \(120\): blocks\.2"):
        open_weights(tmp_path).encoder()
    opened = open_weights(tmp_path, model="vit_tiny_patch16_224(depth=2)")
    assert opened.encoder().mean.tolist() == pytest.approx([25.5] * 3)
    assert opened.licence == "mit"


def test_momentum_twins_and_prefixes_do_not_confuse(tmp_path):
    torch.manual_seed(0)
    net, twin = (timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1, img_size=32) for _ in range(2))
    state = {f"momentum_backbone.{k}": v for k, v in twin.state_dict().items()}
    state |= {f"encoder.{k}": v for k, v in net.state_dict().items()} | {"projector.0.weight": torch.zeros(2, 2)}
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    opened = open_weights(tmp_path / "x.ckpt")
    assert torch.equal(opened.encoder().net.blocks[0].attn.qkv.weight, net.blocks[0].attn.qkv.weight)
    assert "projector" in " ".join(opened.lines)


def test_heads_follow_rules_that_shapes_cannot_tell():
    from unmask.architecture import STANDARD
    from unmask.layouts.solo import HEADS as SOLO

    assert {width: heads for width, (_, _, heads) in STANDARD.items()}[1280] == 16  # 80 wide, not 64
    assert SOLO[192] == 12  # 16 wide


def test_a_decoder_with_other_positions_keeps_them(hf, fair_state, batch, tmp_path):
    """Halves swapped, [y | x], or learned: the stored table is used, and the loss follows it."""
    table = fair_state["decoder_pos_embed"]
    swapped = torch.cat([table[..., DECODER[0] // 2 :], table[..., : DECODER[0] // 2]], dim=-1) + 0.3
    torch.save({"model": fair_state | {"decoder_pos_embed": swapped}}, tmp_path / "swapped.pth")
    opened = open_weights(tmp_path / "swapped.pth", model=OURS)
    opened.weights.__dict__["decoder_heads"] = DECODER[2]
    assert "stored" in opened.decoder_text(GRID)
    kept = hf.decoder.decoder_pos_embed.detach().clone()
    try:
        hf.decoder.decoder_pos_embed.data = swapped.clone()
        same_loss(opened, hf, batch)
    finally:
        hf.decoder.decoder_pos_embed.data = kept


def test_positions_and_patches_are_resampled_as_timm_does(fair_state, tmp_path):
    from timm.layers import resample_abs_pos_embed, resample_patch_embed

    torch.save({"model": fair_state}, tmp_path / "a.pth")
    opened = open_weights(tmp_path / "a.pth", model=OURS)
    net = opened.encoder(image_size=(48, 40)).net
    assert torch.equal(net.pos_embed, resample_abs_pos_embed(fair_state["pos_embed"], [6, 5], num_prefix_tokens=1))
    net = opened.encoder(image_size=(64, 64), patch_size=16).net
    assert torch.equal(net.pos_embed, fair_state["pos_embed"])
    want = resample_patch_embed(fair_state["patch_embed.proj.weight"], [16, 16])
    assert torch.equal(net.patch_embed.proj.weight, want)
    state = opened.decoder_state(Grid((3, 3), (16, 16)), 3)
    assert state["position"].shape == (10, DECODER[0])
    assert state["predict.weight"].shape == (16 * 16 * 3, DECODER[0])


@pytest.mark.parametrize("channels", [1, 5])
def test_equal_channels_give_the_activations_of_a_grey_picture(fair_state, channels, tmp_path):
    torch.save({"model": fair_state}, tmp_path / "a.pth")
    opened = open_weights(tmp_path / "a.pth", model=OURS)
    with pytest.raises(UserError, match="give those of your data"):
        opened.encoder(channels=channels)
    grey = torch.rand(2, 1, SIDE, SIDE) * 255
    data = ((100.0,) * channels, (50.0,) * channels)
    encoder = opened.encoder(channels=channels, statistics=data)
    assert encoder.mean.tolist() == [100.0] * channels
    three = opened.encoder()
    three.mean[:], three.std[:] = 100.0, 50.0
    got, want = encoder(grey.expand(-1, channels, -1, -1)).units, three(grey.expand(-1, 3, -1, -1)).units
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_named_bands_keep_their_filters_and_statistics(fair_state, tmp_path):
    torch.save({"model": fair_state}, tmp_path / "a.pth")
    opened = open_weights(tmp_path / "a.pth", model=OURS)
    data = tuple((float(v),) * 4 for v in (7, 9))
    encoder = opened.encoder(bands=("B", "green", "Red", "NIR"), statistics=data)
    assert encoder.mean.tolist() == pytest.approx([MEAN[2], MEAN[1], MEAN[0], 7.0])
    assert encoder.std.tolist() == pytest.approx([STD[2], STD[1], STD[0], 9.0])
    old, new = fair_state["patch_embed.proj.weight"], encoder.net.patch_embed.proj.weight
    torch.testing.assert_close(new[:, 0], old[:, 2] * 3 / 4)
    torch.testing.assert_close(new[:, 3], old.mean(dim=1) * 3 / 4)
    swapped = opened.encoder(bands=("B", "G", "R"))
    x = torch.rand(2, 3, SIDE, SIDE) * 255
    torch.testing.assert_close(swapped(x.flip(1)).units, opened.encoder()(x).units, rtol=1e-4, atol=1e-5)
    state = opened.decoder_state(GRID, 4, ("B", "green", "Red", "NIR"))
    predict = fair_state["decoder_pred.weight"].view(PATCH, PATCH, 3, -1)
    torch.testing.assert_close(state["predict.weight"].view(PATCH, PATCH, 4, -1)[:, :, 0], predict[:, :, 2])
    for bands, words in ((("R", "R", "G"), "more than once"), (("R", "G"), "names 2 channels")):
        with pytest.raises(UserError, match=words):
            opened.encoder(bands=bands, channels=3, statistics=data)


class Evil:
    def __reduce__(self):
        return os.system, ("touch made_by_the_pickle",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.zeros(1)}, "args": Evil()}, "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Evil()}))
    torch.save({"model": Evil()}, "old.pth", _use_new_zipfile_serialization=False)
    for name in ("evil.pth", "plain.pth", "old.pth"):
        with pytest.raises(UserError, match=r"refused|no weights that can be read") as caught:
            unmask.load(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"evil\.pth is refused: opening it would call posix\.system"):
        unmask.load("evil.pth")
    assert not (tmp_path / "made_by_the_pickle").exists()


def test_records_of_training_programs_are_passed_over(tmp_path):
    content = {"model": {"a": torch.ones(2)}, "args": argparse.Namespace(out=tmp_path, x=[1]), "epoch": 4}
    torch.save(content, tmp_path / "a.pth")
    state, header = read_weights(tmp_path / "a.pth")
    assert torch.equal(state["a"], torch.ones(2))
    assert header == {"epoch": 4}


def bad(tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in ("hf", "neither", "lacks"):
        (folder / name).mkdir()
    (folder / "text.pth").write_text("this is no checkpoint\n")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    torch.save({"model": {"a": torch.zeros(2)}}, folder / "whole.pth")
    (folder / "cut.pth").write_bytes((folder / "whole.pth").read_bytes()[:-200])
    torch.save([1, 2], folder / "list.pth")
    torch.save({"conv1.weight": torch.zeros(2, 3, 7, 7), "fc.weight": torch.zeros(2, 2)}, folder / "resnet.pth")
    key = "embeddings.patch_embeddings.projection.weight"
    save_file({key: torch.zeros(8, 3, 2, 2)}, folder / "hf" / "model.safetensors")
    (folder / "neither" / "notes.txt").write_text("no weights here")
    (folder / "lacks" / "config.json").write_text('{"model_type": "vit_mae"}')
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "lacks" / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.pth", "no weights that can be read|refused"),
        ("empty.pth", "is empty: 0 bytes"),
        ("cut.safetensors", "no weights that can be read"),
        ("cut.pth", "no weights that can be read"),
        ("list.pth", "holds a list without tensors by name"),
        ("resnet.pth", "no layout of weights"),
        ("hf", "has no config.json"),
        ("hf/model.safetensors", "it has no config.json"),
        ("neither", "neither of model.safetensors"),
        ("lacks", "model-00001-of-00002.safetensors"),
        ("missing.pth", "no such file"),
        ("vit_tinny_patch16_224", "no folder, no file and no model"),
    ],
)
def test_what_cannot_be_opened_says_so_in_one_line(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(bad(tmp_path))
    with pytest.raises(UserError, match=words) as caught:
        unmask.load(name)
    assert "\n" not in str(caught.value)


def test_a_wrong_architecture_lists_both_sides(fair_state, tmp_path):
    torch.save({"model": fair_state}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"(?s)only in the model.*blocks\.2.*Give the model"):
        open_weights(tmp_path / "a.pth", model=OURS.replace("depth=2", "depth=3")).encoder()
    narrow = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(32, 32), patch_size=8)
    state = {k: v for k, v in narrow.net.state_dict().items() if k != "norm.bias"} | {"extra": torch.zeros(1)}
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=r"(?s)only in the model \(1\): norm.bias.*only in the file \(1\): extra"):
        open_weights(tmp_path / "b.safetensors").encoder()
    torch.save(_width_of(40), tmp_path / "c.pth")
    with pytest.raises(UserError, match="num_heads="):
        open_weights(tmp_path / "c.pth")


def _width_of(width):
    options = {"embed_dim": width, "depth": 1, "num_heads": 2, "img_size": 32, "num_classes": 0}
    return timm.create_model("vit_base_patch16_224", **options).state_dict()
