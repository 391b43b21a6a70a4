"""Promise: fastopt's estimators train as scikit-learn's do, with "sgd" in every bit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter
from sklearn_pairs import SMALL_STEPS, assert_same_training, data, distance, pair

import fastopt

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SETTINGS = {
    "adam": {},
    "adam, decays": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "adam, early stopping": {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 40, "learning_rate_init": 0.05},
    "adam, until the loss stops": {"tol": 0.02, "n_iter_no_change": 2, "max_iter": 200},
    "sgd": {"solver": "sgd"},
    "sgd, plain": {"solver": "sgd", "momentum": 0.0},
    "sgd, no look-ahead": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.5},
    "sgd, invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "sgd, adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.5,
        "n_iter_no_change": 1,
        "tol": 0.01,
        "max_iter": 60,
    },
    "sgd, early stopping": {"solver": "sgd", "early_stopping": True, "n_iter_no_change": 3, "max_iter": 40},
}


def tolerance(settings, dtype):
    """Return how far weights may be apart.

    The updates of "sgd" are rounded alike. Those of "adam" are not: both libraries round the square of a gradient and
    the quotient differently, and scikit-learn computes the update of float32 weights in float64 if NumPy is 2 or newer.
    Rounding a float32 weight in each step adds up to half a unit in the last place per step and library.
    """
    if settings.get("solver") == "sgd":
        return 0.0
    return 1e-13 if dtype == np.float64 else SMALL_STEPS * float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("kind", ["classes", "two classes", "labels", "numbers", "pairs"])
@pytest.mark.parametrize("name", SETTINGS)
def test_fit_has_the_results_of_scikit_learn(name, kind):
    x, y = data(kind)
    models = pair(kind, **SETTINGS[name])
    for model in models:
        model.fit(x, y)
    assert_same_training(*models, x, tolerance(SETTINGS[name], x.dtype))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh"])
def test_activations(activation):
    x, y = data("numbers")
    models = [model.fit(x, y) for model in pair("numbers", activation=activation)]
    assert_same_training(*models, x, 1e-13)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
@pytest.mark.parametrize("name", ["adam", "adam, decays", "sgd", "sgd, no look-ahead", "sgd, invscaling"])
def test_float32(name, kind):
    x, y = data(kind, np.float32)
    y = y.astype(np.float32) if kind == "numbers" else y
    models = [model.fit(x, y) for model in pair(kind, **SETTINGS[name])]
    assert models[0].coefs_[0].dtype == np.float32
    assert_same_training(*models, x, tolerance(SETTINGS[name], np.float32))


@pytest.mark.parametrize("optimizer", [None, fastopt.Momentum])
def test_targets_of_float64_for_weights_of_float32(optimizer):
    """scikit-learn's gradients and velocities are then of float64."""
    x, y = data("numbers", np.float32)
    ours, theirs = pair("numbers", solver="sgd", nesterovs_momentum=False)
    ours.set_params(optimizer=optimizer).fit(x, y)
    assert ours.coefs_[0].dtype == np.float32
    assert 0 < distance(ours.coefs_, theirs.fit(x, y).coefs_) <= tolerance({}, np.float32)


def test_early_stopping_stops_and_restores_the_best_weights():
    """Otherwise the rows above would not cover it."""
    x, y = data("classes")
    model = pair("classes", **SETTINGS["adam, early stopping"])[0].fit(x, y)
    assert model.n_iter_ < model.max_iter
    assert model.best_validation_score_ > model.validation_scores_[0]
    assert model.coefs_ is model._best_coefs


def test_adaptive_rate_falls_and_policies_apply_to_any_optimizer():
    x, y = data("classes")
    for optimizer in (None, fastopt.AdamW):
        model = pair("classes", **SETTINGS["sgd, adaptive"])[0].set_params(optimizer=optimizer).fit(x, y)
        assert model.optimizer_.lr <= 0.5 / 5
        model.set_params(learning_rate="invscaling").fit(x, y)
        assert model.optimizer_.lr == 0.5 / (model.t_ + 1) ** 0.5


@pytest.mark.parametrize("container", ["csr_matrix", "csc_matrix", "csr_array"])
def test_sparse_inputs(container):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    x, y = data("classes")
    x = getattr(scipy_sparse, container)(np.where(x > 0.5, x, 0))
    models = [model.fit(x, y) for model in pair("classes", solver="sgd")]
    assert_same_training(*models, x, 0.0)


def test_inputs_in_fortran_order_need_no_copies():
    x, y = data("classes")
    models = [model.fit(np.asfortranarray(x), y) for model in pair("classes")]
    assert_same_training(*models, x, 1e-13)
    models[0].set_params(optimizer=fastopt.Adam).fit(np.asfortranarray(x), y)  # without convert_grads


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_sample_weights(kind):
    x, y = data(kind)
    models = pair(kind, solver="sgd")
    if not has_fit_parameter(models[1], "sample_weight"):
        pytest.skip("needs scikit-learn 1.7")
    weights = np.linspace(0.1, 2.0, len(x))
    models = [model.fit(x, y, sample_weight=weights) for model in models]
    assert_same_training(*models, x, 0.0)
    assert distance(models[0].coefs_, pair(kind, solver="sgd")[0].fit(x, y).coefs_) > 1e-3


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    x, y = data("numbers")
    frame = pandas.DataFrame(x, columns=[f"column {i}" for i in range(x.shape[1])])
    models = [model.fit(frame, y) for model in pair("numbers", solver="sgd")]
    assert_same_training(*models, frame, 0.0)
    assert list(models[0].feature_names_in_) == list(frame.columns)


def test_lbfgs_is_that_of_scikit_learn():
    x, y = data("numbers")
    models = [model.fit(x, y) for model in pair("numbers", solver="lbfgs", max_iter=500)]
    assert all((a == b).all() for a, b in zip(*(model.coefs_ for model in models), strict=True))
    assert not hasattr(models[0], "optimizer_")


@pytest.mark.parametrize("name", ["adam", "sgd", "sgd, adaptive"])
def test_warm_start(name):
    x, y = data("classes")
    models = pair("classes", warm_start=True, **{**SETTINGS[name], "max_iter": 4})
    for _ in range(3):
        models = [model.fit(x, y) for model in models]
        assert_same_training(*models, x, tolerance(SETTINGS[name], x.dtype))
    assert models[0].optimizer_.steps == 4 * 6  # fit starts a new optimizer


def test_warm_start_after_lbfgs_and_after_early_stopping():
    x, y = data("numbers")
    models = [model.fit(x, y) for model in pair("numbers", solver="lbfgs", max_iter=500, warm_start=True)]
    for model in models:
        model.loss_curve_, model.best_loss_, model._no_improvement_count = [], np.inf, 0  # lbfgs leaves them out
        model.set_params(solver="sgd", max_iter=3).fit(x, y)
    assert distance(*(model.coefs_ for model in models)) == 0
    models = [model.set_params(warm_start=True, max_iter=3) for model in pair("numbers", early_stopping=True)]
    for _ in range(2):
        models = [model.fit(x, y) for model in models]
        assert_same_training(*models, x, 1e-13)


def test_results_do_not_depend_on_threads():
    x, y = data("classes")
    model = pair("classes")[0]
    results = []
    for threads in (1, 2):
        fastopt.set_num_threads(threads)
        results.append(clone(model).fit(x, y))
    assert distance(*(model.coefs_ for model in results)) == 0
