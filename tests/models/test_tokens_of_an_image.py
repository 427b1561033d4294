"""Several class tokens for an image, and several tokens of Hiera's last stage for a unit: what stands for which."""

import pytest
import torch

from unmask.errors import UserError
from unmask.evaluation.features import pooled
from unmask.export.timm_repository import why_not_timm
from unmask.masking.mask import hide_top
from unmask.models.encoder import create_encoder
from unmask.models.state import model_text, same_again
from unmask.registry import build

VIT = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2, {})"
EVA = "vit_small_patch16_rope_mixed_224(depth=1, embed_dim=24, num_heads=2, {})"
HIERA = "hiera_tiny_224(embed_dim=8, num_heads=1, stages=(1, 1, 1, 1){})"


def encoder_of(model, patch=8, side=32):
    torch.manual_seed(0)
    return create_encoder(model, image_size=(side, side), patch_size=patch, mean=(127.0,) * 3, std=(60.0,) * 3).eval()


@pytest.mark.parametrize("model", [VIT, EVA])
@pytest.mark.parametrize(("options", "prefix"), [("class_tokens=8", 8), ("class_tokens=2, {}=5", 6)])
def test_the_mean_of_the_class_tokens_stands_for_an_image(model, options, prefix):
    options = options.format("num_reg_tokens" if model == EVA else "reg_tokens")
    encoder = encoder_of(model.format(options))
    x = torch.rand(2, 3, 32, 32) * 255
    tokens = encoder(x)
    assert tokens.prefix.shape[1] == prefix
    count = encoder.class_tokens
    wanted = tokens.prefix[:, :count].mean(dim=1)
    torch.testing.assert_close(pooled(encoder, x, ("cls",))["cls"], wanted)
    torch.testing.assert_close(dict(zip(encoder.outputs, encoder.traced(x)))["class_token"], wanted)
    again = same_again(encoder)
    assert (again.class_tokens, again.num_prefix) == (count, prefix)
    assert f"class_tokens={count}" in model_text(encoder)
    assert "several class tokens" in why_not_timm(encoder)


def test_more_class_tokens_than_there_are_tokens_are_refused():
    with pytest.raises(UserError, match="has 3 class and register tokens, and class_tokens=8"):
        encoder_of(VIT.format("reg_tokens=2, class_tokens=8"))
    with pytest.raises(UserError, match="class and register tokens, and class_tokens=4"):
        encoder_of(VIT.format("class_token=False, class_tokens=4"))


def test_a_unit_of_hiera_has_the_mean_of_its_tokens():
    encoder = encoder_of(HIERA.format(", q_pool=2"), patch=32, side=96)
    x, mask = torch.rand(2, 3, 96, 96) * 255, hide_top(torch.rand(2, 9), 0.5)
    assert encoder.stages == ((8, 8), (16, 4), (32, 2), (64, 2))
    assert encoder(x).units.shape == (2, 9, 64)
    (finest,) = encoder.features(x, norm=True)
    means = torch.nn.functional.avg_pool2d(finest, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder(x).units, means)
    assert encoder(x, mask).units.shape == (2, mask.visible.shape[1], 64)
    assert "mean of several tokens" in why_not_timm(encoder)
    assert not why_not_timm(encoder_of(HIERA.format(""), patch=32, side=96))


@pytest.mark.parametrize(("pool", "cells"), [("", 1), (", q_pool=2", 2)])
def test_all_stages_of_a_hiera_reach_the_prediction_in_place(pool, cells):
    encoder = encoder_of(HIERA.format(pool), patch=32, side=96)
    mae = build(
        "method",
        "mae",
        encoder=encoder,
        target=f"pixels(cells={cells})",
        decoder="multiscale(dim=16, depth=1, heads=2)",
    )
    x, mask = torch.rand(2, 3, 96, 96) * 255, hide_top(torch.rand(2, 9), 0.5)
    mae({"views": [x], "mask": mask})["loss"].backward()
    assert len(mae.decoder.fusion) == 4 - cells
    assert [name for name, p in mae.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        turned = type(mask)(mask.visible.flip(1), mask.hidden.flip(1))
        torch.testing.assert_close(mae.predict(x, turned).flip(1), mae.predict(x, mask), atol=1e-4, rtol=1e-4)
        true = mae.target(encoder.normalize(x))
        mae.predict = lambda x, mask: true.gather(1, mask.hidden[..., None].expand(-1, -1, true.shape[2]))
        torch.testing.assert_close(mae.rebuild(x, mask, leak=True), x, atol=0.05, rtol=1e-3)


def test_cells_that_do_not_fit_a_patch_or_a_target_are_refused():
    encoder = encoder_of(HIERA.format(", q_pool=2"), patch=32, side=64)
    for target in ("pixels(cells=3)", "pixels(cells=2, normalize=False)", "pixels(cells=2, scales=(1, 2))"):
        with pytest.raises(UserError, match="normalises parts of a patch"):
            build("method", "mae", encoder=encoder, target=target)
    with pytest.raises(UserError, match="use the target pixels"):
        build("method", "mae", encoder=encoder, target="hog", decoder="multiscale(dim=16, depth=1, heads=2)")
    with pytest.raises(UserError, match="reads all stages of the encoder, and dbot gives it the last one"):
        build("method", "dbot(rounds=1)", encoder=encoder, decoder="multiscale(dim=16, depth=1, heads=2)")
