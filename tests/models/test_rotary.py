"""Positions by rotation on grids of one and three axes, in encoders and in the decoder `rotary`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoders import make, tokens_of

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.models.encoder import create_encoder
from unmask.models.layers.unit_embed import TILED, rotary

GRID = Grid((4, 4, 5), (2, 4, 4))
VISIBLE, HIDDEN = ((0, 0, 0), (1, 0, 1), (0, 1, 1)), ((0, 1, 0), (1, 1, 1))  # places in a corner of the grid
MODEL = "vit_small_patch16_rope_224(depth=1, embed_dim=24, num_heads=2, {})"


def at(places, offset):
    rows, columns = GRID.shape[1:]
    places = torch.tensor(places) + torch.tensor(offset)
    return (places[:, 0] * rows * columns + places[:, 1] * columns + places[:, 2]).expand(2, -1)


@settings(max_examples=10, deadline=None)
@given(offset=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)))
def test_predictions_depend_on_how_units_lie_to_each_other_and_not_on_where(offset):
    """Of true rotations, and without prefix tokens, which lie nowhere. With V-JEPA 2's order of angles it is not so."""
    decoder = make("rotary", GRID)
    tokens = tokens_of(decoder, len(VISIBLE), prefix=0)
    there, here = (Mask(at(VISIBLE, by), at(HIDDEN, by)) for by in (offset, (0, 0, 0)))
    torch.testing.assert_close(decoder(tokens, there), decoder(tokens, here), rtol=1e-4, atol=1e-4)
    farther = Mask(at(VISIBLE, (0, 0, 0)), at(HIDDEN, (1, 1, 1)))
    assert (decoder(tokens, farther) - decoder(tokens, here)).abs().max() > 1e-3
    decoder.order = TILED
    decoder.position.copy_(decoder.table(GRID, decoder.position.shape[1]))
    assert any(offset) == bool((decoder(tokens, there) - decoder(tokens, here)).abs().max() > 1e-4)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 4)])
def test_both_orders_have_the_same_angles_on_every_axis(shape):
    grid = Grid(shape, (1,) * len(shape))
    each = 26 // (2 * len(shape))
    for paired, tiled in zip(rotary(grid, 26).chunk(2, dim=1), rotary(grid, 26, TILED).chunk(2, dim=1)):
        assert paired.shape == tiled.shape == (grid.num_units, 26)
        for axis in range(len(shape)):
            mine, theirs = (table[:, 2 * each * axis : 2 * each * (axis + 1)] for table in (paired, tiled))
            assert torch.equal(mine[:, ::2], mine[:, 1::2])
            assert torch.equal(theirs[:, :each], theirs[:, each:])
            assert torch.equal(mine[:, ::2], theirs[:, :each])


def test_positions_follow_the_grid_of_the_input():
    decoder, other = make("rotary", GRID), Grid((2, 3, 2), (2, 4, 4))
    mask = Mask(torch.arange(5).expand(2, -1), torch.arange(5, 12).expand(2, -1))
    tokens, own = tokens_of(decoder, 5), make("rotary", other)
    own.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(decoder(tokens, mask, other), own(tokens, mask))
    assert (decoder(tokens, mask) - own(tokens, mask)).abs().max() > 1e-3


def test_under_autocast_blocks_add_up_in_fp32():
    model = "eva_giant_patch14_224(depth=2, embed_dim=24, num_heads=2, class_token=False, use_abs_pos_emb=False,"
    model += " use_rot_pos_emb=True, attn_type='rope')"
    encoder = create_encoder(model, image_size=(4, 16, 16), patch_size=(2, 4, 4), modality="video")
    decoder, mask = make("rotary", encoder.grid, in_dim=24), Mask(at(VISIBLE, (0, 0, 0)), at(HIDDEN, (0, 0, 0)))
    types = []
    for block in (*encoder.net.blocks, *decoder.blocks):
        block.register_forward_pre_hook(lambda module, args: types.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoder(torch.rand(2, 3, 4, 16, 16), mask)
        decoder(tokens, mask)
    assert tokens.units.dtype == torch.float32
    assert types == [torch.float32] * 5


@pytest.mark.parametrize(
    ("model", "size", "unit", "words"),
    [
        (MODEL.format("rotary_order='tiles'"), (4, 16, 16), (2, 4, 4), "paired or tiled, got 'tiles', did you mean"),
        (MODEL.format("rotary_order='tiled'"), (16, 16), 4, "is for clips, volumes and signals"),
        ("vit_tiny_patch16_224(depth=1, rotary_order='tiled')", (4, 16, 16), (2, 4, 4), "no rotary positions"),
    ],
)
def test_an_order_that_cannot_be_is_refused(model, size, unit, words):
    with pytest.raises(UserError, match=words):
        create_encoder(model, image_size=size, patch_size=unit, modality="video" if len(size) == 3 else "image")


def test_a_decoder_refuses_an_order_that_there_is_not_and_heads_too_narrow_for_the_axes():
    with pytest.raises(UserError, match="paired or tiled"):
        make("rotary(order='vjepa')", GRID)
    with pytest.raises(UserError, match="heads of 4 values are too narrow for rotary positions on 3 axes"):
        make("rotary(heads=6)", GRID)
