"""Shares of what is visible over several kinds of units."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.masking.grid import Grid, Part
from unmask.masking.mask import Mask
from unmask.registry import build


def grid_of(*counts):
    """Parts of so many units."""
    return Grid((sum(counts),), (4,), tuple(Part(f"p{i}", Grid((n,), (4,)), 1) for i, n in enumerate(counts)))


def seen(mask: Mask, grid: Grid):
    """Visible units of each part, b k."""
    part = grid.part_of()[mask.visible]
    return torch.stack([(part == place).sum(dim=1) for place in range(len(grid.parts))], dim=1)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    ratio=st.floats(0.05, 0.95),
    alpha=st.sampled_from([0.05, 0.5, 1.0, 3.0, 1e4]),
    missing=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 99),
)
def test_masks_of_parts_are_exact_disjoint_and_show_nothing_of_what_is_missing(counts, ratio, alpha, missing, seed):
    grid = grid_of(*counts)
    empty = torch.zeros(5, grid.num_units, dtype=torch.bool)
    for place in missing & {*range(len(counts) - 1)}:  # the last part is always there
        first, end = grid.spans[place]
        empty[:3, first:end] = True
    sampler = build("mask", f"dirichlet(ratio={ratio}, alpha={alpha})")
    mask = sampler(5, grid, "cpu", torch.Generator().manual_seed(seed), context={"empty": empty})
    both = torch.cat([mask.visible, mask.hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(grid.num_units).expand(5, -1))
    assert mask.hidden.shape[1] == sampler.count(grid)
    shown_without_value = empty.gather(1, mask.visible).sum(dim=1)
    assert torch.equal(shown_without_value, (mask.visible.shape[1] - (~empty).sum(dim=1)).clamp(min=0))


def test_shares_of_what_is_visible_are_of_a_dirichlet_distribution():
    """Mean 1/k and variance (1/k)(1 - 1/k) / (k alpha + 1), for alphas on both sides of 1."""
    grid = grid_of(400, 400, 400)
    for alpha in (0.2, 1.0, 5.0):
        mask = build("mask", f"dirichlet(ratio=0.75, alpha={alpha})")(
            3000, grid, "cpu", torch.Generator().manual_seed(1)
        )
        shares = seen(mask, grid) / mask.visible.shape[1]
        expected = (1 / 3 * 2 / 3 / (3 * alpha + 1)) ** 0.5
        torch.testing.assert_close(shares.mean(dim=0), torch.full((3,), 1 / 3), atol=0.03, rtol=0)
        torch.testing.assert_close(shares.std(dim=0), torch.full((3,), expected), atol=0.02, rtol=0.05)


def test_a_part_with_few_units_gives_its_share_to_others():
    grid = grid_of(2, 30)
    mask = build("mask", "dirichlet(ratio=0.5)")(200, grid, "cpu", torch.Generator().manual_seed(0))
    assert seen(mask, grid)[:, 0].max() == 2
    assert (seen(mask, grid).sum(dim=1) == 16).all()


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1e6])
def test_a_concentration_that_is_none_is_refused(alpha):
    with pytest.raises(UserError, match="alpha of dirichlet"):
        build("mask", f"dirichlet(alpha={alpha})")
