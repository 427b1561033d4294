"""Windowed attention: the same with units dropped as without, local, and the weights of a plain ViT."""

import pytest
import torch
from support.gradients import gradients

from unmask.errors import UserError
from unmask.masking.mask import Mask, hide_top
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder
from unmask.models.layers.windowed_attention import last_of_parts
from unmask.models.state import same_again
from unmask.training.speed.activation_checkpoint import recompute

MODELS = ["vit_tiny_patch16_224(depth=3, window=2)", "vit_medium_patch16_reg4_gap_256(depth=3, window=3)"]


@pytest.fixture(params=MODELS, scope="module")
def windowed(request):
    torch.manual_seed(0)
    encoder = create_encoder(request.param, image_size=(64, 80), patch_size=16).eval()
    for name, parameter in encoder.net.named_parameters():
        if name.endswith("gamma"):  # layer scale, which begins near 0: attention would hardly count
            parameter.data.fill_(1.0)
    return encoder, torch.randint(0, 256, (2, 3, 64, 80)).byte()


def test_hiding_nothing_gives_what_no_mask_gives(windowed):
    """One way masks attention, the other cuts and pads windows."""
    encoder, x = windowed
    order = torch.stack([torch.randperm(encoder.grid.num_units) for _ in range(2)])
    masked, plain = encoder(x, Mask(order, order[:, :0])), encoder(x)
    torch.testing.assert_close(masked.units, plain.units.gather(1, order[..., None].expand_as(plain.units)))
    torch.testing.assert_close(masked.prefix, plain.prefix)
    assert (plain.units - create(plain_text(encoder), encoder)(x).units).abs().max() > 1e-3  # windows do something


def test_windows_do_not_see_each_other_before_the_first_global_block(windowed):
    encoder, x = windowed
    other = x.clone()
    other[..., :16, :16] = 255 - other[..., :16, :16]  # the first unit
    first, second, last = ((a.units - b.units).abs().amax(dim=(0, 2)).view(4, 5) > 1e-5 for a, b in zip(
        encoder.layers(x, 3), encoder.layers(other, 3)))  # fmt: skip
    side = encoder.windows.window
    assert first[:side, :side].all()
    assert not first[side:].any() and not first[:, side:].any()  # noqa: PT018
    assert torch.equal(second, first)
    assert last.all()


def test_gradients_are_the_same_when_blocks_are_recomputed(windowed):
    """What a block is told of the mask must still hold when it is computed again."""
    encoder, x = windowed
    model = MAE(encoder, decoder="full(dim=32, depth=1, heads=2)").train()
    plain = gradients(model, {"views": [x]})
    again = MAE(same_again(encoder), decoder="full(dim=32, depth=1, heads=2)").train()
    again.load_state_dict(model.state_dict())
    recompute(again)
    torch.testing.assert_close(gradients(again, {"views": [x]}), plain)
    assert again.encoder.windows.window == encoder.windows.window
    model.eval()


def test_global_blocks_are_those_of_vitdet_and_sam():
    assert sorted(last_of_parts(12, 4)) == [2, 5, 8, 11]
    assert sorted(last_of_parts(24, 4)) == [5, 11, 17, 23]
    assert sorted(last_of_parts(32, 4)) == [7, 15, 23, 31]
    assert sorted(last_of_parts(6, 4)) == [2, 5]
    assert last_of_parts(2, 4) == {1}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("vit_tiny_patch16_224(depth=1, window=0)", "window=14"),
        ("vit_tiny_patch16_224(depth=1, window=1000)", "1,000,000 patches"),
        ("vit_tiny_patch16_224(depth=1, window=2, global_blocks=0)", "1 or more"),
        ("eva02_tiny_patch14_224(depth=1, window=2)", "rotary"),
    ],
)
def test_windows_that_cannot_be_are_refused(model, says):
    with pytest.raises(UserError, match=says):
        create_encoder(model)


def test_a_windowed_encoder_hides_as_many_in_any_window():
    encoder = create_encoder(MODELS[0], image_size=(64, 80), patch_size=16)
    mask = hide_top(torch.rand(2, 20), 0.75)
    assert encoder(torch.zeros(2, 3, 64, 80), mask).units.shape == (2, 5, 192)


def plain_text(encoder):
    return f"{encoder.arguments['model_name']}(depth=3)"


def create(text, like):
    plain = create_encoder(text, image_size=like.grid.size, patch_size=16).eval()
    plain.net.load_state_dict(like.net.state_dict())
    return plain
