"""Encoders, decoders and losses of samples that consist of several parts, some of which are missing."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from unmask.errors import UserError
from unmask.masking.grid import Grid, Part, take
from unmask.masking.mask import Mask
from unmask.methods.mae import MAE
from unmask.methods.simmim import SimMIM
from unmask.models.encoder import create_encoder
from unmask.registry import build

SQUARE = Grid((3, 3), (2, 2))
PARTS = (Part("rgb", SQUARE, 3), Part("sound", Grid((4,), (5,)), 1), Part("mask", SQUARE, 1, classes=4))
WIDTH, COUNT = 12, 22  # values of a unit; units
MODELS = ["vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)", "eva02_tiny_patch14_224(depth=2)"]


def encoder_of(model=MODELS[0]):
    torch.manual_seed(0)
    sizes = {"image_size": (WIDTH * COUNT,), "patch_size": (WIDTH,), "channels": 1}
    return create_encoder(model, gaps=True, parts=PARTS, modality="multimodal", **sizes).eval()


def sample(count=3, missing=()):
    """Raw rows; missing: pairs of a sample and a part."""
    torch.manual_seed(1)
    x = torch.full((count, COUNT, WIDTH), torch.nan)
    for part, (first, end) in zip(PARTS, encoder_of().grid.spans):
        shape = (count, end - first, part.num_values)
        x[:, first:end, : part.num_values] = torch.randint(1, 5, shape).float() if part.classes else torch.randn(shape)
    for row, place in missing:
        first, end = encoder_of().grid.spans[place]
        x[row, first:end] = torch.nan
    return x.view(count, 1, -1)


@pytest.mark.parametrize("model", MODELS)
def test_a_missing_part_is_as_if_its_units_were_hidden(model):
    encoder, x = encoder_of(model), sample(missing=[(0, 1), (1, 1), (2, 1)])
    there = torch.cat([torch.arange(9), torch.arange(13, 22)]).expand(3, -1)
    whole, masked = encoder(x), encoder(x, Mask(there, torch.arange(9, 13).expand(3, -1)))
    torch.testing.assert_close(take(whole.units, there), masked.units, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.pooled, masked.pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.units.mean(dim=1), masked.units.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.layers(x, 2)[-1].units, whole.units)


def test_what_fills_up_a_unit_is_not_looked_at():
    encoder, x = encoder_of(), sample()
    other = x.view(3, COUNT, WIDTH).clone()
    other[:, 9:13, 5:] = 7.0
    other[:, 13:, 4:] = 7.0
    torch.testing.assert_close(encoder(x).units, encoder(other.view(3, 1, -1)).units)


def test_parts_are_told_apart_though_they_hold_the_same_in_the_same_places():
    parts = (Part("one", SQUARE, 1), Part("other", SQUARE, 1))
    sizes = {"image_size": (4 * 18,), "patch_size": (4,), "channels": 1}
    encoder = create_encoder(MODELS[0], gaps=True, parts=parts, **sizes).eval()
    first, second = encoder(torch.ones(1, 1, 72)).units.chunk(2, dim=1)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("decoder", ["per_part(dim=24, depth=1, heads=2)", "full(dim=24, depth=1, heads=2)"])
def test_every_parameter_learns_and_each_part_has_its_loss(decoder):
    mae = MAE(encoder_of(), mask="dirichlet(ratio=0.6)", target="per_part", decoder=decoder).train()
    losses = mae({"views": [sample(missing=[(0, 1), (1, 0)])]})
    losses["loss"].backward()
    assert [n for n, p in mae.named_parameters() if p.requires_grad and p.grad is None] == []
    own = torch.stack([losses[f"loss_{part.name}"] for part in PARTS])
    torch.testing.assert_close(losses["loss"].detach(), own.mean())
    assert set(mae.words) >= {"loss_rgb", "loss_sound", "loss_mask"}


def test_losses_of_parts_are_those_counted_by_hand():
    encoder, x = encoder_of(), sample(missing=[(0, 1)])
    target = build("target", "per_part", grid=encoder.grid, channels=1)
    wanted, prediction = target(x), torch.randn(3, COUNT, target.dim)
    losses = target.losses(prediction, wanted)
    units = x.view(3, COUNT, WIDTH)
    torch.testing.assert_close(losses["loss_rgb"], (prediction[:, :9, :12] - units[:, :9]).square().mean())
    torch.testing.assert_close(losses["loss_sound"], (prediction[1:, 9:13, :5] - units[1:, 9:13, :5]).square().mean())
    scores = prediction[:, 13:, :16].unflatten(2, (4, 4)).flatten(0, 2)
    expected = cross_entropy(scores, units[:, 13:, :4].flatten().long() - 1)
    torch.testing.assert_close(losses["loss_mask"], expected)
    alone = target.losses(prediction[:1, 9:13], wanted[:1, 9:13])  # nothing of it has a value
    assert alone["loss"] == 0
    mask = Mask(torch.arange(9).expand(3, -1), torch.arange(9, COUNT).expand(3, -1))
    pixels = target.to_pixels(prediction[:, 9:], x, mask)
    assert torch.equal(pixels[:, 4:, :4], scores.argmax(dim=1).view(3, 9, 4) + 1.0)
    assert torch.equal(pixels[:, :4, :5], prediction[:, 9:13, :5])


def test_predictions_of_parts_come_in_the_order_of_the_mask_and_do_not_see_what_is_hidden():
    mae, x = MAE(encoder_of(), target="per_part", decoder="per_part(dim=24, depth=1, heads=2)").eval(), sample()
    order = torch.stack([torch.randperm(COUNT) for _ in range(3)])
    mask = Mask(order[:, :6], order[:, 6:])
    found = mae.predict(x, mask)
    torch.testing.assert_close(mae.predict(x, Mask(mask.visible, mask.hidden.flip(1))), found.flip(1))
    units = x.view(3, COUNT, WIDTH).clone()
    changed = units.scatter(1, mask.hidden[..., None].expand(-1, -1, WIDTH), 3.0).view(3, 1, -1)
    torch.testing.assert_close(mae.predict(changed, mask), found)


def test_other_methods_take_parts_too():
    simmim = SimMIM(encoder_of(), mask="dirichlet", target="per_part").train()
    loss = simmim({"views": [sample(missing=[(2, 2)])]})["loss"]
    loss.backward()
    assert loss.isfinite()


def test_networks_of_images_refuse_parts():
    with pytest.raises(UserError, match="consist of several parts"):
        create_encoder("hiera_tiny_224", image_size=(WIDTH * COUNT,), patch_size=(WIDTH,), channels=1, parts=PARTS)
    with pytest.raises(UserError, match="have one size"):
        encoder_of()(torch.zeros(1, 1, WIDTH * 10))
