"""What targets predict, against independent forms: skimage's and numpy's, or arithmetic on a few pixels."""

import math

import numpy as np
import pytest
import torch
from skimage.feature import hog as skimage_hog
from support.methods import small_encoder, small_method, teacher_file, tokenizer_file, views_of

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import hide_top
from unmask.registry import build

ODD = Grid((3, 2), (8, 12))  # patches that are not square, in an image that is not


def target(text, grid=ODD, channels=3):
    student = small_encoder(channels, mean=0.0, std=1.0)
    return build("target", text, grid=grid, channels=channels, encoder=student)


def image(channels=3, grid=ODD, seed=0, count=2):
    return torch.randn(count, channels, *grid.size, generator=torch.Generator().manual_seed(seed))


def numpy_hog(channel, cell, orientations):
    """Histograms of a channel, rows columns bins, pixel by pixel."""
    height, width = channel.shape
    padded = np.pad(channel, 1, mode="reflect")
    found = np.zeros((height // cell, width // cell, orientations))
    smooth = np.array([1.0, 2.0, 1.0])
    for y in range(height):
        for x in range(width):
            around = padded[y : y + 3, x : x + 3]
            down, right = (around[2] - around[0]) @ smooth, (around[:, 2] - around[:, 0]) @ smooth
            angle = math.atan2(down, right) % math.pi
            found[y // cell, x // cell, int(angle / math.pi * orientations) % orientations] += math.hypot(down, right)
    return found / np.maximum(np.linalg.norm(found, axis=2, keepdims=True), 1e-12)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("cell", "orientations"), [(4, 9), (2, 6)])
def test_hog_is_what_a_loop_over_pixels_finds(channels, cell, orientations):
    x = image(channels)
    values = target(f"hog(cell={cell}, orientations={orientations})", channels=channels)(x)
    rows, columns = 8 // cell, 12 // cell
    values = values.unflatten(2, (rows, columns, channels, orientations))
    for sample in range(2):
        for channel in range(channels):
            wanted = numpy_hog(x[sample, channel].double().numpy(), cell, orientations)
            units = wanted.reshape(3, rows, 2, columns, -1).transpose(0, 2, 1, 3, 4).reshape(6, rows, columns, -1)
            np.testing.assert_allclose(values[sample, :, :, :, channel], units, atol=2e-4)


def test_hog_is_skimage_s_where_sobel_s_gradients_are_differences():
    """As in images that are a sum of a row and a column: smoothing across the gradient changes nothing there."""
    chance = torch.Generator().manual_seed(3)
    x = torch.randn(1, 1, 32, 1, generator=chance) + torch.randn(1, 1, 1, 48, generator=chance)
    grid = Grid((2, 3), (16, 16))
    wanted = skimage_hog(
        x[0, 0].numpy(), orientations=9, pixels_per_cell=(8, 8), cells_per_block=(1, 1), block_norm="L2",
        feature_vector=False,
    )[:, :, 0, 0]  # fmt: skip
    values = target("hog", grid, 1)(x)[0].reshape(2, 3, 2, 2, 9).permute(0, 2, 1, 3, 4).reshape(4, 6, 9)
    np.testing.assert_allclose(values, wanted, atol=2e-4)


def test_hog_of_a_flat_image_is_zero_and_not_the_direction_of_rounding_errors():
    x = torch.full((1, 3, *ODD.size), 0.1) * torch.tensor([1.0, 3.0, 7.0]).view(1, 3, 1, 1)
    assert not target("hog(cell=4)")(x).any()


def test_hog_of_a_channel_does_not_change_with_contrast_and_brightness():
    x = image()
    torch.testing.assert_close(target("hog(cell=4)")(x), target("hog(cell=4)")(30 * x + 5), atol=1e-4, rtol=0)


def test_the_low_pass_keeps_slow_waves_and_removes_fast_ones():
    rows, columns = torch.arange(24.0).view(1, 1, -1, 1), torch.arange(24.0).view(1, 1, 1, -1)
    slow = torch.cos(2 * math.pi * 2 * rows / 24) + torch.sin(2 * math.pi * 3 * columns / 24)
    fast = torch.cos(2 * math.pi * 8 * rows / 24) + torch.sin(2 * math.pi * 12 * columns / 24 + 1)
    own, text = target("frequency", channels=1), "frequency(cutoff=0.5, normalize=False)"
    torch.testing.assert_close(target(text, channels=1)(slow + fast), ODD.cut(slow), atol=1e-5, rtol=0)
    assert (own(image(1)).var(dim=2) - 1).abs().max() < 1e-3  # normalised as pixels are, unless told otherwise


def test_the_low_pass_is_numpy_s_in_shifted_spectra():
    x = image(2)
    height, width = ODD.size
    down, right = np.indices((height, width))
    near = ((down - height // 2) / (height / 2)) ** 2 + ((right - width // 2) / (width / 2)) ** 2 <= 0.36**2
    spectrum = np.fft.fftshift(np.fft.fft2(x.double().numpy()), axes=(-2, -1))
    wanted = np.fft.ifft2(np.fft.ifftshift(spectrum * near, axes=(-2, -1))).real
    values = ODD.join(target("frequency(normalize=False)", channels=2)(x))
    np.testing.assert_allclose(values, wanted, atol=1e-5)


def enlarged(small, factor):
    """Bilinear, as weights of neighbours by the distance of centres, along the last two axes."""
    for axis in (-2, -1):
        count = small.shape[axis]
        at = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0, count - 1)
        below = np.floor(at).astype(int)
        share = (at - below).reshape((-1, 1) if axis == -2 else (-1,))
        above = np.minimum(below + 1, count - 1)
        small = (1 - share) * np.take(small, below, axis) + share * np.take(small, above, axis)
    return small


@pytest.mark.parametrize("factor", [2, 4])
def test_the_laplacian_pyramid_is_means_and_what_they_lack_when_enlarged(factor):
    x = image(2)
    small = x.double().numpy().reshape(2, 2, 24 // factor, factor, 24 // factor, factor).mean(axis=(3, 5))
    own = target(f"frequency(mode='laplacian', factor={factor})", channels=2)
    low, high = own(x).split(own.dims, dim=-1)
    of_small = Grid(ODD.shape, (8 // factor, 12 // factor))
    np.testing.assert_allclose(of_small.join(low), small, atol=1e-5)
    np.testing.assert_allclose(ODD.join(high), x.double().numpy() - enlarged(small, factor), atol=1e-5)


def test_the_pyramid_has_two_losses_and_gives_the_image_back():
    own, x, mask = target("frequency(mode='laplacian', factor=2, weight=3.0)"), image(), hide_top(torch.rand(2, 6), 0.5)
    wanted, guess = own(x), torch.randn(2, 6, own.dim)
    losses = own.losses(guess, wanted)
    difference = (guess - wanted).double().numpy()
    low, high = (difference[..., : own.dims[0]] ** 2).mean(), np.abs(difference[..., own.dims[0] :]).mean()
    assert losses["low"] == pytest.approx(low, rel=1e-5)
    assert losses["high"] == pytest.approx(high, rel=1e-5)
    assert losses["loss"] == pytest.approx(low + 3 * high, rel=1e-5)
    hidden = own.to_pixels(take(wanted, mask.hidden), x, mask)
    torch.testing.assert_close(hidden, take(ODD.cut(x), mask.hidden), atol=1e-5, rtol=1e-4)


def test_the_drawing_of_a_pyramid_takes_nothing_from_hidden_patches():
    own, x, mask = target("frequency(mode='laplacian', factor=2)"), image(), hide_top(torch.rand(2, 6), 0.5)
    units = ODD.cut(x)
    other = ODD.join(units.scatter(1, mask.hidden[..., None].expand(-1, -1, units.shape[2]), 9.0))
    guess = torch.randn(2, 3, own.dim)
    torch.testing.assert_close(own.to_pixels(guess, x, mask), own.to_pixels(guess, other, mask))


def test_the_loss_on_the_spectrum_is_numpy_s():
    own, channels = target("frequency(mode='fft', weight=2.0)"), 3
    guess, wanted = torch.randn(2, 6, own.dim), own(image())
    difference = (guess - wanted).double().numpy().reshape(2, 6, 8, 12, channels)
    distance = np.abs(np.fft.fft2(difference, axes=(2, 3), norm="ortho"))
    share = distance / distance.max(axis=(2, 3), keepdims=True)
    losses = own.losses(guess, wanted)
    assert losses["spectrum"] == pytest.approx((share * distance**2).mean(), rel=1e-5)
    assert losses["loss"] == pytest.approx((difference**2).mean() + 2 * (share * distance**2).mean(), rel=1e-5)
    assert (distance**2).mean() == pytest.approx((difference**2).mean())  # with equal shares: Parseval


def test_a_frequency_that_is_far_off_weighs_more_than_pixels_that_are():
    own = target("frequency(mode='fft')", Grid((1, 2), (8, 8)), 1)
    wave = torch.cos(2 * math.pi * 3 * torch.arange(8.0) / 8).expand(8, 8).reshape(1, 1, -1)
    noise = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    noise *= wave.norm() / noise.norm()
    zero = torch.zeros_like(wave)
    of_wave, of_noise = own.losses(wave, zero), own.losses(noise, zero)
    assert of_wave["pixels"] == pytest.approx(float(of_noise["pixels"]), rel=1e-5)
    assert of_wave["spectrum"] > 1.3 * of_noise["spectrum"]


def test_pixels_at_several_scales_are_means_of_squares_each_normalised():
    x = image()
    own, plain = target("pixels(scales=(1, 2, 4))"), target("pixels(normalize=False, scales=(2,))")
    assert own.dims == [288, 72, 18]
    one, half, quarter = own(x).split(own.dims, dim=-1)
    torch.testing.assert_close(one, target("pixels")(x))
    means = x.double().numpy().reshape(2, 3, 12, 2, 12, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(Grid(ODD.shape, (4, 6)).join(plain(x)), means, atol=1e-6)
    for part in (half, quarter):
        torch.testing.assert_close(part.var(dim=-1), torch.ones(2, 6), atol=1e-3, rtol=0)
        torch.testing.assert_close(part.mean(dim=-1), torch.zeros(2, 6), atol=1e-5, rtol=0)


def test_the_loss_at_several_scales_is_their_mean_and_the_finest_is_drawn():
    own, x, mask = target("pixels(scales=(1, 4))"), image(), hide_top(torch.rand(2, 6), 0.5)
    wanted, guess = own(x), torch.randn(2, 6, own.dim)
    losses = own.losses(guess, wanted)
    fine, coarse = (part.square().mean() for part in (guess - wanted).split(own.dims, dim=-1))
    torch.testing.assert_close(losses["loss"], (fine + coarse) / 2)
    torch.testing.assert_close((losses["scale_1"], losses["scale_4"]), (fine, coarse))
    hidden = take(ODD.cut(x), mask.hidden)
    torch.testing.assert_close(own.to_pixels(take(wanted, mask.hidden), x, mask, leak=True), hidden, atol=1e-4, rtol=0)
    coarse = target("pixels(scales=(4,), normalize=False)")
    drawn = coarse.to_pixels(take(coarse(x), mask.hidden), x, mask)
    assert drawn.shape == hidden.shape
    torch.testing.assert_close(
        coarse(ODD.join(drawn[:, [0]].expand(-1, 6, -1)))[:, 0], take(coarse(x), mask.hidden)[:, 0]
    )


def test_mix_is_the_weighted_sum_of_the_losses_of_its_parts_which_are_logged():
    text = (
        f'mix(a=\'frequency(mode="laplacian", factor=2)\', b="codes(of={str(tokenizer_file())!r})", weights=(2, 0.5))'
    )
    method = small_method(f"mae(target={text})")
    batch = views_of(method)
    own = method.target
    mask = hide_top(torch.rand(4, 16, generator=torch.Generator().manual_seed(0)), 0.75)
    losses = method(batch | {"mask": mask})
    alone, codes = own.targets
    prediction = method.predict(batch["views"][0], mask).float()
    normal = method.encoder.normalize(batch["views"][0])
    first = alone.compare(prediction[..., : alone.dim], take(alone(normal), mask.hidden))
    second = codes.compare(prediction[..., alone.dim :], take(codes(batch["views"][0]), mask.hidden))
    torch.testing.assert_close(losses["loss"], 2 * first + 0.5 * second)
    torch.testing.assert_close((losses["frequency"], losses["codes"]), (first.detach(), second.detach()))
    assert {"frequency_low", "frequency_high"} <= set(losses)
    assert set(method.words) <= set(losses) | {"contrast"}
    assert method.words["loss"].startswith("2 x squared error of the small image, and absolute error of the detail (")


def test_mix_is_drawn_by_the_part_that_can_be_and_fits_the_parts_that_learn():
    method = small_method("mae(target=mix(a=hog, b=pca(components=192)))")
    (x,) = views_of(method)["views"]
    method.prepare(iter([{"views": [x]}]))
    own, mask = method.target, hide_top(torch.rand(4, 16), 0.5)
    assert own.targets[1].fitted
    normal = method.encoder.normalize(x)
    drawn = own.to_pixels(take(own(normal), mask.hidden), normal, mask)
    torch.testing.assert_close(drawn, take(method.encoder.grid.cut(normal), mask.hidden), atol=1e-3, rtol=0)
    neither = small_method(f"mae(target=mix(a=hog, b=features(of={str(teacher_file())!r})))")
    assert not neither.drawable
    assert neither.undrawn == f"{own.targets[0].undrawn} and features of a teacher"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hog(cell=5)", "hog's cell 5: patches of 8 x 12 pixels cannot be divided by it; hog's cell may be 2 or 4"),
        ("hog(cell=8)", "hog's cell 8"),
        ("hog(orientations=1)", "orientations must be 2 or more"),
        ("frequency(mode='high')", "mode is 'low' or 'laplacian' or 'fft'"),
        ("frequency(mode='fft', cutoff=0.3)", r"frequency\(mode='fft'\) has no cutoff; it has weight and normalize"),
        ("frequency(mode='laplacian', factor=8)", "frequency's factor 8: .* frequency's factor may be 2 or 4"),
        ("frequency(cutoff=0.0)", "cutoff must be above 0"),
        ("pixels(scales=(2, 1))", "scales are whole numbers that rise"),
        ("pixels(scales=())", "scales are whole numbers that rise"),
        ("pixels(scales=(1, 3))", "scales 3: patches of 8 x 12"),
        ("pixels(scales=2)", "scales is a tuple"),
        ("mix", "mix needs two targets"),
        ("mix(a=pixels)", "mix needs two targets"),
        ("mix(a=pixels, b=hgo)", "did you mean 'hog'"),
        ("mix(a=pixels, b=hog(cell=4), weights=(1, 0))", "weights must be above 0"),
        ("mix(a=pixels, b=hog(cell=4), weights=(1, 1, 1))", "weights is a tuple of 2"),
        ("mix(a=pixels, b=hog(cell=3))", "hog's cell 3"),
        ("ema(layers=2)", "layers=2, and the encoder has 1 layer as wide as its last"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_words(text, says):
    with pytest.raises(UserError, match=says):
        target(text)


@pytest.mark.parametrize("text", ["pixels", "frequency", "frequency(mode='fft')"])
def test_a_patch_of_one_value_cannot_be_normalised(text):
    with pytest.raises(UserError, match="one value"):
        target(text, Grid((4, 4), (1, 1)), 1)
    with pytest.raises(UserError, match="one value"):
        target("pixels(scales=(4,))", Grid((4, 4), (4, 4)), 1)
