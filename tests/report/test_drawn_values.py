"""Which values of a sample are drawn as black and as white."""

import pytest
import torch

from unmask.report.reconstruction import value_range


@pytest.mark.parametrize("value", [-15.9, 0.0, 0.25, 4000.0])
def test_a_constant_sample_has_room_for_errors_around_it(value):
    low, high = value_range(torch.full((1, 8, 8), value))
    assert low == pytest.approx(value - max(1, abs(value) / 10))
    assert high == pytest.approx(value + max(1, abs(value) / 10))


def test_all_others_are_drawn_between_their_quantiles():
    assert value_range(torch.linspace(0, 1, 101)[None]) == pytest.approx((0.01, 0.99))
