"""Recordings are drawn as curves: a lane for each channel, hidden times shaded, what was rebuilt in its own colour."""

import warnings

import numpy as np
import torch
from PIL import Image

from unmask.report.curves import curves, stacked
from unmask.report.palette import BLUE, GREY, LIGHT_GREY, VERMILION, make_figure, rgb, save
from unmask.report.reconstruction import strip


def pixels_of(picture, colour, away=40):
    return np.abs(picture.astype(int) - rgb(colour)).max(axis=2) < away


def waves():
    return torch.stack([torch.sin(torch.arange(64) / 4), torch.cos(torch.arange(64) / 6) * 100])


def test_each_channel_has_a_lane_of_its_own_and_hidden_times_are_shaded_in_all():
    x, hidden = waves(), torch.zeros(64, dtype=torch.bool)
    hidden[16:32] = True
    picture = curves(x.masked_fill(hidden, torch.nan), x, hidden)
    height, width = picture.shape[:2]
    drawn, shaded = pixels_of(picture, BLUE), pixels_of(picture, LIGHT_GREY, 6)
    for lane in (slice(0, height // 2), slice(height // 2, height)):
        assert drawn[lane].any(axis=0).mean() > 0.6
        assert not drawn[lane, int(0.28 * width) : int(0.48 * width)].any()
        assert shaded[lane, int(0.3 * width) : int(0.45 * width)].mean() > 0.8
        assert shaded[lane, int(0.6 * width) : int(0.95 * width)].mean() < 0.2
    assert not pixels_of(picture, VERMILION).any()


def test_what_was_rebuilt_lies_over_the_input_where_it_was_hidden():
    x, hidden = waves(), torch.zeros(64, dtype=torch.bool)
    hidden[32:] = True
    guess = torch.zeros_like(x).masked_fill(~hidden, torch.nan)
    picture = curves(x, x, hidden, guess)
    rebuilt = picture[..., 0].astype(int) - picture[..., 2] > 60  # red, also where a thin line is spread over two rows
    half = picture.shape[1] // 2
    assert rebuilt[:, half + 8 :].any(axis=0).mean() > 0.9
    assert not rebuilt[:, : half - 8].any()


def test_recordings_without_a_value_and_of_many_channels_are_drawn():
    assert curves(torch.full((1, 8), torch.nan), torch.full((1, 8), torch.nan)).ndim == 3
    assert curves(torch.zeros(40, 16), torch.zeros(40, 16)).shape[0] < 2000


def test_samples_of_a_film_are_kept_apart_by_a_line_with_room_around_it(tmp_path):
    x = torch.stack([waves(), waves(), waves()])
    strip(x, x, tmp_path / "frame.png", "signal")
    frame = np.asarray(Image.open(tmp_path / "frame.png"))
    alone = curves(x[0], x[0], dpi=65)
    height, gap = len(alone), (len(frame) - 3 * len(alone)) // 2
    assert gap > height // 10
    assert (frame == stacked([alone] * 3)).all()
    for first in (height, 2 * height + gap):
        between = frame[first : first + gap]
        lines = (between == rgb(GREY)).all(axis=(1, 2))
        assert lines.sum() == 1
        assert not lines[[0, 1, -2, -1]].any()
        assert (between[~lines] == 255).all()


def test_signs_that_the_font_lacks_are_no_warning_among_the_lines_of_a_command(tmp_path):
    figure = make_figure(2, 1)
    figure.suptitle("一条红色的裙子")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size
