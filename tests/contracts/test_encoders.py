"""What every encoder family that can hide units keeps."""

import pytest
import timm
import torch

from unmask import registry
from unmask.masking.mask import Mask, hide_top
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder

FAMILIES = {  # name -> image size; every one checked with 2 blocks or as small as it comes
    "vit_tiny_patch16_224(depth=2)": (64, 48),
    "vit_medium_patch16_reg4_gap_256(depth=2)": (64, 64),  # registers, no class token
    "deit3_small_patch16_224(depth=2)": (64, 64),  # position table without a class row
    "vit_small_patch14_reg4_dinov2(depth=2)": (56, 56),  # registers and layer scale
    "vit_base_patch16_siglip_224(depth=2)": (64, 64),
    "eva02_tiny_patch14_224(depth=2)": (56, 56),  # rotary and absolute positions
    "vit_small_patch16_dinov3(depth=2)": (64, 64),  # rotary positions only
    "hiera_tiny_224": (128, 64),
    "vit_tiny_patch16_224(depth=3, window=3)": (80, 64),  # windows of 3 x 3 units on a grid of 5 x 4
    "vit_medium_patch16_reg4_gap_256(depth=3, window=2)": (64, 64),  # four registers fill a window; nothing is padded
}


@pytest.fixture(params=FAMILIES, scope="module")
def family(request):
    torch.manual_seed(0)
    size = FAMILIES[request.param]
    return create_encoder(request.param, image_size=size, channels=2), torch.randint(0, 256, (2, 2, *size)).byte()


def half(encoder):
    return hide_top(torch.rand(2, encoder.grid.num_units), 0.5)


def test_every_encoder_part_has_a_family_here():
    parts = {name: registry.find("encoder", name) for name in registry.names("encoder")}
    parts = {name: part for name, part in parts.items() if not part.staged}  # networks that see whole images: test_maps
    assert [name for name, part in parts.items() if not any(part.accepts(registry.parse(m)[0]) for m in FAMILIES)] == []


def test_unmasked_encoding_is_deterministic_and_full(family):
    encoder, x = family
    encoder.eval()
    first, second = encoder(x), encoder(x)
    assert first.units.shape == (2, encoder.grid.num_units, encoder.dim)
    assert torch.equal(first.units, second.units)
    encoder(x, half(encoder))  # a masked call in between leaves nothing behind
    assert torch.equal(encoder(x).units, first.units)


def test_order_of_visible_units_does_not_matter(family):
    encoder, x = family
    encoder.eval()
    mask = half(encoder)
    order = torch.stack([torch.randperm(mask.visible.shape[1]) for _ in range(2)])
    shuffled = Mask(mask.visible.gather(1, order), mask.hidden)
    a, b = encoder(x, mask), encoder(x, shuffled)
    torch.testing.assert_close(b.units, a.units.gather(1, order[..., None].expand_as(a.units)), rtol=1e-4, atol=1e-4)


def test_hidden_units_do_not_reach_the_tokens(family):
    encoder, x = family
    encoder.eval()
    mask = half(encoder)
    units = encoder.grid.cut(x)
    at = mask.hidden[..., None].expand(-1, -1, units.shape[-1])
    other = encoder.grid.join(units.scatter(1, at, 255 - units.gather(1, at)))
    assert not torch.equal(other, x)
    torch.testing.assert_close(encoder(other, mask).units, encoder(x, mask).units, rtol=1e-4, atol=1e-5)


def test_visible_units_keep_their_own_place(family):
    """Hiding nothing but one unit must give nearly the tokens of the full image, in the mask's order."""
    encoder, x = family
    encoder.eval()
    scores = torch.rand(2, encoder.grid.num_units)
    mask = hide_top(scores, 1e-9)
    some, full = encoder(x, mask).units, encoder(x).units
    same = full.gather(1, mask.visible[..., None].expand_as(some))
    other = full.gather(1, mask.visible.flip(1)[..., None].expand_as(some))
    assert (some - same).norm() < (some - other).norm()


def test_every_parameter_gets_a_gradient(family):
    encoder, x = family
    mae = MAE(encoder, decoder="full(dim=64, depth=1, heads=2)").train()
    mae.zero_grad()
    mae({"views": [x]})["loss"].backward()
    assert [n for n, p in mae.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_net_is_a_plain_timm_model(family):
    encoder, _ = family
    arguments = dict(encoder.arguments)
    plain = timm.create_model(arguments.pop("model_name"), **arguments)
    plain.load_state_dict(encoder.net.state_dict(), strict=True)


def test_layers_end_with_the_encoder_s_own_tokens(family):
    encoder, x = family
    encoder.eval()
    layers = encoder.layers(x, 4)
    assert 2 <= len(layers) <= 4
    torch.testing.assert_close(layers[-1].units, encoder(x).units)
    torch.testing.assert_close(layers[-1].prefix, encoder(x).prefix)
