"""Checkpoints in their makers' layouts, made of other programs' models: the same features, and what is said."""

import re
import sys
import types

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import layer_norm

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.models.layers.position import sincos
from unmask.weights.canonical import HALF, IMAGENET
from unmask.weights.open import open_weights
from unmask.weights.reading import Reading

WIDTH = 384
EMA, STUDENT = Reading(ema=True), Reading(student=True)
LOGITS = {"head.mlp.0.weight": torch.zeros(4, WIDTH), "head.last_layer.weight_g": torch.zeros(4, 1)}


def vit(model="vit_small_patch16_224", **options):
    """timm's ViT of two blocks, every weight at random."""
    pooling = {"global_pool": "avg", "fc_norm": False} if options.get("class_token") is False else {}
    net = timm.create_model(model, **({"num_classes": 0, "depth": 2, "img_size": 64} | pooling | options)).eval()
    return scrambled(net)


def scrambled(net):
    generator = torch.Generator().manual_seed(sum(map(ord, type(net).__name__)) + scrambled.count)
    scrambled.count += 1
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator) + (0.2 if weight.ndim == 1 else 0.0))
    return net


scrambled.count = 0


def prefixed(prefix, net):
    return {prefix + key: value for key, value in net.state_dict().items()}


def saved(content, path):
    torch.save(content, path)
    return path


def same_features(opened, forward, statistics=IMAGENET):
    encoder = opened.encoder()
    assert (encoder.mean.tolist(), encoder.std.tolist()) == (pytest.approx(statistics[0]), pytest.approx(statistics[1]))
    x = torch.randint(0, 256, (2, 3, *opened.grid.size)).float()
    with torch.no_grad():
        tokens, want = encoder(x), forward(encoder.normalize(x))
    torch.testing.assert_close(torch.cat(tokens, dim=1), want, rtol=1e-5, atol=1e-5)
    return " ".join(opened.lines)


def moco_table(side):
    """Rows first, where MAE's has columns first; a row of zeros for the class token."""
    x, y = sincos(Grid((side, side), (1, 1)), WIDTH).chunk(2, dim=1)
    return torch.cat([torch.zeros(1, WIDTH), torch.cat([y, x], dim=1)])[None]


def test_moco_has_twelve_heads_in_its_small_vit_also_under_another_name(tmp_path):
    online, average = vit(num_heads=12), vit(num_heads=12)
    for net in (online, average):
        net.pos_embed.data = moco_table(4)
    state = prefixed("module.base_encoder.", online) | prefixed("module.momentum_encoder.", average)
    state |= {"module.base_encoder.head.0.weight": torch.zeros(4, 4), "module.predictor.0.weight": torch.zeros(4, 4)}
    path = saved({"epoch": 300, "arch": "vit_small", "state_dict": state}, tmp_path / "vit-s-300ep.pth.tar")
    said = same_features(open_weights(path), online.forward_features)
    assert "MoCo v3" in said
    assert "12 attention heads" in said
    assert "momentum_encoder.`, a moving average" in said
    assert "not for commercial use, if these are Meta's MoCo v3 weights" in said
    same_features(open_weights(path, reading=EMA), average.forward_features)
    renamed = saved(online.state_dict(), tmp_path / "mine.pth")  # as of a linear classifier, its arch left out
    assert "MoCo v3" in same_features(open_weights(renamed), online.forward_features)


@pytest.mark.parametrize("maker", ["DINO", "iBOT"])
def test_of_student_and_teacher_the_teacher_is_taken_and_the_student_on_request(maker, tmp_path):
    student, teacher = vit(), vit()
    content = {
        "student": prefixed("module.backbone.", student) | {f"module.{key}": value for key, value in LOGITS.items()},
        "teacher": prefixed("backbone.", teacher) | LOGITS,
        "dino_loss": {"center": torch.zeros(1, 4)},
        "epoch": 100,
    }
    if maker == "iBOT":
        content["student"]["module.backbone.masked_embed"] = torch.zeros(1, WIDTH)
        content["teacher"]["head.last_layer2.weight_g"] = torch.zeros(4, 1)
    path = saved(content, tmp_path / "checkpoint.pth")
    said = same_features(open_weights(path), teacher.forward_features)
    assert f": {maker}, " in said
    assert "the teacher is taken" in said
    assert "--student takes it" in said
    said = same_features(open_weights(path, reading=STUDENT), student.forward_features)
    assert f": {maker}, " in said
    assert "the student is taken" in said
    with pytest.raises(UserError, match="no student beside a teacher"):
        open_weights(saved({"teacher": content["teacher"]}, tmp_path / "teacher.pth"), reading=STUDENT)


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


def test_i_jepa_gives_its_target_encoder(tmp_path):
    context, target = vit(class_token=False), vit(class_token=False)
    content = {"encoder": prefixed("module.", context), "target_encoder": prefixed("module.", target), "epoch": 300}
    path = saved(content | {"predictor": {"module.mask_token": torch.zeros(1)}}, tmp_path / "latest.pth.tar")
    said = same_features(open_weights(path), target.forward_features)
    assert "I-JEPA" in said
    assert "`target_encoder`" in said
    assert "not for commercial use" in said
    same_features(open_weights(path, reading=STUDENT), context.forward_features)


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


@pytest.mark.parametrize("wrapped", ["dicts", "prefixes", "averaged alone", "mmengine", "Lightning"])
def test_averages_are_taken_on_request_or_where_there_is_nothing_else(wrapped, tmp_path):
    online, average = vit(), vit()
    ours, theirs = online.state_dict(), average.state_dict()
    content = {
        "dicts": {"state_dict": ours, "state_dict_ema": theirs, "arch": "vit_small_patch16_224"},
        "prefixes": {"state_dict": prefixed("model.", online) | prefixed("ema_model.module.", average)},
        "averaged alone": {"model_ema": prefixed("module.", average) | {"n_averaged": torch.tensor(3)}},
        "mmengine": {"state_dict": theirs, "ema_state_dict": prefixed("module.", online), "meta": {}},
        "Lightning": {"state_dict": theirs, "current_model_state": ours, "averaging_state": {}},
    }[wrapped]
    path = saved(content, tmp_path / "checkpoint.pth")
    only_average = wrapped in ("averaged alone", "mmengine", "Lightning")
    said = same_features(open_weights(path), (average if only_average else online).forward_features)
    assert "moving average (EMA)" in said
    assert ("--ema takes it" in said) == (not only_average)
    same_features(open_weights(path, reading=EMA), average.forward_features)
    with pytest.raises(UserError, match="there is no moving average"):
        open_weights(saved(ours, tmp_path / "plain.pth"), reading=EMA)


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
