"""Weights of images in encoders of clips and volumes."""

import pytest
import torch
from support.makers import saved, vit

import unmask
from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.models.encoder import create_encoder
from unmask.weights.open import open_weights
from unmask.weights.resize import inflate

MODEL = "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)"


def opened(tmp_path):
    net = vit("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=2, img_size=32, patch_size=8)
    return net, open_weights(saved(net.state_dict(), tmp_path / "v.pth"), model=MODEL)


@pytest.mark.parametrize("how", ["average", "centre"])
def test_a_still_clip_gives_the_patch_tokens_of_its_frame(how, tmp_path):
    net, weights = opened(tmp_path)
    text = f"video(inflate='{how}')"
    encoder = create_encoder(
        MODEL, image_size=(4, 32, 32), patch_size=(2, 8, 8), mean=(0,) * 3, std=(1,) * 3, modality=text
    )
    weights.put(encoder)
    frame = torch.randn(1, 3, 32, 32)
    tokens = encoder.net.patch_embed(frame[:, :, None].expand(-1, -1, 4, -1, -1)).unflatten(1, (2, 16))
    for layer in tokens.unbind(dim=1):
        torch.testing.assert_close(layer, net.patch_embed(frame).flatten(1, -2), rtol=1e-4, atol=1e-5)


def test_layers_have_the_positions_of_the_image_and_are_told_apart(tmp_path):
    net, weights = opened(tmp_path)
    encoder = create_encoder(MODEL, image_size=(8, 32, 32), patch_size=(2, 8, 8), modality="video")
    weights.put(encoder)
    prefix, units = encoder.net.pos_embed[0, :1], encoder.net.pos_embed[0, 1:].unflatten(0, (4, 16))
    assert torch.equal(prefix, net.pos_embed[0, :1])
    apart = units - net.pos_embed[0, 1:]
    torch.testing.assert_close(apart, apart[:, :1].expand_as(apart))  # the same for all places of a layer
    assert len({tuple(layer.tolist()) for layer in apart[:, 0].round(decimals=4)}) == 4


def test_an_unknown_way_is_refused_with_the_nearest():
    state = {"patch_embed.proj.weight": torch.zeros(4, 3, 8, 8)}
    with pytest.raises(UserError, match=r"center.*centre"):
        inflate(state, Grid((4, 4), (8, 8)), Grid((2, 4, 4), (2, 8, 8)), torch.eye(3), 1, "center")


@pytest.mark.slow
def test_clips_are_learnt_from_weights_of_images(tmp_path):
    from support.sampling import write_samples

    net, _ = opened(tmp_path)
    folder = write_samples(tmp_path / "clips", "video", each=3)
    path = saved(net.state_dict(), tmp_path / "v.pth")
    run = unmask.pretrain(
        folder, out=tmp_path / "run", init=path, model=MODEL, steps=2, batch=2, image_size=(4, 32, 32), decoder_warmup=0
    )
    assert run.encoder().grid == Grid((2, 4, 4), (2, 8, 8))
