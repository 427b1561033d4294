"""Patch features as colours, attention as maps: right for every family and size, class and register tokens left out."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo
from torch.nn import functional as F

import unmask
from unmask.errors import UserError
from unmask.evaluation.attention_maps import attention
from unmask.evaluation.patch_pca import patch_colours
from unmask.models.encoder import create_encoder

VIT = "vit_tiny_patch16_224(depth=2"
FAMILIES = {
    "class token": (VIT + ")", 8, 1),
    "registers": (VIT + ", reg_tokens=3)", 8, 4),
    "no class token": (VIT + ", class_token=False)", 8, 0),
    "only registers": (VIT + ", class_token=False, reg_tokens=2)", 8, 2),
    "windows": (VIT + ", window=2)", 8, 1),
    "relative": (VIT + ", relative=True)", 8, 1),
    "rotary": ("eva02_tiny_patch14_224(depth=2)", 8, 1),
}


def encoder_of(family):
    model, patch, _ = FAMILIES[family]
    torch.manual_seed(0)
    encoder = create_encoder(model, image_size=(32, 32), patch_size=patch, mean=(120.0,) * 3, std=(60.0,) * 3).eval()
    for block in encoder.net.blocks:
        block.attn.fused_attn = True  # whatever other tests have chosen
    with torch.no_grad():
        for name, table in encoder.named_parameters():
            if name.startswith("relative"):
                table.normal_()  # they begin at zero
    return encoder


@pytest.mark.parametrize("size", [(32, 32), (40, 56)], ids=["own size", "another"])
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_what_queries_and_keys_say(family, size, monkeypatch):
    encoder, prefix = encoder_of(family), FAMILIES[family][2]
    x = torch.stack([torch.from_numpy(photo(seed, *size)).permute(2, 0, 1) for seed in range(2)])
    heard = []

    def listen(q, k, v, **options):
        heard.append((q, k))
        return original(q, k, v, **options)

    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", listen)
    with torch.no_grad():
        before = encoder.features(x)[0]
    q, k = heard[-1]
    shares = (q.double() @ k.double().transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    has_class = encoder.net.cls_token is not None
    expected = shares[:, :, 0, prefix:] if has_class else shares[:, :, prefix:, prefix:].mean(dim=2)
    found = attention(encoder, x)
    assert found.kind == ("of the class token" if has_class else "received on average")
    shape = (size[0] // 8, size[1] // 8)
    assert found.maps.shape == (2, 3, *shape)
    torch.testing.assert_close(found.maps.flatten(2).double(), expected, atol=1e-6, rtol=1e-4)
    count = len(heard)
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(x)[0], before)
    assert len(heard) > count  # the layer computes in one piece again


def test_encoders_and_blocks_without_a_map_are_refused_with_the_reason():
    hiera = create_encoder("hiera_tiny_224", image_size=(64, 64))
    with pytest.raises(UserError, match="hiera_tiny_224 has no attention maps"):
        attention(hiera, torch.zeros(1, 3, 64, 64))
    windowed = create_encoder("vit_tiny_patch16_224(depth=6, window=2)", image_size=(32, 32), patch_size=8)
    with pytest.raises(UserError, match=r"block 1 of .* sees windows only"):
        attention(windowed, torch.zeros(1, 3, 32, 32), block=1)
    with pytest.raises(UserError, match="no layer 6 among the 6"):
        attention(windowed, torch.zeros(1, 3, 32, 32), block=6)


def textures(left, right):
    """An image of two textures, left and right; 4 x 8 patches of 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    stripes = {"|": np.tile([40, 210], (32, 16)), "-": np.tile([[40], [210]], (16, 32)), ".": np.full((32, 32), 125)}
    grey = np.concatenate([stripes[left], stripes[right]], axis=1) + rng.normal(0, 5, (32, 64))
    return torch.from_numpy(np.repeat(grey[None], 3, axis=0)).clamp(0, 255).float()


def texture_features(x):
    """A toy encoder: how much a patch changes across and down, and its brightness."""
    patches = x[0].unfold(0, 8, 8).unfold(1, 8, 8)
    across, down = (patches.diff(dim=axis).abs().mean(dim=(2, 3)) for axis in (3, 2))
    return torch.stack([across, down, patches.mean(dim=(2, 3)), across * 0.1])


def test_colours_tell_textures_apart_and_agree_between_images():
    first, second = patch_colours([texture_features(textures("|", "-")), texture_features(textures("-", "|"))]).images
    left, right = first[:, :4].reshape(-1, 3).mean(0), first[:, 4:].reshape(-1, 3).mean(0)
    assert float((left - right).abs().max()) > 0.8  # one component goes from end to end
    assert float(first[:, :4].reshape(-1, 3)[:, 0].std()) < 0.1
    torch.testing.assert_close(first[:, :4, 0].mean(), second[:, 4:, 0].mean(), atol=0.05, rtol=0)
    flipped = patch_colours([texture_features(textures("|", "-")), texture_features(textures("-", "|"))]).images[0]
    torch.testing.assert_close(first, flipped)


def test_background_is_what_the_borders_are_made_of():
    features = torch.randn(6, 7, 9, generator=torch.manual_seed(0)) * 0.1
    features[0, 2:5, 3:7] += 5  # a thing in the middle
    features[1, 2:5, 3:5] += 2  # of two parts
    found = patch_colours([features, features.flip(2)], background=False)
    expected = torch.zeros(7, 9, dtype=torch.bool)
    expected[2:5, 3:7] = True
    assert torch.equal(found.kept[0], expected)
    assert torch.equal(found.kept[1], expected.flip(1))
    assert not found.images[0][~expected].any()
    parts = found.images[0][2:5, 3:5, 0].mean(), found.images[0][2:5, 5:7, 0].mean()
    assert abs(float(parts[0] - parts[1])) > 0.8
    upside = -features  # where the background is the larger value
    assert torch.equal(patch_colours([upside], background=False).kept[0], expected)
    assert torch.isfinite(patch_colours([torch.zeros(6, 2, 2)], background=False).images[0]).all()


def test_the_command_draws_both_and_refuses_what_does_not_go_together(run, photos, tmp_path):
    run = run.path
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    options = {"most": 3, "device": "cpu"}
    plain = unmask.show(run, photos, what="features", out=tmp_path / "f.png", **options)
    large = unmask.show(run, photos, what="features", size=64, background=False, out=tmp_path / "g.png", **options)
    maps = unmask.show(run, photos, what="attention", block=0, size=48, out=tmp_path / "a.png", **options)
    sizes = [Image.open(path).size for path in (plain, large, maps)]
    assert sizes[2][0] > sizes[0][0]  # a column for each head
    assert sizes[1][1] != sizes[0][1]  # whole images, not squares
    with pytest.raises(UserError, match="did you mean 'features'"):
        unmask.show(run, photos, what="feature")
    for wrong in (
        {"what": "attention", "ratio": 0.5},
        {"what": "masks", "size": 64},
        {"block": 0},
        {"background": False},
    ):
        with pytest.raises(UserError, match="--what"):
            unmask.show(run, photos, **wrong)
    with pytest.raises(UserError, match="no layer 5"):
        unmask.show(run, photos, what="features", block=5, out=tmp_path / "h.png")
    assert not (tmp_path / "h.png").exists()
