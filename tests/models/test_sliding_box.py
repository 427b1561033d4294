"""Volumes seen box by box: every voxel is seen, the middle of a box counts most, and nothing moves."""

import itertools

import pytest
import torch

from unmask.models.sliding_window import boxes_at_once, gaussian, slide_box, starts


@pytest.mark.parametrize(("length", "window"), [(8, 8), (5, 8), (9, 8), (12, 8), (13, 8), (40, 8), (7, 3)])
def test_boxes_cover_a_side_overlap_by_a_half_and_end_where_it_ends(length, window):
    places = starts(length, window)
    assert places[0] == 0
    assert places[-1] == max(0, length - window)
    gaps = [later - earlier for earlier, later in itertools.pairwise(places)]
    assert all(0 < gap <= max(1, round(window / 2)) for gap in gaps)


def test_weights_are_one_in_the_middle_fall_to_the_edges_and_are_nowhere_zero():
    weights = gaussian((9, 7, 5))
    assert weights.shape == (9, 7, 5)
    assert weights[4, 3, 2] == 1 == weights.max()
    assert weights.min() >= 1e-4
    assert (weights[:, 3, 2].diff()[:4] > 0).all()
    assert torch.equal(weights, weights.flip(0, 1, 2))


@pytest.mark.parametrize("size", [(10, 9, 12), (4, 12, 3), (8, 8, 8)])
@pytest.mark.parametrize("batch", [1, 3])
def test_what_a_model_says_of_each_voxel_alone_comes_back_unchanged(size, batch):
    volume = torch.rand(2, *size)
    shapes = []

    def run(x):
        shapes.append(tuple(x.shape[1:]))
        return torch.cat([x, 2 * x[:, :1]], dim=1)

    result = slide_box(run, volume, window=(8, 8, 8), fill=torch.zeros(2), batch=batch)
    torch.testing.assert_close(result, torch.cat([volume, 2 * volume[:1]]))
    assert set(shapes) == {(2, 8, 8, 8)}


def test_the_middle_of_a_box_counts_more_than_the_edge_of_its_neighbour():
    seen = []

    def run(x):  # each box says its number
        seen.append(len(seen))
        return torch.full((1, 1, 8, 8, 8), float(seen[-1]))

    result = slide_box(run, torch.zeros(1, 8, 8, 12), window=(8, 8, 8), fill=torch.zeros(1), batch=1)
    along = result[0, 4, 4]
    assert len(seen) == 2
    assert along[:4].tolist() == [0] * 4
    assert along[8:].tolist() == [1] * 4
    assert (along[4:8].diff() > 0).all()
    assert 0 < along[4] < 0.05 < 0.95 < along[7] < 1


def test_beyond_a_small_volume_lies_the_fill_evenly_on_both_sides():
    boxes = []
    slide_box(
        lambda x: boxes.append(x) or x, torch.ones(1, 8, 8, 5), window=(8, 8, 8), fill=torch.tensor([0.25]), batch=1
    )
    assert boxes[0][0, 0, 0, 0].tolist() == [0.25] + [1] * 5 + [0.25] * 2


def test_large_boxes_are_seen_one_by_one():
    assert [boxes_at_once((side,) * 3) for side in (16, 64, 96, 200)] == [16, 2, 1, 1]
