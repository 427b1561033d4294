"""Contracts of every evaluator that there is, and parity of the linear one with scikit-learn."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from unmask import registry
from unmask.errors import UserError
from unmask.evaluation.frozen.linear import Linear, fit

PACKAGE = "evaluator"


def blobs(count=300, classes=4, width=12, apart=4.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width)) * apart
    labels = rng.integers(0, classes, count)
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


@pytest.fixture(params=registry.names(PACKAGE))
def evaluator(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ConvergenceWarning and division by zero among them
        yield registry.build(PACKAGE, request.param)


def test_separable_classes_are_told_apart(evaluator):
    (x, y), (test_x, test_y) = blobs(), blobs(seed=1)
    x.flags.writeable = test_x.flags.writeable = False  # as features mapped from a file are
    assert (evaluator.fit_predict(x, y, test_x) == test_y).mean() > 0.99


def test_shuffled_labels_teach_nothing(evaluator):
    (x, y), (test_x, test_y) = blobs(800, apart=0.0), blobs(800, apart=0.0, seed=1)
    accuracy = (evaluator.fit_predict(x, np.random.default_rng(5).permutation(y), test_x) == test_y).mean()
    assert 0.18 < accuracy < 0.32  # 1 in 4


def test_predictions_repeat_and_do_not_depend_on_the_order_of_rows(evaluator):
    (x, y), (test_x, _) = blobs(apart=0.7), blobs(apart=0.7, seed=1)
    order = np.random.default_rng(0).permutation(len(x))
    one = evaluator.fit_predict(x, y, test_x)
    np.testing.assert_array_equal(one, evaluator.fit_predict(x, y, test_x))
    assert (one == evaluator.fit_predict(x[order], y[order], test_x)).mean() > 0.99  # sums round otherwise
    np.testing.assert_array_equal(one[::-1], evaluator.fit_predict(x, y, test_x[::-1].copy()))


def test_labels_may_be_any_numbers(evaluator):
    (x, y), (test_x, test_y) = blobs(), blobs(seed=1)
    names = np.array([70, 3, 12, 5])
    answers = evaluator.fit_predict(x, names[y], test_x)
    assert (answers == names[test_y]).mean() > 0.99


def test_constant_features_and_zero_rows_do_no_harm(evaluator):
    (x, y), (test_x, test_y) = blobs(), blobs(seed=1)
    dead = [np.full((len(x), 3), value, np.float32) for value in (0, 1e-3)]
    x, test_x = (np.concatenate([part, *dead], axis=1) for part in (x, test_x))
    assert (evaluator.fit_predict(x, y, test_x) == test_y).mean() > 0.99
    x[0] = test_x[0] = 0
    test_x[1:, 12] = 5.0  # alive only in the test split
    assert (evaluator.fit_predict(x, y, test_x)[1:] == test_y[1:]).mean() > 0.9


def test_one_sample_per_class_is_enough_and_one_class_is_no_failure(evaluator):
    x, y = blobs()
    rows = [int(np.flatnonzero(y == label)[0]) for label in range(4)]
    test_x, test_y = blobs(seed=1)
    assert (evaluator.fit_predict(x[rows], y[rows], test_x) == test_y).mean() > 0.9
    assert (evaluator.fit_predict(x[:1], y[:1], test_x) == y[0]).all()
    assert (evaluator.fit_predict(x[:1].repeat(5, 0), np.arange(5) % 2, test_x) < 2).all()  # all samples alike


def test_candidates_are_evaluators_with_settings_of_their_own(evaluator):
    found = [str(candidate) for candidate in evaluator.candidates()]
    assert found
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("wrong", ["knn(k=0)", "knn(temperature=0)", "linear(C=0)", "linear(C=-1.0)"])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        registry.build(PACKAGE, wrong)


def test_near_neighbours_weigh_more_and_k_limits_who_votes():
    x = np.array([[1, 0.05], [0, 1], [0.05, 1], [0.1, 1], [0.2, 1]], np.float32)
    y, test_x = np.array([0, 1, 1, 1, 1]), np.array([[1, 0]], np.float32)
    assert registry.build(PACKAGE, "knn").fit_predict(x, y, test_x) == [0]  # one near against four far
    assert registry.build(PACKAGE, "knn(temperature=100.0)").fit_predict(x, y, test_x) == [1]
    assert registry.build(PACKAGE, "knn(k=1, temperature=100.0)").fit_predict(x, y, test_x) == [0]


def test_chunks_of_neighbours_change_nothing(monkeypatch):
    (x, y), (test_x, _) = blobs(apart=0.5), blobs(apart=0.5, seed=1)
    whole = registry.build(PACKAGE, "knn").fit_predict(x, y, test_x)
    monkeypatch.setattr("unmask.evaluation.frozen.knn.CHUNK", 7 * len(x))
    np.testing.assert_array_equal(whole, registry.build(PACKAGE, "knn").fit_predict(x, y, test_x))


def skewed(count, width, classes=5):
    """Features with principal axes of very different lengths, and labels that they decide only in part."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(count, width)) @ (rng.normal(size=(width, width)) * np.logspace(0, -2, width)[:, None])
    y = (x @ rng.normal(size=(width, classes)) / x.std() + 3 * rng.normal(size=(count, classes))).argmax(1)
    return StandardScaler().fit_transform(x).astype(np.float32), y


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize(("count", "width"), [(1500, 30), (60, 100)])  # also more features than samples
def test_the_linear_minimum_is_scikit_learns(count, width, C):
    x, y = skewed(count, width)
    weight, bias = fit(torch.from_numpy(x), torch.from_numpy(y), C)
    theirs = LogisticRegression(C=C, tol=1e-8, max_iter=10000).fit(x.astype(np.float64), y)
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(weight.numpy(), theirs.coef_, atol=0.01 * scale)
    np.testing.assert_allclose(bias - bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=0.01)


def test_two_classes_are_a_softmax_over_both_so_scikit_learns_c_is_twice_ours():
    x, y = skewed(400, 10, classes=2)
    weight, _ = fit(torch.from_numpy(x), torch.from_numpy(y), 0.02)
    theirs = LogisticRegression(C=0.04, tol=1e-8, max_iter=10000).fit(x.astype(np.float64), y)
    np.testing.assert_allclose((weight[1] - weight[0]).numpy(), theirs.coef_[0], atol=0.01 * np.abs(theirs.coef_).max())


def test_without_the_preconditioner_the_minimum_is_the_same(monkeypatch):
    x, y = skewed(800, 20)
    (one, _), predicted = fit(torch.from_numpy(x), torch.from_numpy(y), 0.1), Linear(0.1).fit_predict(x, y, x)
    monkeypatch.setattr("unmask.evaluation.frozen.linear.WIDE", 1)
    two, _ = fit(torch.from_numpy(x), torch.from_numpy(y), 0.1)
    torch.testing.assert_close(one, two, atol=0.02 * float(one.abs().max()), rtol=0)
    assert (predicted == Linear(0.1).fit_predict(x, y, x)).mean() > 0.99
