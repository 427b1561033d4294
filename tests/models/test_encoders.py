"""Encoders: position tables, blanked units, and models that cannot hide units."""

import pytest
import torch

from unmask.errors import UserError
from unmask.masking.mask import hide_top
from unmask.models.encoder import create_encoder
from unmask.models.layers.position import sincos


def test_position_tables_are_mae_s_and_not_constant():
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(32, 48), patch_size=8)
    table = encoder.net.pos_embed
    assert not table.requires_grad
    assert torch.equal(table[0, 1:], sincos(encoder.grid, 192))
    assert (table[0, 0] == 0).all()
    assert table[0, 1:].std(dim=0).max() > 0.5


def test_blanked_units_are_replaced_and_stay(encoder):
    x, mask = torch.rand(2, 3, 32, 32) * 255, hide_top(torch.rand(2, encoder.grid.num_units), 0.5)
    fill = torch.randn(encoder.dim)
    tokens = encoder.eval()(x, mask, fill)
    assert tokens.units.shape[1] == encoder.grid.num_units
    assert not torch.allclose(tokens.units, encoder(x).units)


def test_normalisation_uses_the_given_statistics():
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(16, 16), mean=(10.0,) * 3, std=(2.0,) * 3)
    assert torch.equal(
        encoder.normalize(torch.full((1, 3, 16, 16), 14, dtype=torch.uint8)), torch.full((1, 3, 16, 16), 2.0)
    )


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet50", {}, "resnet50 cannot .* vit_"),
        ("swin_tiny_patch4_window7_224", {}, "cannot .* Hiera"),
        ("vit_tinny_patch16_224", {}, "did you mean 'vit_tiny_patch16_224'"),
        ("vit_tiny_patch16_224", {"image_size": (50, 64), "patch_size": 8}, r"\(48, 64\)"),
        ("vit_tiny_patch16_224(dept=2)", {}, "dept"),
        ("vit_small_patch16_rope_mixed_224(init_values=None)", {}, "init_values=None does nothing"),
        ("vit_tiny_patch16_224(depth=2, qk_norm=None)", {}, "qk_norm=None does nothing"),
        ("hiera_tiny_224(mlp_ratio=None)", {}, "mlp_ratio=None does nothing"),
        ("maps(net='resnet18(drop_rate=None)')", {}, "drop_rate=None does nothing"),
        ("hiera_tiny_224", {"image_size": (40, 64)}, "nearest"),
        ("hiera_tiny_224", {"patch_size": 8}, "32"),
    ],
)
def test_a_model_that_cannot_work_says_why(model, options, message):
    with pytest.raises(UserError, match=message):
        create_encoder(model, **options)
