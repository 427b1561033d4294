"""What every evaluator of frozen features keeps."""

import warnings

import numpy as np
import pytest
from support.clusters import blobs

from unmask import registry


@pytest.fixture(params=registry.names("evaluator"))
def evaluator(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ConvergenceWarning and division by zero among them
        yield registry.build("evaluator", request.param)


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
