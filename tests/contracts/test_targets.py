"""What every target keeps: its shape, finite values, no gradient into the images."""

import pytest
import torch
from support.methods import with_teacher
from torch.nn.functional import one_hot

from unmask.masking.grid import take
from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.registry import build, names

TARGETS = names("target")


@pytest.fixture
def text(name):
    """The target of a name, with what it cannot do without."""
    return with_teacher(name)


@pytest.fixture
def x():
    return torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_some_units_are_those_of_all(text, encoder, x):
    """Only the units that are needed are normalised; the numbers are the same to the bit."""
    encoder.mean.copy_(torch.tensor([120.0, 90.0, 60.0]))
    encoder.std.copy_(torch.tensor([60.0, 50.0, 70.0]))
    mae = MAE(encoder, target=text, decoder="full(dim=64, depth=1, heads=2)")
    normal, index = encoder.normalize(x), torch.rand(4, 16).argsort(1)[:, :5]
    mae.target.fit(iter([normal]))
    assert torch.equal(take(encoder.grid.cut(normal), index), encoder.normalize_units(take(encoder.grid.cut(x), index)))
    torch.testing.assert_close(mae.targets(x, index), take(mae.target(x if mae.target.raw else normal), index))


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_its_shape_and_no_gradient_of_its_own(text, encoder):
    target, x = build("target", text, grid=encoder.grid, channels=3, encoder=encoder), torch.randn(2, 3, 32, 32)
    target.fit(iter([x]))
    values = target(x)
    assert not values.requires_grad
    if not values.is_floating_point():  # numbers of classes, of which scores are predicted
        count = target.dim // values.shape[2]
        wanted, values = values, 100 * one_hot(values, count).float().flatten(2)
        assert target.compare(values, wanted) < 1e-3
    else:
        assert target.compare(values, values) == 0
    assert values.shape == (2, 16, target.dim)
    assert values.isfinite().all()
    mask = hide_top(torch.rand(2, 16), 0.75)
    if not target.drawable:
        with pytest.raises(NotImplementedError):
            target.to_pixels(take(values, mask.hidden).float(), x, mask)
        return
    pixels = target.to_pixels(take(values, mask.hidden), x, mask, leak=True)
    assert pixels.shape == (2, 12, 192)
    assert pixels.isfinite().all()


@pytest.mark.parametrize("name", TARGETS)
def test_no_gradient_goes_from_a_loss_through_the_targets_into_the_images(text, encoder, x):
    mae, index = MAE(encoder, target=text, decoder="full(dim=64, depth=1, heads=2)"), torch.arange(5).expand(4, -1)
    mae.prepare(iter([{"views": [x]}]))
    images = x.float().requires_grad_()
    assert not mae.targets(images, index).requires_grad
