"""Every corruption that exists keeps shape, type and range, grows with severity, and repeats by seed, at any size."""

import itertools

import numpy as np
import pytest
import torch
from skimage import data
from torchvision.transforms.v2 import functional as F

from unmask.errors import UserError
from unmask.studies.robustness.corrupt import CORRUPTIONS, SEVERITIES, corrupt
from unmask.studies.robustness.corruptions.weather import plasma
from unmask.studies.robustness.kernels import disk, streak

CAT = torch.from_numpy(data.chelsea()[:, 75:375]).permute(2, 0, 1)  # a photograph
# A veil as bright as the scene is not farther away in pixels at each severity; what is left of the scene shrinks.
VEILS = {"fog", "frost"}


def photograph(height, width, channels=3):
    image = F.resize(CAT, [height, width], antialias=True)
    return image if channels == 3 else F.rgb_to_grayscale(image)


def distance(name, severity, image, draws=4):
    """Mean square over a few draws; of a veil, the share of the scene that is gone."""
    clean, total = image.double(), []
    for number in range(draws):
        other = corrupt(image, name, severity, number=number).double()
        if name in VEILS:
            mirrored = corrupt(image.flip(-1), name, severity, number=number).double()  # behind the same veil
            total.append(1 - float((other - mirrored).abs().sum() / (clean - clean.flip(-1)).abs().sum()))
        else:
            total.append(float((other - clean).pow(2).mean()))
    return float(np.mean(total))


@pytest.mark.parametrize("name", CORRUPTIONS)
class TestEveryCorruption:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_keeps_shape_type_and_range(self, name, channels):
        sizes = [(64, 64), (28, 28), (48, 80), (80, 48), (9, 12)]
        for size, severity in itertools.product(sizes, SEVERITIES):
            image = photograph(*size, channels)
            result = corrupt(image, name, severity)
            assert result.shape == image.shape
            assert result.dtype == torch.uint8
            deep = corrupt(image.float(), name, severity)
            assert deep.dtype == torch.float32
            assert 0 <= float(deep.min()) <= float(deep.max()) <= 255
            assert (deep.round() - result.float()).abs().max() <= 1

    @pytest.mark.parametrize("size", [(96, 96), (28, 28)])
    def test_changes_even_a_small_image_at_the_lowest_severity(self, name, size):
        image = photograph(*size)
        assert (corrupt(image, name, 1).float() - image.float()).abs().mean() > 0.3

    def test_grows_with_severity(self, name):
        image = photograph(112, 112)
        found = [distance(name, severity, image) for severity in SEVERITIES]
        runs = [found[:2], found[2:]] if name == "elastic_transform" else [found]  # says why in its docstring
        for run in runs:
            for lower, higher in itertools.pairwise(run):
                assert higher > 0.995 * lower  # fog keeps the same share of the scene at 3 and 4
            assert run[-1] > 1.1 * run[0]

    def test_chance_comes_from_seed_image_and_severity_alone(self, name):
        image = photograph(40, 40)
        first = corrupt(image, name, 3, seed=1, number=2)
        torch.manual_seed(0)
        assert torch.equal(first, corrupt(image.clone(), name, 3, seed=1, number=2))
        others = [corrupt(image, name, 3, seed=2, number=2), corrupt(image, name, 3, seed=1, number=3)]
        chancy = name not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "jpeg_compression", "pixelate")
        assert [torch.equal(first, other) for other in others] == [not chancy] * 2

    def test_leaves_the_original_alone_and_takes_flat_images(self, name):
        image = photograph(32, 32)
        before = image.clone()
        corrupt(image, name, 5)
        assert torch.equal(image, before)
        for value in (0, 255):
            flat = torch.full((3, 32, 32), value, dtype=torch.uint8)
            assert corrupt(flat, name, 5).shape == flat.shape

    def test_is_grey_on_a_grey_image_where_it_has_no_colour_of_its_own(self, name):
        grey = photograph(32, 32, 1)
        colour = corrupt(grey.expand(3, -1, -1), name, 2)
        if name not in ("frost", "gaussian_noise", "shot_noise", "impulse_noise", "elastic_transform"):
            assert (colour.int() - corrupt(grey, name, 2).int()).abs().max() <= 3


def test_there_are_the_fifteen_of_imagenet_c_by_kind():
    assert list(CORRUPTIONS) == [
        *("gaussian_noise", "impulse_noise", "shot_noise"),
        *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        *("brightness", "fog", "frost", "snow"),
        *("contrast", "elastic_transform", "jpeg_compression", "pixelate"),
    ]


def test_published_strengths_hold_at_224():
    image = torch.full((3, 224, 224), 128, dtype=torch.float32)
    noisy = corrupt(image, "gaussian_noise", 1) - image
    assert float(noisy.std()) / 255 == pytest.approx(0.08, rel=0.01)
    hit = corrupt(image, "impulse_noise", 3) != image
    assert float(hit.float().mean()) == pytest.approx(0.09, rel=0.05)
    shot = corrupt(image, "shot_noise", 2) / 255
    assert float(shot.var()) == pytest.approx(128 / 255 / 25, rel=0.03)
    small = torch.full((3, 56, 56), 128, dtype=torch.float32)
    assert float((corrupt(small, "gaussian_noise", 1) - small).std()) / 255 == pytest.approx(0.04, rel=0.03)
    blocks = corrupt(photograph(224, 224), "pixelate", 5)
    assert torch.equal(blocks[:, ::4], blocks[:, 3::4])
    assert torch.equal(blocks[:, :, ::4], blocks[:, :, 3::4])


def test_blurs_spread_a_point_over_the_published_radius_and_lose_no_light():
    point = torch.zeros(1, 224, 224)
    point[0, 112, 112] = 255
    spread = corrupt(point, "defocus_blur", 5)[0]
    assert float(spread.sum()) == pytest.approx(255, rel=1e-3)
    rows = torch.nonzero(spread.sum(dim=1) > 1e-3).flatten()
    assert int(rows[-1] - rows[0]) == pytest.approx(20, abs=2)
    assert disk(0.3).sum() == pytest.approx(1, rel=1e-5)
    moved = streak(10, 3, 0)
    assert moved.sum() == pytest.approx(1, rel=1e-5)
    middle = len(moved) // 2
    assert moved[middle].sum() == pytest.approx(1, rel=1e-5)  # at 0 degrees all along a row
    assert moved[middle, : middle - 1].sum() == 0  # and to one side


def test_plasma_repeats_without_a_seam_and_is_rougher_with_less_decay():
    smooth, rough = (plasma(256, 256, decay, np.random.default_rng(0)) for decay in (2.5, 1.4))
    for field in (smooth, rough):
        assert field.min() == 0
        assert field.max() == 1
        inside, across = np.abs(np.diff(field, axis=0)).mean(), np.abs(field[0] - field[-1]).mean()
        assert across < 2 * inside
    assert np.abs(np.diff(rough, axis=0)).mean() > 2 * np.abs(np.diff(smooth, axis=0)).mean()
    assert plasma(300, 20, 2, np.random.default_rng(0)).shape == (300, 20)


@pytest.mark.parametrize(
    ("image", "name", "severity", "words"),
    [
        (torch.zeros(3, 8, 8), "gausian_noise", 1, "did you mean 'gaussian_noise'"),
        (torch.zeros(3, 8, 8), "fog", 6, r"1 \(least\) to 5; got 6"),
        (torch.zeros(4, 8, 8), "fog", 1, "4 channels"),
        (torch.full((3, 8, 8), 300.0), "fog", 1, "300"),
        (torch.full((3, 8, 8), -1.0), "fog", 1, "-1"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(image, name, severity, words):
    with pytest.raises(UserError, match=words):
        corrupt(image, name, severity)
