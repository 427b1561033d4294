"""Feature maps of images of any size: what an encoder built for that size would give, and nothing left behind."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.models.encoder import create_encoder
from unmask.training.speed.activation_checkpoint import recompute

SMALL = "embed_dim=48, num_heads=3, depth=3"
FAMILIES = {  # name -> size it is built for
    f"vit_tiny_patch16_224({SMALL})": (64, 48),
    f"vit_medium_patch16_reg4_gap_256({SMALL})": (64, 64),
    f"deit3_small_patch16_224({SMALL})": (64, 64),
    f"vit_small_patch14_reg4_dinov2({SMALL})": (56, 56),
    f"vit_base_patch16_siglip_224({SMALL})": (64, 64),
    f"eva02_tiny_patch14_224({SMALL})": (56, 56),
    f"vit_small_patch16_dinov3({SMALL})": (64, 64),
    f"vit_small_patch16_rope_mixed_224({SMALL})": (64, 64),
    "hiera_tiny_224(embed_dim=16, stages=(1, 1, 2, 1))": (128, 64),
    "hiera_small_abswin_256(embed_dim=16, stages=(1, 1, 1, 1))": (64, 96),
    f"vit_tiny_patch16_224({SMALL}, window=2)": (64, 48),
    f"vit_medium_patch16_reg4_gap_256({SMALL}, window=3)": (64, 64),
}
OTHER = (70, 150)  # no multiple of 14, 16 or 32
MEAN, STD = (100.0, 50.0), (60.0, 70.0)


def built(name, size):
    torch.manual_seed(0)
    encoder = create_encoder(name, image_size=size, channels=2, mean=MEAN, std=STD).eval()
    for parameter in encoder.parameters():  # norms, layer scale and tables that do something
        parameter.data += 0.1 * torch.randn_like(parameter)
    encoder.asked = name
    return encoder


@pytest.fixture(params=FAMILIES, scope="module")
def encoder(request):
    return built(request.param, FAMILIES[request.param])


def images(size):
    return torch.randint(0, 256, (2, 2, *size), generator=torch.Generator().manual_seed(1)).byte()


def as_tokens(maps):
    return maps.flatten(2).transpose(1, 2)


def twin_of(encoder, size):
    """The same weights in an encoder that is built for another size, its table resampled by timm."""
    twin = create_encoder(encoder.asked, image_size=size, channels=2, mean=MEAN, std=STD).eval()
    state = encoder.net.state_dict()
    table = state.get("pos_embed")
    if table is not None and table.ndim == 3:
        stride = 4 if encoder.asked.startswith("hiera") else encoder.grid.unit[0]
        old, new = ([side // stride for side in e.grid.size] for e in (encoder, twin))
        prefix = table.shape[1] - old[0] * old[1]
        state["pos_embed"] = timm.layers.resample_abs_pos_embed(table, new, old, num_prefix_tokens=prefix)
    twin.net.load_state_dict(state)
    return twin


def test_at_the_own_size_maps_are_the_layers_before_their_norm(encoder):
    x = images(encoder.grid.size)
    (last,) = encoder.layers(x, 1)
    (plain,), (normed,) = encoder.features(x), encoder.features(x, norm=True)
    assert torch.equal(as_tokens(normed), last.units)
    norm = encoder.net.norm if hasattr(encoder.net, "norm") else encoder.net.head.norm
    assert torch.equal(norm(as_tokens(plain)), last.units)
    assert not torch.allclose(plain, normed)
    assert plain.shape[2:] == encoder.grid.shape


def test_at_another_size_maps_are_those_of_an_encoder_built_for_it(encoder):
    """The missing pixels are the mean: zero where pixels are normalised; they are on the right and at the bottom."""
    before = copy.deepcopy(encoder.state_dict())
    unit = encoder.grid.unit[0]
    whole = tuple(-(-side // unit) * unit for side in OTHER)
    x = torch.tensor(MEAN)[:, None, None].expand(2, 2, *whole).clone()
    x[:, :, : OTHER[0], : OTHER[1]] = images(OTHER).float()
    twin, number = twin_of(encoder, whole), encoder.num_maps
    layers = [number - 1, 0, -1]
    maps, own = encoder.features(images(OTHER), layers), images(encoder.grid.size)
    assert [m.shape[1] for m in maps] == encoder.feature_dims(layers)
    assert [m.shape[2:] for m in maps] == [tuple(w // s for w in whole) for s in encoder.feature_strides(layers)]
    for got, right in zip(maps, twin.features(x, layers)):  # of its own size: see the test before
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)
    assert torch.equal(maps[0], maps[2])
    assert not torch.allclose(maps[0][..., :-1, :-1], encoder.features(images(OTHER).flip(3))[0][..., :-1, :-1])
    assert list(before) == list(encoder.state_dict())  # nothing is left behind
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(encoder(own).units, twin_of(encoder, encoder.grid.size)(own).units)
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        encoder(images(OTHER))


def test_gradients_reach_a_table_that_trains_and_rotary_tables_serve_after_inference(encoder):
    table = getattr(encoder.net, "pos_embed", None)
    x = images((32, 80))
    with torch.inference_mode():
        expected = encoder.features(x)[0].clone()
    if table is not None:
        table.requires_grad_(True)
    encoder.zero_grad()
    (map,) = encoder.train().features(x)
    map.square().mean().backward()
    torch.testing.assert_close(map, expected)
    assert all(
        p.grad is not None for name, p in encoder.net.named_parameters() if not name.startswith(("norm", "head"))
    )
    if table is not None:
        assert (table.grad != 0).flatten(1).any()
        table.requires_grad_(False)
    encoder.eval()


def test_a_model_whose_patches_do_not_cover_its_images_keeps_its_own_numbers():
    encoder = create_encoder(f"vit_so400m_patch14_siglip_384({SMALL})", image_size=None).eval()
    assert encoder.input_size == (384, 384)
    assert encoder.grid.size == (378, 378)
    x = torch.randint(0, 256, (1, 3, 384, 384)).byte()
    (last,) = encoder.layers(x, 1)
    assert torch.equal(as_tokens(encoder.features(x, norm=True)[0]), last.units)
    assert encoder.features(x[..., :378, :378])[0].shape[2:] == (27, 27)


TINY = {}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from((4, 7, 16)))
def test_a_map_has_a_place_for_every_begun_unit(height, width, patch):
    if patch not in TINY:
        model = "vit_tiny_patch16_224(depth=1, embed_dim=8, num_heads=1, window=2)"
        TINY[patch] = create_encoder(model, image_size=(4 * patch, 4 * patch), patch_size=patch).eval()
    encoder = TINY[patch]
    with torch.no_grad():
        (map,) = encoder.features(torch.zeros(1, 3, height, width))
    assert map.shape == (1, 8, -(-height // patch), -(-width // patch))


def test_blocks_that_are_computed_again_know_the_grid_of_their_call():
    encoder = built(f"vit_tiny_patch16_224({SMALL}, window=2)", (64, 48))
    again = copy.deepcopy(encoder)
    recompute(again)
    results = []
    for one in (encoder, again):
        first, second = (one.train().features(images(size))[0] for size in (OTHER, (20, 90)))
        (first.square().mean() + second.square().mean()).backward()
        results.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize(
    ("layers", "says"), [((3,), "0 to 2"), ((-4,), "no layer -4"), ((), "which layers"), ((0,), "last stage only")]
)
def test_layers_that_are_not_there_are_refused(layers, says):
    name = "hiera_tiny_224(embed_dim=8, stages=(1, 1, 1, 1))" if layers == (0,) else f"vit_tiny_patch16_224({SMALL})"
    with pytest.raises(UserError, match=says):
        create_encoder(name, image_size=(64, 64)).features(torch.zeros(1, 3, 64, 64), layers, norm=True)
