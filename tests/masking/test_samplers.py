"""Mask samplers: how many units each hides and which; `contracts/test_masks.py` holds what all have in common."""

import pytest
import torch

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import as_bool, hide_top, num_hidden
from unmask.registry import build


def test_counts_are_mae_s_where_floats_would_miss():
    assert num_hidden(196, 0.75) == 147
    assert num_hidden(256, 0.75) == 192
    assert num_hidden(10, 0.9) == 9
    assert num_hidden(196, 0.9) == 177  # floor(19.6) stay
    assert num_hidden(2, 0.99) == 1
    assert num_hidden(100, 0.001) == 1


def test_the_regular_mask_keeps_one_place_of_every_two_by_two():
    mask = build("mask", "grid")(5, Grid((6, 8), (1, 1)), "cpu")
    seen = as_bool(mask.visible, 48).view(5, 3, 2, 4, 2)
    assert (seen.sum(dim=(2, 4)) == 1).all()
    assert (seen == seen[:, :1, :, :1]).all()  # the same place in every cell of a sample


def neighbours_alike(hidden):
    return (hidden[:, 1:] == hidden[:, :-1]).float().mean() + (hidden[:, :, 1:] == hidden[:, :, :-1]).float().mean()


@pytest.mark.parametrize("name", ["block", "blob"])
def test_contiguous_masks_hide_neighbours_together(name):
    grid = Grid((14, 14), (1, 1))
    draw = lambda n: as_bool(build("mask", n, ratio=0.5)(64, grid, "cpu").hidden, 196).view(64, 14, 14)  # noqa: E731
    assert neighbours_alike(draw(name)) > neighbours_alike(draw("random")) + 0.3


def test_blocks_are_boxes_while_one_is_enough():
    hidden = as_bool(build("mask", "block(ratio=0.1, smallest=0.3)")(32, Grid((12, 12), (1, 1)), "cpu").hidden, 144)
    for one in hidden.view(32, 12, 12):
        rows, columns = one.any(dim=1).sum(), one.any(dim=0).sum()
        assert one.sum() > 0.5 * rows * columns  # the middle of a box, cut off where the count is reached


@pytest.mark.parametrize("ratio", [0, 1, -0.5, 1.5])
def test_a_ratio_outside_is_refused(ratio):
    with pytest.raises(UserError, match="between 0 and 1"):
        build("mask", "random", ratio=ratio)


def test_the_highest_scores_are_hidden():
    mask = hide_top(torch.tensor([[0.1, 0.9, 0.5, 0.7]]), 0.5)
    assert sorted(mask.hidden[0].tolist()) == [1, 3]
