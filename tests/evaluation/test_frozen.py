"""Nearest neighbours and linear classifiers on frozen features; parity of the linear one with scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from support.clusters import blobs

from unmask import registry
from unmask.errors import UserError
from unmask.evaluation.features import Whitening
from unmask.evaluation.frozen.knn import Knn
from unmask.evaluation.frozen.linear import Linear, fit


@pytest.mark.parametrize("wrong", ["knn(k=0)", "knn(temperature=0)", "linear(C=0)", "linear(C=-1.0)"])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        registry.build("evaluator", wrong)


def test_near_neighbours_weigh_more_and_k_limits_who_votes():
    x = np.array([[1, 0.05], [0, 1], [0.05, 1], [0.1, 1], [0.2, 1]], np.float32)
    y, test_x = np.array([0, 1, 1, 1, 1]), np.array([[1, 0]], np.float32)
    assert registry.build("evaluator", "knn").fit_predict(x, y, test_x) == [0]  # one near against four far
    assert registry.build("evaluator", "knn(temperature=100.0)").fit_predict(x, y, test_x) == [1]
    assert registry.build("evaluator", "knn(k=1, temperature=100.0)").fit_predict(x, y, test_x) == [0]


def test_chunks_of_neighbours_change_nothing(monkeypatch):
    (x, y), (test_x, _) = blobs(apart=0.5), blobs(apart=0.5, seed=1)
    whole = registry.build("evaluator", "knn").fit_predict(x, y, test_x)
    monkeypatch.setattr("unmask.evaluation.frozen.knn.CHUNK", 7 * len(x))
    np.testing.assert_array_equal(whole, registry.build("evaluator", "knn").fit_predict(x, y, test_x))


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


def test_a_weak_penalty_takes_features_that_depend_on_each_other():
    """As of an encoder: few directions, of very different size. In float32 their Hessian would be indefinite."""
    generator = np.random.default_rng(0)
    low = generator.normal(size=(600, 12)) * np.logspace(0, -4, 12)
    x = (low @ generator.normal(size=(12, 192)) + 1e-6 * generator.normal(size=(600, 192))).astype(np.float32)
    y = (low[:, 0] > 0).astype(np.int64)
    for strength in (1.0, 1e3, 1e7):
        answers = Linear(C=strength).fit_predict(x[:500], y[:500], x[500:])
        assert (answers == y[500:]).mean() > 0.9


def test_whitened_features_are_uncorrelated_and_knn_finds_what_a_loud_direction_hides():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    x = rng.normal(0, 1, (400, 6)).astype(np.float32)
    x[:, 0] += 4 * y
    x = (x * [1, 100, 1, 1, 1, 1]) @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
    x = x.astype(np.float32)
    white = Whitening(x)(x)
    covariance = np.cov(white, rowvar=False)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.01
    train, test = slice(0, 200), slice(200, 400)
    plain, whitened = Knn().candidates()
    scores = [float((k.fit_predict(x[train], y[train], x[test]) == y[test]).mean()) for k in (plain, whitened)]
    assert scores[1] > 0.9 > scores[0]
    assert str(whitened) == "knn(k=20, whiten=True)"
    constant = np.ones((5, 3), np.float32)
    assert np.isfinite(Whitening(constant)(constant)).all()
    wide = rng.normal(0, 1, (20, 1100)).astype(np.float32)
    assert Whitening(wide)(wide).shape == (20, 20)
