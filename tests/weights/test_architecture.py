"""Weights in files: found by their keys or names, and refused where they cannot be used."""

import argparse
import json
import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from support.foreign import DEPTH, DIM, PATCH, SIDE, vit_mae

import unmask
from unmask.errors import UserError
from unmask.weights.files import read_weights
from unmask.weights.open import open_weights


@pytest.fixture(scope="module")
def hf():
    return vit_mae()


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
    from unmask.weights.architecture import STANDARD
    from unmask.weights.formats.solo import HEADS as SOLO

    assert {width: heads for width, (_, _, heads) in STANDARD.items()}[1280] == 16  # 80 wide, not 64
    assert SOLO[192] == 12  # 16 wide


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
