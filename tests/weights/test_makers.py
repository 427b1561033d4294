"""Checkpoints in their makers' layouts, made of other programs' models: the same features, and what is said."""

import re
import sys
import types

import pytest
import torch
from support.makers import WIDTH, same_features, saved, scrambled, vit
from torch import nn
from torch.nn.functional import layer_norm

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.models.layers.position import sincos
from unmask.weights.canonical import HALF, IMAGENET
from unmask.weights.open import open_weights
from unmask.weights.reading import Reading


def test_tokens_that_stood_for_masked_patches_are_left_out_and_said(tmp_path):
    net = vit()
    for name, token in (("masked_embed", torch.zeros(1, WIDTH)), ("mask_token", torch.zeros(1, 1, WIDTH))):
        path = saved({"state_dict": net.state_dict() | {name: token}}, tmp_path / "checkpoint_teacher.pth")
        assert f"1 tensor in {name}" in same_features(open_weights(path), net.forward_features)


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("chunks", [False, True])
def test_dinov2_with_registers_and_chunks(registers, chunks, tmp_path):
    net = vit("vit_small_patch14_reg4_dinov2" if registers else "vit_small_patch14_dinov2", img_size=56)
    state = dict(net.state_dict())
    if registers:  # its makers store the class token and its position apart, and none for registers
        position = torch.randn(1, 1, WIDTH)
        state["register_tokens"] = state.pop("reg_token")
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.zeros(1, WIDTH)
    if chunks:
        state = {f"backbone.{re.sub(r'blocks.(.)', r'blocks.0.' + chr(92) + '1', key)}": v for key, v in state.items()}
        state = {"teacher": state | {"dino_head.mlp.0.weight": torch.zeros(2, 2)}}
    said = same_features(open_weights(saved(state, tmp_path / "weights.pth")), net.forward_features)
    assert "DINOv2" in said
    assert "mask_token" in said
    assert "Apache 2.0" in said


def sam_by_transformers():
    from transformers import SamVisionConfig, SamVisionModel

    size = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_dim": 192, "output_channels": 8}
    windows = {"image_size": 80, "patch_size": 8, "window_size": 4, "global_attn_indexes": [2]}
    model = scrambled(SamVisionModel(SamVisionConfig(**size, **windows, attn_implementation="eager")).eval())
    return model, lambda x: model(x, output_hidden_states=True).hidden_states[-1].flatten(1, 2)


@pytest.mark.parametrize("layout", ["SAM", "Hugging Face"])
def test_sam_s_image_encoder_with_windows_that_attend_to_their_padding(layout, tmp_path):
    model, forward = sam_by_transformers()
    state = {key.removeprefix("vision_encoder."): value for key, value in model.state_dict().items()}
    if layout == "SAM":
        rename = {"patch_embed.projection": "patch_embed.proj", "layers.": "blocks.", "layer_norm": "norm"}
        for old, new in rename.items():
            state = {key.replace(old, new): value for key, value in state.items()}
    prefix = "image_encoder." if layout == "SAM" else "vision_encoder."
    content = {prefix + key: value for key, value in state.items()} | {"mask_decoder.x.weight": torch.zeros(2)}
    opened = open_weights(saved(content, tmp_path / "sam.pth"))
    said = same_features(opened, forward)
    assert "window=4, global_blocks=1, attend_padding=True" in opened.model
    assert "neck, mask_decoder" in said
    other = opened.encoder(image_size=(48, 72))
    assert other(torch.zeros(1, 3, 48, 72)).units.shape == (1, 54, 48)


def hiera_by_transformers():
    from transformers import HieraConfig, HieraModel

    config = HieraConfig(embed_dim=16, image_size=[64, 96], depths=[1, 2, 1, 1], num_heads=[1, 2, 4, 8])
    model, first = scrambled(HieraModel(config).eval()), [0, 1, 3, 4]
    patches = "embeddings.patch_embeddings.projection"
    rename = {"embeddings.position_embeddings": "pos_embed", patches: "patch_embed.proj", "pooler.layernorm": "norm"}
    rename |= {"layernorm_before": "norm1", "layernorm_after": "norm2"}
    state = {}
    for key, value in model.state_dict().items():
        for old, new in rename.items():
            key = key.replace(old, new)
        inside = r"encoder\.stages\.(\d+)\.layers\.(\d+)"
        state[re.sub(inside, lambda m: f"blocks.{first[int(m[1])] + int(m[2])}", key)] = value
    return model, state


@pytest.mark.parametrize("kind", ["fine-tuned", "pretrained"])
def test_hiera_in_its_makers_names(kind, tmp_path):
    model, state = hiera_by_transformers()
    scale, shift = state["norm.weight"], state["norm.bias"]
    if kind == "fine-tuned":
        state |= {"head.projection.weight": torch.zeros(5, 128), "head.projection.bias": torch.zeros(5)}
    else:
        state = {
            key.replace("norm.", "encoder_norm.", 1) if key.startswith("norm.") else key: v for key, v in state.items()
        }
        state |= {"decoder_embed.weight": torch.zeros(8, 128), "decoder_pred.weight": torch.zeros(768, 8)}
    path = saved({"model_state": state}, tmp_path / "hiera.pth")

    def forward(x):
        last = model(x, output_hidden_states=True).reshaped_hidden_states[-1].flatten(1, 2)
        return layer_norm(last, (128,), scale, shift, eps=1e-6)

    opened = open_weights(path, image_size=(64, 96))
    assert opened.model == "hiera_base_224(embed_dim=16, num_heads=1, stages=(1, 2, 1, 1))"
    said = same_features(opened, forward)
    assert ("2 tensors in decoder_embed, decoder_pred" in said) == (kind == "pretrained")
    assert "not for commercial use, if these are Meta's Hiera weights" in said
    assert opened.encoder(image_size=(96, 96))(torch.zeros(1, 3, 96, 96)).units.shape == (1, 9, 128)


def test_mean_and_std_follow_the_name_and_are_guessed_with_a_warning(tmp_path):
    state = vit(img_size=32).state_dict()
    for name, statistics, words in (
        ("vit_small_patch16_224.augreg_in21k.pth", HALF, "as timm has them for vit_small_patch16_224.augreg_in21k"),
        ("vit_small_patch16_224.dino.pth", IMAGENET, "as timm has them for vit_small_patch16_224.dino"),
        ("vit_small_patch16_224.pth", HALF, "as timm has them for vit_small_patch16_224"),
        ("dino_deitsmall16_pretrain.pth", IMAGENET, "as in DINO's code"),
        ("mae_pretrain_vit_small.pth", IMAGENET, "as in MAE's code"),
        ("renamed.pth", IMAGENET, "Warning: neither the file nor its name says"),
        ("vit_small_patch16_224_of_somebody.pth", IMAGENET, "Warning: neither the file nor its name says"),
    ):
        opened = open_weights(saved(state, tmp_path / name))
        assert opened.statistics == (pytest.approx(statistics[0]), pytest.approx(statistics[1])), name
        assert words in " ".join(opened.lines), name
    for mean, std in (((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)), ((127.5, 102.0, 76.5), (51.0, 51.0, 25.5))):
        given = open_weights(tmp_path / "renamed.pth", reading=Reading(mean=mean, std=std))
        assert given.encoder().mean.tolist() == pytest.approx([127.5, 102.0, 76.5])
        assert "as given" in " ".join(given.lines)
    with pytest.raises(UserError, match="have 1 numbers each"):
        open_weights(tmp_path / "renamed.pth", reading=Reading(mean=(0.5,), std=(0.5,)))
    for wrong in ({"mean": (0.5,)}, {"mean": (0.5,), "std": (0.0,)}, {"mean": (0.5,), "std": (0.5, 0.5)}):
        with pytest.raises(UserError, match="--mean"):
            Reading(**wrong)


def test_mae_s_positions_tell_mae_s_weights_under_any_name(tmp_path):
    net = vit("vit_base_patch16_224", depth=1)
    table = sincos(Grid((4, 4), (1, 1)), 768)
    net.pos_embed.data = torch.cat([torch.zeros(1, 768), table])[None]
    said = same_features(open_weights(saved(net.state_dict(), tmp_path / "renamed.pth")), net.forward_features)
    assert "reference MAE" in said
    assert "as in MAE's code" in said
    assert "Warning" not in said
    assert "CC-BY-NC 4.0, not for commercial use, if these are Meta's MAE weights" in said


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("encoder.rel_pos_bias.relative_position_bias_table", (732, 12), "BEiT, SimMIM.*relative position bias"),
        ("blocks.0.attn.relative_position_bias_table", (732, 12), "BEiT, SimMIM.*relative position bias"),
        ("encoder.layers.0.blocks.0.attn.relative_position_bias_table", (169, 4), "a Swin Transformer"),
        ("module.patch_embed.proj.weight", (8, 3, 2, 16, 16), "a video model"),
    ],
)
def test_what_unmask_has_no_encoder_for_is_refused_with_the_reason(key, shape, words, tmp_path):
    content = {"model": {"encoder.patch_embed.proj.weight": torch.zeros(8, 3, 4, 4), key: torch.zeros(shape)}}
    with pytest.raises(UserError, match=words) as caught:
        open_weights(saved(content, tmp_path / "weights.pth"))
    assert "\n" not in str(caught.value)


class Pickled:
    """Stands for a class of ultralytics."""


def test_a_model_of_ultralytics_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(Pickled, "__module__", "ultralytics.nn.tasks")
    module = types.ModuleType("ultralytics.nn.tasks")
    module.Pickled = Pickled
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, module)
    path = saved({"model": None, "ema": Pickled()}, tmp_path / "yolo.pt")
    with pytest.raises(UserError, match="a model of ultralytics, pickled whole"):
        open_weights(path)


def test_padding_is_attended_to_only_where_asked():
    from unmask.models.encoder import create_encoder

    encoders = [
        create_encoder(f"vit_tiny_patch16_224(depth=3, class_token=False, window=4, attend_padding={flag})",
                       image_size=(40, 40), patch_size=8) for flag in (True, False)]  # fmt: skip
    encoders[1].net.load_state_dict(encoders[0].net.state_dict())
    nn.init.normal_(encoders[0].net.blocks[0].attn.qkv.bias)
    encoders[1].net.load_state_dict(encoders[0].net.state_dict())
    x = torch.rand(1, 3, 40, 40)
    assert not torch.allclose(encoders[0].eval()(x).units, encoders[1].eval()(x).units)
