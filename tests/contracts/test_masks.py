"""What every mask sampler keeps, on grids of one, two and three dimensions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.masking.grid import Grid
from unmask.masking.mask import Rows, as_bool, num_hidden
from unmask.registry import build, names

MASKS = names("mask")
shapes = (
    st.integers(1, 3)
    .flatmap(lambda k: st.tuples(*[st.integers(1, 7)] * k))
    .filter(lambda s: torch.tensor(s).prod() > 1)
)


@pytest.mark.parametrize("name", MASKS)
@settings(max_examples=25, deadline=None)
@given(shape=shapes, ratio=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_every_mask_splits_the_units_in_two_with_the_exact_count(name, shape, ratio, seed):
    grid, sampler = Grid(shape, (1,) * len(shape)), build("mask", name, ratio=ratio)
    if not sampler.covers:
        return  # see the next test
    mask = sampler(3, grid, "cpu", torch.Generator().manual_seed(seed))
    both = torch.cat([mask.visible, mask.hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(grid.num_units).expand(3, -1))
    assert mask.hidden.shape[1] == num_hidden(grid.num_units, ratio)
    assert mask.visible.shape[1] >= 1


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("shape", [(8, 8), (14, 14), (6, 10), (30,), (4, 5, 6)])
def test_what_is_seen_and_what_is_predicted_are_disjoint_and_have_static_counts(name, shape):
    grid, sampler = Grid(shape, (1,) * len(shape)), build("mask", name)
    masks = [sampler(9, grid, "cpu", torch.Generator().manual_seed(seed)) for seed in range(6)]
    assert len({(m.visible.shape, m.hidden.shape) for m in masks}) == 1
    for mask in masks:
        seen, predicted = as_bool(mask.visible, grid.num_units), as_bool(mask.hidden, grid.num_units)
        assert not (seen & predicted).any()
        assert (seen.sum(dim=1) == mask.visible.shape[1]).all()
        assert bool((seen | predicted).all()) or not sampler.covers


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_is_seedable_and_changes_from_sample_to_sample(name):
    sampler, grid = build("mask", name), Grid((8, 8), (1, 1))
    draws = [sampler(16, grid, "cpu", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0].hidden, draws[1].hidden)
    assert not torch.equal(draws[0].hidden, draws[2].hidden)
    hidden = as_bool(draws[0].hidden, 64)
    assert len(torch.unique(hidden, dim=0)) > 1


@pytest.mark.parametrize("name", MASKS)
def test_every_sample_gets_the_same_mask_however_the_batch_is_divided(name):
    sampler, grid = build("mask", name), Grid((6, 8), (1, 1))
    whole = sampler(12, grid, "cpu", rows=Rows(5, 0, 12, 12))
    for parts in (2, 4):
        size = 12 // parts
        pieces = [sampler(size, grid, "cpu", rows=Rows(5, k * size, size, 12)) for k in range(parts)]
        assert torch.equal(torch.cat([piece.hidden for piece in pieces]), whole.hidden)
    assert not torch.equal(sampler(12, grid, "cpu", rows=Rows(6, 0, 12, 12)).hidden, whole.hidden)
    assert len(torch.unique(as_bool(whole.hidden, 48), dim=0)) > 1


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_hides_every_unit_now_and_then(name):
    hidden = as_bool(build("mask", name)(4000, Grid((6, 6), (1, 1)), "cpu").hidden, 36)
    assert hidden.any(dim=0).all()
    assert (~hidden).any(dim=0).all()
