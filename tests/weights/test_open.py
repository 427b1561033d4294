"""Weights of every layout, opened: the same features and losses as the programs that made them."""

import argparse

import pytest
import timm
import torch
from safetensors.torch import save_file
from support.foreign import (
    DECODER,
    DEPTH,
    DIM,
    GRID,
    HEADS,
    MEAN,
    PATCH,
    SIDE,
    STD,
    lightly,
    lightly_torchvision,
    mmpretrain,
    solo,
    vit_mae,
)

import unmask
from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder
from unmask.planning.initial_weights import FromWeights
from unmask.weights.open import open_weights

OURS = f"vit_base_patch16_224(embed_dim={DIM}, depth={DEPTH}, num_heads={HEADS})"


@pytest.fixture(scope="module")
def hf():
    return vit_mae()


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
    decoder = opened.decoder_text(GRID)
    mae = MAE(opened.encoder(), target=f"pixels(normalize={normalize})", decoder=decoder)
    torch.nn.init.normal_(mae.encoder.net.cls_token)  # whatever is there must be replaced
    FromWeights(opened).load(mae, decoder, None)
    with torch.no_grad():
        hf.config.norm_pix_loss = normalize
        want = hf(normalized(x), noise=noise).loss
        got = mae.eval()({"views": [x], "mask": hide_top(noise, 0.75)})["loss"]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


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
    import unmask.weights.formats.solo as module

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
def test_equal_channels_give_the_activations_of_a_grey_image(fair_state, channels, tmp_path):
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
