"""Encoders take any size of whole units, with and without a mask: numbers are those of timm's model for that size."""

import copy

import pytest
import timm
import torch

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask, as_bool, hide_top
from unmask.models.encoder import create_encoder
from unmask.models.layers.position import sincos
from unmask.models.layers.weight_init import initialize

SMALL = {"embed_dim": 48, "num_heads": 3, "depth": 2}
HIERA = {"embed_dim": 16, "stages": (1, 1, 2, 1)}
FAMILIES = {  # name -> options, own size, two other sizes
    "vit_tiny_patch16_224": (SMALL, (64, 48), ((32, 80), (96, 112))),
    "vit_medium_patch16_reg4_gap_256": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "deit_tiny_patch16_224": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "deit3_small_patch16_224": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "vit_small_patch14_reg4_dinov2": (SMALL, (56, 56), ((28, 70), (84, 70))),
    "vit_base_patch16_siglip_224": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "vit_base_patch16_clip_224": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "eva02_tiny_patch14_224": (SMALL, (56, 56), ((28, 70), (84, 70))),
    "vit_small_patch16_dinov3": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "vit_small_patch16_rope_mixed_224": (SMALL, (64, 64), ((32, 80), (96, 112))),
    "hiera_tiny_224": (HIERA, (128, 64), ((64, 96), (128, 160))),
    "hiera_small_abswin_256": (HIERA, (64, 96), ((64, 64), (128, 160))),
}


def built(name, seed=0):
    options, size, _ = FAMILIES[name]
    torch.manual_seed(seed)
    text = ", ".join(f"{key}={value}" for key, value in options.items())
    encoder = create_encoder(f"{name}({text})", image_size=size).eval()
    for parameter in encoder.parameters():  # tables, norms and layer scale that do something
        parameter.data += 0.1 * torch.randn_like(parameter)
    return encoder


def built_by_timm(name, encoder, size):
    """timm's own model for another size, with the same weights; its table resampled by timm."""
    options, own, _ = FAMILIES[name]
    pooling = {} if name.startswith("hiera") else {"global_pool": ""}
    net = timm.create_model(name, img_size=size, num_classes=0, **pooling, **options).eval()
    state, table = encoder.net.state_dict(), encoder.net.state_dict().get("pos_embed")
    if table is not None and table.ndim == 3:
        stride = 4 if name.startswith("hiera") else encoder.grid.unit[0]
        old, new = ([side // stride for side in s] for s in (own, size))
        prefix = table.shape[1] - old[0] * old[1]
        state["pos_embed"] = timm.layers.resample_abs_pos_embed(table, new, old, num_prefix_tokens=prefix)
    net.load_state_dict(state)
    return net


class Keep(torch.nn.Module):
    """In timm's place for dropping patches: keeps those of the mask."""

    def __init__(self, visible, num_prefix, returns_index):
        super().__init__()
        self.visible, self.num_prefix, self.returns_index = visible, num_prefix, returns_index

    def forward(self, x):
        rows = torch.arange(len(x))[:, None]
        kept = torch.cat([x[:, : self.num_prefix], x[:, self.num_prefix :][rows, self.visible]], dim=1)
        return (kept, self.visible) if self.returns_index else kept


def tokens_of_timm(name, net, x, mask):
    if name.startswith("hiera"):
        if mask is None:
            return net.head.norm(net.forward_features(x))
        order = mask.visible.argsort(dim=1).argsort(dim=1)
        seen = as_bool(mask.visible, x.shape[2] * x.shape[3] // 32**2)
        return net.head.norm(net.forward_features(x, mask=seen))[torch.arange(len(x))[:, None], order]
    if mask is not None:
        net.patch_drop = Keep(mask.visible, net.num_prefix_tokens, isinstance(net, timm.models.eva.Eva))
    return net.forward_features(x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_timms_model_for_the_size(name, masked):
    encoder = built(name)
    before = copy.deepcopy(encoder.state_dict())
    for size in (*FAMILIES[name][2], FAMILIES[name][1]):  # last the own size: nothing is left of the others
        x = torch.randn(2, 3, *size)
        grid = encoder.grid_of(x)
        assert grid.size == size
        mask = hide_top(torch.rand(2, grid.num_units), 0.5) if masked else None
        with torch.no_grad():
            tokens = torch.cat(encoder(x, mask), dim=1)
            (last,) = encoder.layers(x, 1, mask)
            expected = tokens_of_timm(name, built_by_timm(name, encoder, size), x, mask)
        torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.cat(last, dim=1), expected, rtol=1e-5, atol=1e-5)
    assert list(encoder.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    plain = timm.create_model(name, img_size=FAMILIES[name][1], num_classes=0, **FAMILIES[name][0])
    assert set(encoder.net.state_dict()) - {"norm.weight", "norm.bias"} <= set(plain.state_dict())


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("hiera")])
def test_hidden_units_can_be_filled_at_any_size(name):
    """Filled with what the patch embedding gives, nothing changes; filled with zero, something does."""
    encoder = built(name)
    x = torch.randn(2, 3, *FAMILIES[name][2][0])
    x[:, :, :, :] = x[:, :, :1, :1]  # all units alike
    with torch.no_grad():
        embedded = encoder.net.patch_embed(x[:1]).flatten(1, -2)[0, 0]
        mask = hide_top(torch.rand(1, encoder.grid_of(x).num_units), 0.5)
        plain = encoder(x[:1]).units
        torch.testing.assert_close(encoder(x[:1], mask, fill=embedded).units, plain, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(encoder(x[:1], mask, fill=torch.zeros(48)).units, plain, atol=1e-3)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hiera_tiny_224", "hiera_small_abswin_256"])
def test_gradients_reach_a_table_that_is_learned(name):
    encoder = built(name).train()
    encoder.net.pos_embed.requires_grad_(True)
    x = torch.randn(2, 3, *FAMILIES[name][2][0])
    encoder(x, hide_top(torch.rand(2, encoder.grid_of(x).num_units), 0.5)).units.square().mean().backward()
    assert (encoder.net.pos_embed.grad != 0).float().mean() > 0.5


def test_mae_s_table_is_computed_inside_its_own_grid_and_resampled_beyond():
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(64, 64), patch_size=16)
    table = encoder.net.pos_embed
    inside = encoder.tables(table, Grid((3, 2), (16, 16)))
    assert torch.equal(inside[0, 1:], sincos(Grid((3, 2), (16, 16)), 192))
    assert encoder.tables(table, Grid((3, 2), (16, 16))) is inside  # kept
    assert encoder.tables(table, encoder.grid) is table
    beyond = timm.layers.resample_abs_pos_embed(table, [6, 2], [4, 4])
    torch.testing.assert_close(encoder.tables(table, Grid((6, 2), (16, 16))), beyond)
    with torch.no_grad():
        table.add_(1)  # another table, as after loading weights
    other = timm.layers.resample_abs_pos_embed(table, [3, 2], [4, 4])
    torch.testing.assert_close(encoder.tables(table, Grid((3, 2), (16, 16))), other)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224(depth=1)", "hiera_tiny_224(embed_dim=8, stages=(1, 1, 1, 1))"])
def test_a_size_that_is_no_whole_number_of_units_is_refused_with_the_nearest(name):
    encoder = create_encoder(name, image_size=(64, 64))
    unit = encoder.grid.unit[0]
    for call in (encoder, lambda x: encoder.layers(x, 1)):
        with pytest.raises(UserError, match=rf"70 x 64 is no whole number .* 64 x 64 and {64 + unit} x 64"):
            call(torch.zeros(1, 3, 70, 64))


@pytest.mark.slow
def test_compiled_blocks_take_other_sizes():
    encoder = built("vit_small_patch16_dinov3")
    sizes = FAMILIES["vit_small_patch16_dinov3"][2]
    inputs = [torch.randn(2, 3, *size) for size in sizes]
    expected = [encoder(x).units for x in inputs]
    for block in encoder.net.blocks:
        block.compile(backend="eager", fullgraph=True)
    for x, units in zip(inputs, expected):
        torch.testing.assert_close(encoder(x).units, units)


@pytest.mark.parametrize("kind", [torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d])
def test_patch_embeddings_of_any_dimension_get_maes_first_weights(kind):
    torch.manual_seed(0)
    convolution = kind(3, 64, 4)
    initialize(convolution)
    inputs = convolution.weight[0].numel()
    bound = (6 / (inputs + 64)) ** 0.5  # Xavier-uniform of the matrix that it is
    assert 0.9 * bound < convolution.weight.abs().max() <= bound


def test_masks_of_any_grid_fit_the_call():
    encoder = built("vit_tiny_patch16_224")
    x = torch.randn(1, 3, 32, 80)
    order = torch.randperm(10)[None]
    torch.testing.assert_close(encoder(x, Mask(order, order[:, :0])).units, encoder(x).units[:, order[0]])
