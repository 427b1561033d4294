"""Images too large for memory, seen by rows of windows: the same map as when all logits are held, without seams."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from unmask.models.sliding_window import gaussian, slide_strips, starts


def whole_map(run, image, window, **options):
    """The strips of an image that lies there whole, put together; and the rows that were asked for."""
    shape, asked = {"share": 1.0, "fill": torch.zeros(len(image)), "batch": 3} | options, []

    def rows(first, end):
        asked.append((first, end))
        return image[:, first:end]

    strips = list(slide_strips(run, rows, tuple(image.shape[1:]), window=window, **shape))
    assert [top for top, _ in strips] == np.cumsum([0, *(len(map_) for _, map_ in strips[:-1])]).tolist()
    return np.concatenate([map_ for _, map_ in strips]), asked


def smoothed(x):
    """Logits that depend on 3 x 3 pixels: shift-invariant but at the edges of a window."""
    return conv2d(
        x, torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]], [[[0.0, 0, 0], [0, 16, 0], [0, 0, 0]]]]), padding=1
    )


@given(st.integers(5, 40), st.integers(5, 40), st.sampled_from([(8, 8), (9, 6), (64, 64)]), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_what_a_model_says_of_each_pixel_alone_is_the_map_wherever_windows_start(height, width, window, batch):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height * width))
    map_, asked = whole_map(lambda x: x, image, window, classes=3, batch=batch)
    assert (map_ == image.argmax(dim=0).numpy()).all()
    assert max(end - first for first, end in asked) <= window[0]


def test_strips_equal_the_map_of_all_logits_added_up_at_once():
    image = torch.rand(1, 37, 29, generator=torch.Generator().manual_seed(0))
    window, sums = (8, 8), torch.zeros(2, 37, 29)
    for top in starts(37, 8):
        for left in starts(29, 8):
            place = (slice(None), slice(top, top + 8), slice(left, left + 8))
            sums[place] += smoothed(image[place][None])[0] * gaussian(window)
    map_, _ = whole_map(smoothed, image, window, classes=2)
    assert (map_ == sums.argmax(dim=0).numpy()).all()


def test_inside_no_seam_shows_where_windows_meet():
    """Where a window's edge is wrong, the neighbour whose middle lies there decides."""
    image = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(1)).round(decimals=1)

    def blind(x):  # knows nothing in the outermost two pixels, and says so loudly
        logits = torch.stack([0.4 - x[:, 0], x[:, 0] - 0.45], dim=1)
        edge = torch.ones(16, 16, dtype=torch.bool)
        edge[2:-2, 2:-2] = False
        logits[:, 0, edge], logits[:, 1, edge] = 0.2, -0.2
        return logits

    map_, _ = whole_map(blind, image, (16, 16), classes=2)
    inside = (slice(4, -4), slice(4, -4))
    assert (map_[inside] == blind_free(image)[inside]).mean() > 0.98


def blind_free(image):
    return torch.stack([0.4 - image[0], image[0] - 0.45]).argmax(dim=0).numpy()


def test_windows_without_a_value_are_not_run():
    image = torch.rand(1, 16, 48)
    image[:, :, :24] = torch.nan
    seen = []
    whole_map(lambda x: seen.append(x) or x.nan_to_num().expand(-1, 2, -1, -1), image, (16, 16), classes=2, batch=1)
    assert len(seen) == len(starts(48, 16)) - 2
    assert not any(x.isnan().all() for x in seen)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_images_are_seen_at_another_resolution(share):
    image = torch.zeros(1, 48, 40)
    image[:, 24:, :] = 1
    shapes = []

    def run(x):
        shapes.append(tuple(x.shape))
        return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], dim=1)

    map_, asked = whole_map(run, image, (8, 8), classes=2, share=share)
    assert {shape[1:] for shape in shapes} == {(1, 8, 8)}
    assert {end - first for first, end in asked} == {round(8 / share)}
    assert (map_ == (np.arange(48) >= 24)[:, None]).mean() > 0.95
