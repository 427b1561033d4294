"""Folders of V-JEPA 2 as transformers' save_pretrained writes them: the same features of clips, as a start too."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.vjepa import PREDICTOR, tiny

import unmask
from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.encoder import Tokens, create_encoder
from unmask.registry import build
from unmask.weights.open import open_weights
from unmask.weights.reading import Reading

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def clips(*size):
    return torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1)).float()


def features(net, encoder, x):
    inner = getattr(net, "vjepa2", net)
    with torch.no_grad():
        return inner(encoder.normalize(x).transpose(1, 2), skip_predictor=True).last_hidden_state


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("VJEPA2Model", {}, "with predictor"),
        ("VJEPA2ForVideoClassification", {"num_pooler_layers": 1}, "tensors in classifier, pooler"),
        ("VJEPA2Model", {"qkv_bias": False, "tubelet_size": 1, "layer_norm_eps": 1e-3}, "qkv_bias=False"),
        ("VJEPA2Model", {"mlp_ratio": 48 / 11, "hidden_size": 64, "num_attention_heads": 4}, "num_heads=4, mlp_ratio="),
    ],
)
def test_features_are_transformers_own(name, sizes, words, tmp_path):
    net = tiny(name, **sizes)
    net.save_pretrained(tmp_path)
    opened = open_weights(tmp_path)
    encoder, x = opened.encoder(), clips(4, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x).units, features(net, encoder, x), **CLOSE)
    said = " ".join(opened.lines)
    assert words in said
    assert "Hugging Face V-JEPA 2" in said
    assert "MIT, if these are Meta's V-JEPA 2 weights" in said
    assert opened.weights.modality.startswith("video(frames=4")


@pytest.mark.parametrize("tokens", [10, 1])
def test_the_predictor_of_a_saved_folder_predicts_as_transformers_does(tokens, tmp_path):
    net = tiny(pred_num_mask_tokens=tokens)
    with torch.no_grad():
        net.predictor.embeddings.mask_tokens.normal_()  # all different
    net.save_pretrained(tmp_path)
    opened = open_weights(tmp_path)
    assert opened.weights.predictor == PREDICTOR
    said = " ".join(opened.lines)
    assert ("of the 10 mask tokens of its predictor number 1 is kept" in said) == (tokens == 10)
    assert "left out" not in said
    encoder, x = opened.encoder(), clips(4, 16, 16)
    decoder = build("decoder", PREDICTOR, grid=encoder.grid, in_dim=28, out_dim=28).eval()
    decoder.load_state_dict(opened.decoder_state(encoder.grid, 3))
    places = torch.randperm(32, generator=torch.Generator().manual_seed(0)).expand(2, -1)
    visible, hidden = places[:, :11], places[:, 11:20]
    with torch.no_grad():
        pixels, units = encoder.normalize(x).transpose(1, 2), encoder(x).units
        mine = decoder(Tokens(units[:, :0], take(units, visible)), Mask(visible, hidden))
        theirs = net(pixels, context_mask=[visible], target_mask=[hidden]).predictor_output.last_hidden_state
    torch.testing.assert_close(mine, theirs, **CLOSE)


def test_a_predictor_that_cannot_be_had_here_is_left_out_and_said(tmp_path):
    for number, (sizes, words) in enumerate([({"pred_mlp_ratio": 2.0}, "four times"), ({"qkv_bias": False}, "biases")]):
        tiny(**sizes).save_pretrained(tmp_path / str(number))
        opened = open_weights(tmp_path / str(number))
        assert opened.decoder is None
        assert any("its predictor is left out" in line and words in line for line in opened.lines)
        assert opened.encoder()(clips(4, 16, 16)).units.isfinite().all()


def test_clips_of_other_lengths_need_no_resizing(tmp_path):
    net = tiny()
    net.save_pretrained(tmp_path)
    opened = open_weights(tmp_path)
    encoder, x = opened.encoder(image_size=(8, 16, 16)), clips(8, 16, 16)
    assert encoder.grid == Grid((4, 4, 4), (2, 4, 4))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x).units, features(net, encoder, x), **CLOSE)
    with pytest.raises(UserError, match=r"units of 2 x 4 x 4; they cannot be brought to .*units of 2 x 8 x 8"):
        opened.put(create_encoder(opened.model, image_size=(4, 16, 16), patch_size=(2, 8, 8), modality="video"))
    with pytest.raises(UserError, match="--weights-size is for weights of images"):
        open_weights(tmp_path, reading=Reading(size=(16, 16)))


def test_mean_and_std_are_those_of_the_preprocessor_of_clips(tmp_path):
    tiny().save_pretrained(tmp_path)
    assert "ImageNet's, as this kind of model usually has" in " ".join(open_weights(tmp_path).lines)
    told = json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    (tmp_path / "video_preprocessor_config.json").write_text(told)
    opened = open_weights(tmp_path)
    assert opened.statistics == ((127.5,) * 3, (63.75,) * 3)
    assert "as its video_preprocessor_config.json says" in " ".join(opened.lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "vivit"}, "its model_type is 'vivit': give the whole folder"),
        ({"hidden_act": "relu"}, "its hidden_act is 'relu'"),
        ({"patch_size": 8}, "tubelets of 2 x 8 x 8, and its filters are of 2 x 4 x 4"),
        ({"crop_size": 18}, "no whole number of tubelets"),
        ({"num_attention_heads": "two"}, "num_attention_heads in its config.json is a whole number"),
        ({"num_attention_heads": 3}, "embed_dim=28 cannot be shared by num_heads=3"),
        ({"num_attention_heads": 14}, "heads of 2 values are too narrow"),
        ({"num_hidden_layers": 10**9}, "depth is 1000000000, and that of the weights is 2"),
        ({"hidden_size": 56}, "embed_dim is 56, and that of the weights is 28"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_with_the_reason(changes, words, tmp_path):
    tiny().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=words):
        open_weights(tmp_path).encoder()(clips(4, 16, 16))


def test_damaged_weights_are_refused_with_the_reason(tmp_path):
    tiny().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole, state = path.read_bytes(), load_file(path)
    for missing, words in (("layer.0.mlp.fc1", "no first block"), ("layer.1.norm1", "only in the model")):
        save_file({key: value for key, value in state.items() if missing not in key}, path)
        with pytest.raises(UserError, match=words):
            open_weights(tmp_path).encoder()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        open_weights(tmp_path)
    path.write_bytes(whole)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"the keys of V-JEPA 2, but no config\.json tells more"):
        open_weights(path)


@pytest.mark.slow
def test_a_run_that_starts_from_it_has_its_features_and_so_has_the_encoder_that_it_writes(tmp_path):
    """The learning rate is next to nothing."""
    from support.sampling import write_image, write_samples

    net = tiny()
    net.save_pretrained(tmp_path / "weights")
    folder = write_samples(tmp_path / "clips", "video", each=3)
    options = {"init": tmp_path / "weights", "steps": 1, "lr": 1e-9, "batch": 2, "device": "cpu"}
    mask = "multiblock(tubes=((2, 0.3),))"
    run = unmask.pretrain(folder, out=tmp_path / "run", method="ijepa", mask=mask, **options)
    assert run.config.method.decoder == PREDICTOR
    kept = open_weights(tmp_path / "weights").decoder
    for name, value in run.objective().decoder.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=1e-4, atol=1e-5)
    plain = unmask.pretrain(folder, out=tmp_path / "plain", **{**options, "method": "mae", "decoder": "full(dim=16)"})
    assert plain.config.method.target == "pixels"
    assert run.encoder().grid == Grid((2, 4, 4), (2, 4, 4))
    x = clips(4, 16, 16)
    for encoder in (run.encoder(), open_weights(tmp_path / "run" / "encoder.safetensors").encoder()):
        with torch.no_grad():
            torch.testing.assert_close(encoder(x).units, features(net, encoder, x), rtol=1e-4, atol=1e-4)
        assert encoder.modality.startswith("video")
    (tmp_path / "images").mkdir()
    for number in range(8):
        write_image(tmp_path / "images" / str(number), number % 2, number)
    with pytest.raises(UserError, match="weights for clips cannot be brought to images"):
        unmask.pretrain(tmp_path / "images", out=tmp_path / "no", **options)
    short = {"epochs": 1, "batch": 2, "device": "cpu"}
    done = unmask.transfer(tmp_path / "weights", on=folder, out=tmp_path / "classifier", **short)
    assert unmask.load(done.path).encoder.grid.unit == (2, 4, 4)
