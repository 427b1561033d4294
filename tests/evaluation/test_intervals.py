"""Intervals: the values of independent implementations, and coverage as promised."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from unmask.evaluation.intervals import (
    LEVEL,
    Spread,
    bootstrap,
    difference,
    paired_difference,
    repeated_difference,
    spread_of_differences,
    spread_within,
    student,
    wilson,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("correct", "total"), [(8, 10), (0, 10), (10, 10), (431, 2000)])
def test_wilson_limits_solve_the_equation_of_the_score_test(correct, total):
    share, z = correct / total, stats.norm.ppf((1 + LEVEL) / 2)

    def score(p):
        return abs(share - p) - z * math.sqrt(p * (1 - p) / total)

    low, high = wilson(correct, total)
    assert low == pytest.approx(brentq(score, 0, share - 1e-9) if correct else 0, abs=1e-9)
    assert high == pytest.approx(brentq(score, share + 1e-9, 1) if correct < total else 1, abs=1e-9)


def test_student_intervals_are_those_of_scipys_t_test():
    values = [0.93, 0.97, 0.99, 0.95]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(LEVEL)
    assert student(values) == pytest.approx((low, high))
    assert high > 1
    assert student(values, 0, 1) == pytest.approx((low, 1.0))


def test_differences_of_independent_proportions_are_those_that_newcombe_printed():
    assert difference(56, 70, 48, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)  # 1998, table II, example a
    assert difference(9, 10, 3, 10) == pytest.approx((0.6, 0.1705, 0.8090), abs=5e-5)  # example b
    assert difference(10, 10, 0, 10) == pytest.approx((1.0, 0.6075, 1.0), abs=5e-5)  # example h


@pytest.mark.parametrize("counts", [(40, 12, 5, 23), (20, 15, 14, 1), (9, 3, 0, 8), (30, 0, 0, 0)])
def test_paired_differences_join_wilsons_intervals_by_pearsons_correlation(counts):
    first = np.repeat([True, True, False, False], counts)
    second = np.repeat([True, False, True, False], counts)
    both, only_first, only_second, neither = counts
    table = np.array([[both, only_first], [only_second, neither]])
    phi = 0.0
    if (table.sum(axis=0) * table.sum(axis=1)).all():
        positive = both * neither > only_first * only_second  # corrected for continuity, as Yates did, only then
        phi = stats.contingency.association(table, "cramer", correction=positive) * (1 if positive else -1)
    p, q = first.mean(), second.mean()
    (p_low, p_high), (q_low, q_high) = (wilson(int(x.sum()), len(x)) for x in (first, second))
    correlation = np.array([[1, -phi], [-phi, 1]])
    below, above = np.array([p - p_low, q_high - q]), np.array([p_high - p, q - q_low])
    expected = (p - q, p - q - math.sqrt(below @ correlation @ below), p - q + math.sqrt(above @ correlation @ above))
    assert paired_difference(first, second) == pytest.approx(expected)


def test_bootstrap_intervals_are_those_of_scipy():
    values = RNG.gamma(2, size=80)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    interval = bootstrap(lambda rng: float(np.mean(rng.choice(values, 80))), np.random.default_rng(1), 20_000)
    assert interval == pytest.approx((expected.low, expected.high), abs=0.02)


def test_bootstrap_limits_may_be_infinite():
    low, high = bootstrap(lambda rng: math.inf if rng.random() < 0.2 else 1.0, RNG, 200, interpolate=False)
    assert (low, high) == (1.0, math.inf)


def test_wilson_intervals_hold_the_truth_in_about_95_of_100_cases():
    held = [low <= 0.8 <= high for low, high in (wilson(int(k), 60) for k in RNG.binomial(60, 0.8, 2000))]
    assert 0.93 < np.mean(held) < 0.975
    assert wilson(0, 10)[1] > 0.2
    assert wilson(10, 10)[0] < 0.8


def test_intervals_of_a_mean_hold_the_truth_in_about_95_of_100_cases():
    found = [student(list(RNG.normal(0.5, 0.02, 5)), 0, 1) for _ in range(2000)]
    assert 0.935 < np.mean([low <= 0.5 <= high for low, high in found]) < 0.965
    assert student([0.5]) is None
    assert student([0.5, 0.5]) == (0.5, 0.5)
    assert student([0.0, 1.0], 0, 1) == (0.0, 1.0)  # no accuracy lies outside


def test_intervals_of_a_difference_hold_the_truth_and_use_the_pairs():
    shares = [0.55, 0.15, 0.08, 0.22]  # both right, only the first, only the other, neither
    held, width = [], []
    for counts in stats.multinomial(80, shares).rvs(500, random_state=1):
        one = np.repeat([True, True, False, False], counts)
        other = np.repeat([True, False, True, False], counts)
        found, low, high = paired_difference(one, other)
        assert low <= found <= high
        held.append(low <= 0.07 <= high)
        width.append(high - low)
    assert 0.935 < np.mean(held) < 0.98
    apart = wilson(56, 80)[1] - wilson(56, 80)[0] + wilson(50, 80)[1] - wilson(50, 80)[0]
    assert np.mean(width) < 0.8 * apart
    same = np.ones(20, bool)
    assert paired_difference(same, same)[1] < 0 < paired_difference(same, same)[2]


def test_a_spread_over_all_settings_is_of_two_settings_their_own_and_of_more_is_nearer_to_the_truth():
    rng = np.random.default_rng(0)
    two = rng.normal(size=(2, 3))
    pooled = spread_of_differences(two)
    own = spread_within((two[0] - two[1])[None])
    assert (pooled.deviation, pooled.freedom) == (pytest.approx(own.deviation), own.freedom)
    assert spread_of_differences(two[:, :1]) is spread_of_differences(two[:1]) is spread_within(two[:, :1]) is None

    def covered(settings, repetitions):
        """Share of intervals that hold a difference of zero, and their mean width; settings are alike, repetitions
        shift all of them."""
        hits, widths = [], []
        for _ in range(400):
            means = rng.normal(size=(settings, repetitions)) + 3 * rng.normal(size=repetitions)
            spread = spread_of_differences(means)
            half = stats.t.ppf(0.975, spread.freedom) * spread.deviation / repetitions**0.5
            hits.append(abs((means[0] - means[1]).mean()) <= half)
            widths.append(half)
        return np.mean(hits), np.mean(widths)

    (two_hit, two_wide), (five_hit, five_wide) = covered(2, 2), covered(5, 2)
    assert 0.92 < two_hit < 0.98
    assert 0.92 < five_hit < 0.98
    assert five_wide < two_wide / 3


def test_repetitions_take_the_spread_that_is_told():
    first, second = np.zeros((2, 2, 400), bool)
    first[0, :200] = first[1, :220] = second[:, :200] = True
    own, told = repeated_difference(first, second), repeated_difference(first, second, spread=Spread(0.0, 5))
    assert own[0] == told[0] == pytest.approx(0.025)
    images = [paired_difference(a, b) for a, b in zip(first, second)]
    assert told[1] == pytest.approx(0.025 - np.mean([mean - low for mean, low, _ in images]))
    assert own[1] < told[1]
