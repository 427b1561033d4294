"""Contracts of every mask sampler, those found in the folder now and any that are added."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Rows, as_bool, hide_top, num_hidden
from unmask.registry import build, names

ALL = names("mask")
shapes = (
    st.integers(1, 3)
    .flatmap(lambda k: st.tuples(*[st.integers(1, 7)] * k))
    .filter(lambda s: torch.tensor(s).prod() > 1)
)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(shape=shapes, ratio=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_every_mask_splits_the_units_in_two_with_the_exact_count(name, shape, ratio, seed):
    grid = Grid(shape, (1,) * len(shape))
    mask = build("mask", name, ratio=ratio)(3, grid, "cpu", torch.Generator().manual_seed(seed))
    both = torch.cat([mask.visible, mask.hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(grid.num_units).expand(3, -1))
    assert mask.hidden.shape[1] == num_hidden(grid.num_units, ratio)
    assert mask.visible.shape[1] >= 1


@pytest.mark.parametrize("name", ALL)
def test_every_mask_is_seedable_and_changes_from_sample_to_sample(name):
    sampler, grid = build("mask", name), Grid((8, 8), (1, 1))
    draws = [sampler(16, grid, "cpu", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0].hidden, draws[1].hidden)
    assert not torch.equal(draws[0].hidden, draws[2].hidden)
    hidden = as_bool(draws[0].hidden, 64)
    assert len(torch.unique(hidden, dim=0)) > 1


@pytest.mark.parametrize("name", ALL)
def test_every_sample_gets_the_same_mask_however_the_batch_is_divided(name):
    sampler, grid = build("mask", name), Grid((6, 8), (1, 1))
    whole = sampler(12, grid, "cpu", rows=Rows(5, 0, 12, 12))
    for parts in (2, 4):
        size = 12 // parts
        pieces = [sampler(size, grid, "cpu", rows=Rows(5, k * size, size, 12)) for k in range(parts)]
        assert torch.equal(torch.cat([piece.hidden for piece in pieces]), whole.hidden)
    assert not torch.equal(sampler(12, grid, "cpu", rows=Rows(6, 0, 12, 12)).hidden, whole.hidden)
    assert len(torch.unique(as_bool(whole.hidden, 48), dim=0)) > 1


@pytest.mark.parametrize("name", ALL)
def test_every_mask_hides_every_unit_now_and_then(name):
    hidden = as_bool(build("mask", name)(4000, Grid((6, 6), (1, 1)), "cpu").hidden, 36)
    assert hidden.any(dim=0).all()
    assert (~hidden).any(dim=0).all()


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
