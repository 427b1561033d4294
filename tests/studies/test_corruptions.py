"""Corruptions have the published strengths; `contracts/test_corruptions.py` holds what all have in common."""

import numpy as np
import pytest
import torch
from support.cat import cat

from unmask.errors import UserError
from unmask.studies.robustness.corrupt import CORRUPTIONS, corrupt
from unmask.studies.robustness.corruptions.weather import plasma
from unmask.studies.robustness.kernels import disk, streak


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
    blocks = corrupt(cat(224, 224), "pixelate", 5)
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
