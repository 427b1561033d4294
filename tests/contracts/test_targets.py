"""What every target keeps: its shape, finite values, no gradient into the images."""

import pytest
import torch
from support.methods import small_encoder, small_method, views_of, with_teacher
from torch.nn.functional import one_hot

from unmask.masking.grid import take
from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.methods.targets.mix import Mix
from unmask.planning.measure import flops_of
from unmask.registry import build, find, names

TARGETS = [name for name in names("target") if not getattr(find("target", name), "only", "")]
TARGETS += ["frequency(mode='laplacian')", "frequency(mode='fft')", "pixels(scales=(1, 2))"]
TARGETS += ["mix(a=features, b=hog)"]


@pytest.fixture
def text(name):
    """The target of a name, with what it cannot do without."""
    return with_teacher(name)


@pytest.fixture
def x():
    return torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


def perfect(target, wanted):
    """A prediction that says what is wanted."""
    if isinstance(target, Mix):
        widths = [part.dim if part.ids is None else part.ids for part in target.targets]
        parts = zip(target.targets, wanted.split(widths, dim=-1))
        return torch.cat([perfect(part, own) for part, own in parts], dim=-1)
    if target.ids is None:
        return wanted
    assert wanted.shape[2] == target.ids
    return 100 * one_hot(wanted.long(), target.dim // target.ids).float().flatten(2)


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
    assert values.is_floating_point() or target.ids
    wanted, values = values, perfect(target, values)
    losses = target.losses(values, wanted)
    assert losses["loss"] == target.compare(values, wanted) < 1e-3
    assert set(target.scalars) == set(losses) - {"loss"}
    assert not any(value.requires_grad for name, value in losses.items() if name != "loss")
    assert values.shape == (2, 16, target.dim)
    assert values.isfinite().all()
    mask = hide_top(torch.rand(2, 16), 0.75)
    if not target.drawable:
        assert target.undrawn
        with pytest.raises(NotImplementedError, match=target.undrawn):
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


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("size", [(32, 64), (24, 16)])
def test_every_target_takes_other_sizes_than_the_encoder_was_built_for(text, encoder, size):
    target = build("target", text, grid=encoder.grid, channels=3, encoder=encoder)
    images = torch.randn(2, 3, 32, 32)
    target.fit(iter([images]))
    other, num = torch.randn(2, 3, *size), size[0] * size[1] // 64
    values = perfect(target, target(other))
    assert values.shape == (2, num, target.dim)
    if target.drawable:
        mask = hide_top(torch.rand(2, num), 0.5)
        assert target.to_pixels(take(values, mask.hidden), other, mask).shape == (2, num // 2, 192)


@pytest.mark.parametrize("name", [name for name in TARGETS if "codes" not in name and name != "mix"])
@pytest.mark.parametrize("channels", [1, 5])
def test_every_target_takes_any_number_of_channels(text, channels):
    """Tokenizers, which are of a number of channels, refuse others with a reason."""
    student = small_encoder(channels)
    text = "pca(components=32)" if text == "pca" else text  # 96 are more than a grey patch has
    target = build("target", text, grid=student.grid, channels=channels, encoder=student)
    x = torch.randn(2, channels, 32, 32)
    target.fit(iter([x]))
    values = perfect(target, target(x))
    assert values.shape == (2, 16, target.dim)
    if target.drawable:
        mask = hide_top(torch.rand(2, 16), 0.5)
        assert target.to_pixels(take(values, mask.hidden), x, mask).shape == (2, 8, 64 * channels)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("method", ["mae", "simmim"])
def test_the_cost_of_a_step_is_counted_before_a_target_has_seen_the_data(method, text):
    objective = small_method(f"{method}(target={text})")
    assert flops_of(objective, views_of(objective, count=2)) > 0
