"""Masks that look at no image: tubes, running cells, filtered noise. Each does what its paper says."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Noise, as_bool
from unmask.registry import build


def grid_of(*shape):
    return Grid(shape, (1,) * len(shape))


def hidden_of(text, batch, *shape, seed=0):
    grid = grid_of(*shape)
    mask = build("mask", text)(batch, grid, "cpu", torch.Generator().manual_seed(seed))
    return as_bool(mask.hidden, grid.num_units).view(batch, *shape)


def test_tubes_hide_the_same_places_in_every_frame_as_many_as_videomae():
    hidden = hidden_of("tube(ratio=0.9)", 5, 8, 14, 14)
    assert (hidden == hidden[:, :1]).all()
    assert (hidden.sum(dim=(2, 3)) == 176).all()
    assert len(torch.unique(hidden[:, 0].flatten(1), dim=0)) == 5


def test_a_tube_without_time_is_a_random_mask_and_says_so():
    tube, random = hidden_of("tube(ratio=0.75)", 3, 6, 6), hidden_of("random(ratio=0.75)", 3, 6, 6)
    assert torch.equal(tube, random)
    assert "same as random" in build("mask", "tube").note(grid_of(6, 6))
    assert build("mask", "tube").note(grid_of(4, 6, 6)) == ""


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_a_running_cell_hides_every_unit_equally_often(ratio):
    hidden = hidden_of(f"running_cell(ratio={ratio})", 6, 8, 4, 6).float()
    for first in range(5):  # any four frames
        assert (hidden[:, first : first + 4].mean(dim=1) == ratio).all()
    assert (hidden.mean(dim=(2, 3)) == ratio).all()  # every frame
    assert (hidden[:, 1:] != hidden[:, :-1]).any(dim=(2, 3)).all()  # it runs
    still = hidden_of(f"running_cell(ratio={ratio})", 4000, 4, 6).float()
    assert (still.mean(dim=(1, 2)) == ratio).all()
    assert (still.mean(dim=0) - ratio).abs().max() < 0.04
    assert len(torch.unique(still.flatten(1), dim=0)) == 4  # one for each start


def test_what_a_running_cell_hides_lies_side_by_side_and_moves_by_one():
    cells = hidden_of("running_cell(ratio=0.5)", 20, 4, 2, 2)
    for frames in cells.flatten(2):
        run = [frame[[0, 1, 3, 2]].tolist() for frame in frames]  # around the cell
        assert all(cell in ([1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]) for cell in run)
        assert all(later == before[-1:] + before[:-1] for before, later in pairwise(run))


FINE, COARSE, SIDE = 0.6, 1.2, 16


def spectrum(scores):
    """Mean power of square images at each frequency."""
    return (np.abs(np.fft.fft2(scores)) ** 2).mean(axis=0) / scores[0].size


def blur(width):
    """What a Gaussian, cut off at three standard deviations, does to each of 64 x 64 frequencies."""
    reach = int(np.ceil(3 * width))
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    line = np.fft.fft(np.roll(np.pad(line / line.sum(), (0, 63 - 2 * reach)), -reach)).real
    return line[:, None] * line[None]


def wanted_spectrum(colour):
    """Power of filtered noise seen through a window of SIDE x SIDE: the transform of its covariance, less of it the
    fewer pairs of units are so far apart."""
    fine, coarse = blur(FINE), blur(COARSE)
    band = fine - coarse
    transfer = {"red": coarse, "blue": 1 - fine, "green": band, "purple": 1 - band}[colour]
    covariance = np.fft.ifft2(transfer**2).real / 12  # of uniform noise
    lags = np.arange(-SIDE + 1, SIDE)
    pairs = (1 - np.abs(lags)[:, None] / SIDE) * (1 - np.abs(lags)[None] / SIDE)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(SIDE), lags) / SIDE)
    return (waves @ (pairs * covariance[np.ix_(lags, lags)]) @ waves.T).real


@pytest.mark.parametrize("colour", ["red", "blue", "green", "purple"])
def test_noise_has_the_spectrum_of_its_colour(colour):
    sampler = build("mask", f"noise(colour={colour!r}, fine={FINE}, coarse={COARSE})")
    noise = Noise("cpu", torch.Generator().manual_seed(0))
    scores = sampler.score(4000, grid_of(SIDE, SIDE), noise, {}).view(-1, SIDE, SIDE).double().numpy()
    found, wanted = spectrum(scores), wanted_spectrum(colour)
    assert np.abs(found - wanted).max() < 0.12 * wanted.max()
    assert np.abs(found / wanted - 1).mean() < 0.03


def test_masks_of_noise_have_their_colours_too():
    low, middle, high = [0, 1], [3, 4, 5], [7, 8]

    def power(text):
        hidden = hidden_of(text, 600, SIDE, SIDE).double().numpy()
        of = spectrum(hidden - hidden.mean(axis=(1, 2), keepdims=True))
        return [np.mean([of[k, k] + of[k, 0] + of[0, k] for k in band if k]) for band in (low, middle, high)]

    red, blue, green, purple = (power(f"noise(ratio=0.5, colour={c!r})") for c in ("red", "blue", "green", "purple"))
    assert red[0] > red[1] > red[2]
    assert blue[0] < blue[1] < blue[2]
    assert green[1] > green[0]
    assert green[1] > green[2]
    assert purple[1] < purple[0]
    assert purple[1] < purple[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("noise(colour='pink')", "colour"),
        ("noise(fine=2.0, coarse=1.0)", "fine < coarse"),
        ("noise(fine=0.0)", "fine"),
        ("random(ratio=(0.5, 1.0))", "between 0 and 1"),
        ("random(ratio=(0.5, 0.6, 0.7))", "ratio"),
        ("random(ratio='half')", "ratio"),
        ("tube(ratio=0)", "between 0 and 1"),
    ],
)
def test_options_that_cannot_be_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        build("mask", text)
