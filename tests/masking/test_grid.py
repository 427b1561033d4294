"""Cutting and joining, on grids of any dimension."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.masking.grid import Grid, take
from unmask.models.layers.position import sincos

grids = st.integers(1, 3).flatmap(
    lambda k: st.builds(
        Grid,
        st.tuples(*[st.integers(1, 4)] * k),
        st.tuples(*[st.integers(1, 3)] * k),
    )
)


@settings(max_examples=40, deadline=None)
@given(grid=grids, channels=st.integers(1, 5))
def test_join_undoes_cut(grid, channels):
    x = torch.randn(2, channels, *grid.size)
    assert torch.equal(grid.join(grid.cut(x)), x)


def test_units_are_row_major_and_their_pixels_channel_last():
    x = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6).float()  # 2 channels, 4 x 6 pixels
    units = Grid((2, 3), (2, 2)).cut(x)
    assert units.shape == (1, 6, 8)
    second = x[0, :, 0:2, 2:4]  # first row of units, second column
    assert torch.equal(units[0, 1], second.permute(1, 2, 0).flatten())


def test_an_input_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"\(30, 32\).*\(32, 32\)"):
        Grid((4, 4), (8, 8)).cut(torch.zeros(1, 3, 30, 32))


def test_take_picks_per_sample():
    x = torch.arange(12.0).reshape(2, 3, 2)
    assert torch.equal(take(x, torch.tensor([[2], [0]])), torch.tensor([[[4.0, 5.0]], [[6.0, 7.0]]]))


def test_positions_follow_the_published_table():
    """Values of the official layout at width 8 on a 2 x 3 grid: [x | y], sines before cosines, 10000^(-i/2)."""
    table = sincos(Grid((2, 3), (1, 1)), 8)
    x, y = 2.0, 1.0  # the last unit: column 2, row 1
    want = [f(p * w) for p in (x, y) for f in (torch.sin, torch.cos) for w in (torch.tensor(1.0), torch.tensor(0.01))]
    want = [torch.sin(torch.tensor(x * w)) for w in (1.0, 0.01)] + [torch.cos(torch.tensor(x * w)) for w in (1.0, 0.01)]
    want += [torch.sin(torch.tensor(y * w)) for w in (1.0, 0.01)] + [
        torch.cos(torch.tensor(y * w)) for w in (1.0, 0.01)
    ]
    torch.testing.assert_close(table[-1], torch.stack(want))


@settings(max_examples=30, deadline=None)
@given(grid=grids, dim=st.sampled_from([12, 24, 50]))
def test_positions_tell_all_units_apart(grid, dim):
    table = sincos(grid, dim)
    assert table.shape == (grid.num_units, dim)
    assert len(torch.unique(table, dim=0)) == grid.num_units
