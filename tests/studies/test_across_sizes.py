"""Encoders at other image sizes: the same network, positions of every kind resampled to the other grid."""

import pytest
import torch
from support.configuring import config_of

from unmask.errors import UserError
from unmask.models.encoder import create_encoder
from unmask.runs.run import make_encoder
from unmask.studies.ablation.across_sizes import resized, size_at

TABLES = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
LEARNED = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3, learned_positions=True)"
ROTARY = "vit_small_patch16_rope_mixed_224(depth=1, embed_dim=48, num_heads=3)"


@pytest.mark.parametrize(
    ("model", "factor"),
    [(model, factor) for model in (TABLES, LEARNED, ROTARY) for factor in (0.5, 1.5, 2.0)][1:],
)  # a smaller input keeps its corner of a fixed table, as a crop; a smaller image as a whole has all of it
def test_an_encoder_at_another_size_sees_what_the_first_sees_there(model, factor):
    config = config_of(model=model, image_size=(32, 32), patch_size=8)
    encoder = make_encoder(config).eval()
    size = size_at(config, factor)
    assert size == (round(32 * factor), round(32 * factor))
    other = resized(encoder, config, size).eval()
    assert other.grid.size == size
    x = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(other(x).units, encoder(x).units, atol=1e-5, rtol=0)


def test_a_size_has_two_patches_at_least_and_is_whole():
    config = config_of(model=TABLES, image_size=(32, 64), patch_size=8)
    assert size_at(config, 0.1) == (16, 16)
    assert size_at(config, 1.2) == (40, 80)


def test_learned_positions_are_trained_and_fixed_ones_are_not():
    fixed, learned = (create_encoder(m, image_size=(32, 32), patch_size=8) for m in (TABLES, LEARNED))
    assert not fixed.net.pos_embed.requires_grad
    assert learned.net.pos_embed.requires_grad
    assert 0.005 < float(learned.net.pos_embed.detach().std()) < 0.04
    learned(torch.rand(2, 3, 32, 32)).units.square().sum().backward()
    assert float(learned.net.pos_embed.grad.abs().sum()) > 0
    with pytest.raises(UserError, match="rotary"):
        create_encoder(ROTARY[:-1] + ", learned_positions=True)", image_size=(32, 32), patch_size=8)
