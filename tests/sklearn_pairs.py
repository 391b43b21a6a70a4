"""Pairs of estimators, fastopt's and scikit-learn's, and the comparison of all that their training leaves behind."""

from __future__ import annotations

import numpy as np
from sklearn import neural_network

import fastopt.sklearn

ROWS, FEATURES = 90, 6
SMALL = {"hidden_layer_sizes": (8, 5), "batch_size": 16, "learning_rate_init": 0.01, "max_iter": 12, "random_state": 0}
SMALL_STEPS = 12 * 6  # of an optimizer, in 12 epochs of 6 batches


def data(kind, dtype=np.float64):
    """Return inputs, and classes, several labels, or one or two numbers for each row."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(dtype)
    hidden = np.tanh(x @ rng.normal(size=(FEATURES, 3))) + rng.normal(0, 0.1, (ROWS, 3))
    targets = {
        "classes": hidden.argmax(axis=1),
        "two classes": hidden[:, 0] > 0,
        "labels": (hidden > 0).astype(int),
        "numbers": hidden[:, 0],
        "pairs": hidden[:, :2],
    }
    return x, targets[kind]


def pair(kind, **params):
    """Return fastopt's and scikit-learn's estimator for a kind of data."""
    name = "MLPRegressor" if kind in ("numbers", "pairs") else "MLPClassifier"
    return [getattr(module, name)(**{**SMALL, **params}) for module in (fastopt.sklearn, neural_network)]


def distance(actual, expected):
    """Return the largest difference of two lists of arrays, relative to the largest element of each array."""
    return max(float(abs(a - e).max() / abs(e).max()) for a, e in zip(actual, expected, strict=True))


def assert_same_training(ours, theirs, x, tolerance):
    """Compare weights, losses and scores; the tolerance is relative to the largest number of an array."""
    assert vars(ours).keys() - {"optimizer"} == vars(theirs).keys()
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "_no_improvement_count"):
        assert getattr(ours, name) == getattr(theirs, name), name
    weights = [[*model.coefs_, *model.intercepts_] for model in (ours, theirs)]
    assert [array.dtype for array in weights[0]] == [array.dtype for array in weights[1]]
    assert distance(*weights) <= tolerance
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        both = [getattr(model, name) for model in (ours, theirs)]
        if None in both:
            assert both == [None, None], name
        else:
            assert distance([np.array(both[0])], [np.array(both[1])]) <= tolerance, name
    if hasattr(ours, "classes_"):
        np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    else:
        assert distance([ours.predict(x)], [theirs.predict(x)]) <= tolerance * FEATURES
