"""Folders as transformers' save_pretrained writes them, of models under other makers' names too: the same features."""

import json

import pytest
import torch
from torch.nn.functional import layer_norm

from unmask.errors import UserError
from unmask.weights.open import open_weights

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
DINO = SIZES | {"image_size": 28, "patch_size": 7}
JEPA = SIZES | {"image_size": [32, 64], "patch_size": 16, "intermediate_size": 100}
BEIT = SIZES | {"image_size": 32, "patch_size": 8, "intermediate_size": 100, "use_absolute_position_embeddings": True}
HIERA = {"embed_dim": 16, "image_size": [64, 96], "depths": [1, 2, 1, 1], "num_heads": [2, 4, 8, 16], "mlp_ratio": 3.0}


def model(name, **sizes):
    """A model of transformers by the name of its class, every weight at random."""
    import transformers

    kind = getattr(transformers, name)
    net, generator = kind(kind.config_class(**sizes)).eval(), torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator) + (0.2 if weight.ndim == 1 else 0.0))
    return net


def sequence(net, x):
    """Behind the last norm, which some models apply to the mean alone."""
    inner = getattr(net, net.base_model_prefix, net)
    norm = getattr(getattr(inner, "pooler", None), "layernorm", None)
    return inner(x).last_hidden_state if norm is None else norm(inner(x).last_hidden_state)


def hiera_sequence(net, x):
    """In reading order, behind the last norm, which transformers applies to the mean alone."""
    inner = getattr(net, "hiera", net)
    norm = net.encoder_norm if hasattr(net, "encoder_norm") else inner.pooler.layernorm
    if hasattr(net, "encoder_norm"):  # one that masks its input: its weights in one that does not
        inner = model("HieraModel", **HIERA)
        inner.load_state_dict({k[6:]: v for k, v in net.state_dict().items() if k.startswith("hiera.")}, strict=False)
    last = inner(x, output_hidden_states=True).reshaped_hidden_states[-1].flatten(1, 2)
    return layer_norm(last, last.shape[-1:], norm.weight, norm.bias, eps=1e-6)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("Dinov2Model", DINO, "Hugging Face DINOv2"),
        ("Dinov2ForImageClassification", DINO | {"qkv_bias": False}, "classifier"),
        ("Dinov2Model", DINO | {"use_swiglu_ffn": True}, "vit_giant_patch14_dinov2(embed_dim=48, depth=2, num_heads=4"),
        ("Dinov2WithRegistersModel", DINO, "reg_tokens=4, no_embed_class=True"),
        ("Dinov2WithRegistersModel", DINO | {"use_swiglu_ffn": True, "num_register_tokens": 2}, "reg_tokens=2"),
        ("IJepaModel", JEPA, "if these are Meta's I-JEPA weights"),
        ("IJepaForImageClassification", JEPA | {"qkv_bias": False}, "2 tensors in classifier"),
        ("Data2VecVisionForImageClassification", BEIT, "Hugging Face data2vec"),
        ("Data2VecVisionModel", BEIT | {"use_mean_pooling": False}, "Hugging Face data2vec"),
        ("BeitModel", BEIT | {"use_mean_pooling": False}, "Hugging Face BEiT"),
        ("ViTMSNModel", SIZES | {"image_size": 32}, "Hugging Face ViT-MSN"),
        ("HieraModel", HIERA, "num_heads=2, stages=(1, 2, 1, 1), mlp_ratio=3.0"),
        ("HieraForImageClassification", HIERA, "Hugging Face Hiera"),
        (
            "HieraForPreTraining",
            HIERA | {"decoder_hidden_size": 16, "decoder_depth": 1, "decoder_num_heads": 2},
            "in decoder, multiscale_fusion",
        ),
    ],
)
def test_features_are_transformers_own(name, sizes, words, tmp_path):
    net = model(name, **sizes)
    net.save_pretrained(tmp_path)
    opened = open_weights(tmp_path)
    encoder = opened.encoder()
    x = torch.randint(0, 256, (2, 3, *opened.grid.size), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        tokens = torch.cat(encoder(x), dim=1)
        expected = (hiera_sequence if "Hiera" in name else sequence)(net, encoder.normalize(x))
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert words in " ".join(opened.lines)


def test_gate_and_input_of_swiglu_may_be_stored_apart(tmp_path):
    net = model("Dinov2Model", **DINO, use_swiglu_ffn=True)
    net.save_pretrained(tmp_path, safe_serialization=True)
    (tmp_path / "model.safetensors").unlink()
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")  # under the names of the classes of today
    encoder, x = open_weights(tmp_path).encoder(), torch.rand(1, 3, 28, 28) * 255
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(encoder(x), dim=1), sequence(net, encoder.normalize(x)))


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("HieraBackbone", HIERA, "a Hiera without its last norm"),
        ("HieraModel", HIERA | {"query_stride": [1, 2]}, r"its query_stride is \[1, 2\], and timm's Hiera"),
        ("HieraModel", HIERA | {"num_heads": [1, 1, 2, 2]}, "each is twice the one before"),
        ("ViTModel", SIZES | {"image_size": 32, "hidden_act": "relu"}, "its hidden_act is 'relu'"),
        ("DeiTModel", SIZES | {"image_size": 32}, "its model_type is 'deit'.*of a vit_mae, vit, vit_msn, dinov2"),
        ("Data2VecVisionModel", BEIT, "a data2vec without its last norm"),
        ("Data2VecVisionModel", BEIT | {"use_relative_position_bias": True}, "adds a relative position bias"),
        ("BeitModel", BEIT | {"use_shared_relative_position_bias": True}, "adds a relative position bias"),
        ("DINOv3ViTModel", SIZES | {"image_size": 32}, "timm's copies of these weights are read"),
    ],
)
def test_what_timm_has_no_network_for_is_refused_with_the_reason(name, sizes, words, tmp_path):
    model(name, **sizes).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=words) as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value)


def test_heads_of_the_config_count_more_than_the_folder_s_name(tmp_path):
    net = model("ViTModel", **SIZES | {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 4},
                intermediate_size=768, image_size=32)  # fmt: skip
    folder = tmp_path / "vit_tiny_patch16_224"  # which has 3 heads in timm
    net.save_pretrained(folder)
    encoder, x = open_weights(folder).encoder(), torch.rand(1, 3, 32, 32) * 255
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(encoder(x), dim=1), sequence(net, encoder.normalize(x)))


def test_the_licence_of_the_config_or_the_model_card_counts_more_than_the_layout_s(tmp_path):
    model("IJepaModel", **JEPA).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"license": "mit"}))
    assert open_weights(tmp_path).licence == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    assert open_weights(tmp_path).licence == "cc0-1.0, by its model card"


CLIP = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
WORDS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}


def tower(whole, act):
    """CLIP's image tower, and what it is part of, every weight at random."""
    sizes = CLIP | {"image_size": 32, "hidden_act": act}
    if not whole:
        return (net := model("CLIPVisionModel", **sizes)), net
    tokens = {"max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    net = model("CLIPModel", vision_config=sizes, text_config=WORDS | tokens)
    return net.vision_model, net


@pytest.mark.parametrize(("whole", "act"), [(False, "quick_gelu"), (True, "gelu")])
def test_the_image_tower_of_clip_is_read_and_all_of_its_tokens_are_normalised(whole, act, tmp_path):
    net, saved = tower(whole, act)
    saved.save_pretrained(tmp_path)
    opened = open_weights(tmp_path)
    encoder, x = opened.encoder(), torch.rand(2, 3, 32, 32) * 255
    with torch.no_grad():
        inner = getattr(net, "vision_model", net)
        wanted = inner.post_layernorm(net(encoder.normalize(x)).last_hidden_state)
        torch.testing.assert_close(torch.cat(encoder(x), dim=1), wanted, rtol=1e-5, atol=1e-5)
    assert "CLIP's, as this kind of model usually has" in " ".join(opened.lines)
    assert ("left out" in " ".join(opened.lines)) == whole
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="give the whole folder"):
        open_weights(tmp_path / "model.safetensors")
