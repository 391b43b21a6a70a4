"""Promise: the estimators follow scikit-learn's rules for estimators, which it tests by `check_estimator`."""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

import fastopt
from fastopt.sklearn import MLPClassifier, MLPRegressor

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPClassifier(max_iter=100, optimizer=partial(fastopt.AdamW, weight_decay=0.01)),
    MLPRegressor(max_iter=100, solver="sgd", learning_rate="adaptive"),
]


CHECKS = parametrize_with_checks(ESTIMATORS)  # with a generator in old versions, which pytest refuses


@pytest.mark.filterwarnings("ignore")  # the checks train for a few epochs and call deprecated functions
@pytest.mark.parametrize(("estimator", "check"), list(CHECKS.args[1]), **CHECKS.kwargs)
def test_rules_of_scikit_learn(estimator, check):
    check(estimator)
