"""Promise: an interrupted training continues with the same bits, and any optimizer of fastopt can be used, copied,
searched over, or refused with a message.
"""

from __future__ import annotations

import copy
import pickle
import re
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn_pairs import assert_same_training, data, distance, pair

import fastopt
import fastopt.sklearn
from fastopt.schedules import Cosine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def decay_of_weights(params, **options):
    """Decay the weight matrices only."""
    coefs, intercepts = params
    groups = [{"params": coefs}, {"params": intercepts, "weight_decay": 0.0}]
    return fastopt.AdamW(groups, weight_decay=0.5, **options)


OPTIMIZERS = {
    "adam": {},
    "sgd": {"solver": "sgd"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.1},
    "class": {"optimizer": fastopt.Adagrad},
    "options": {"optimizer": partial(fastopt.AdamW, amsgrad=True, max_grad_norm=0.5, ema_decay=0.9)},
    "schedule": {"optimizer": partial(fastopt.RMSprop, lr=Cosine(0.01, 40))},
    "groups": {"optimizer": decay_of_weights},
}
COPIES = {
    "as it is": lambda model: model,
    "pickled": lambda model: pickle.loads(pickle.dumps(model)),
    "pickled twice": lambda model: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model)))),
    "copied": copy.deepcopy,
}


def weights(model):
    return [*model.coefs_, *model.intercepts_]


def train(model, kind, epochs, between=lambda model: model):
    """Call ``partial_fit`` a few times."""
    x, y = data(kind)
    classes = {"classes": np.unique(y)} if hasattr(model, "predict_proba") else {}
    for _ in range(epochs):
        model = between(model.partial_fit(x, y, **classes))
    return model


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", ["adam", "sgd", "adaptive"])
def test_partial_fit_has_the_results_of_scikit_learn(name, copied):
    for kind in ("classes", "numbers"):
        ours, theirs = pair(kind, shuffle=False, **OPTIMIZERS[name])
        ours, theirs = train(ours, kind, 8, COPIES[copied]), train(theirs, kind, 8)
        assert_same_training(ours, theirs, data(kind)[0], 1e-13 if name == "adam" else 0.0)
        if name == "adaptive":
            assert ours.optimizer_.lr < ours.learning_rate_init


@pytest.mark.parametrize("copied", list(COPIES)[1:])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_copy_continues_with_the_same_bits(name, copied):
    model = pair("classes")[0].set_params(**OPTIMIZERS[name])
    whole = train(clone(model), "classes", 6)
    half = train(clone(model), "classes", 3)
    before = [array.copy() for array in weights(half)]
    other = train(COPIES[copied](half), "classes", 3)
    assert distance(weights(other), weights(whole)) == 0
    assert distance(weights(half), before) == 0  # the copy has its own arrays and states
    assert distance(weights(train(half, "classes", 3)), weights(whole)) == 0


def test_settings_of_the_fitted_optimizer_are_kept():
    model = train(pair("classes")[0], "classes", 1)
    model.optimizer_.lr = 0.125
    other = pickle.loads(pickle.dumps(model))
    assert (other.optimizer_.lr, other.optimizer_.steps) == (0.125, 6)
    assert (train(other, "classes", 1).optimizer_.lr, other.optimizer_.steps) == (0.125, 12)


def test_optimizer_is_made_once_and_again_only_if_arrays_are_replaced():
    made = []

    def make(params, **options):
        made.append(fastopt.Adam(params, **options))
        return made[-1]

    model = train(pair("classes", max_iter=5)[0].set_params(optimizer=make), "classes", 4)
    assert model.optimizer_ is made[0]
    model.coefs_[0] = model.coefs_[0].copy()
    assert train(model, "classes", 1).optimizer_ is made[1]
    assert len(made) == 2
    x, y = data("classes")
    model.set_params(early_stopping=True).fit(x, y)  # replaces them by the best ones at the end
    assert len(made) == 3
    assert model.optimizer_ is made[3]
    assert [optimizer.steps for optimizer in made] == [4 * 6, 5 * 6, 5 * 6, 5 * 6]


def test_replaced_weights_are_trained_as_in_scikit_learn():
    ours, theirs = (train(model, "numbers", 2) for model in pair("numbers", solver="sgd"))
    for model in (ours, theirs):
        model.coefs_[1] = np.asfortranarray(model.coefs_[1] * 2)
        train(model, "numbers", 2)
    assert_same_training(ours, theirs, data("numbers")[0], 0.0)


def test_set_params_between_calls_of_partial_fit_acts_as_in_scikit_learn():
    """The penalty and the batch size change, the optimizer does not."""
    ours, theirs = (train(model, "numbers", 2) for model in pair("numbers", solver="sgd"))
    changes = {"alpha": 0.5, "batch_size": 10, "learning_rate_init": 0.5, "momentum": 0.1, "solver": "adam"}
    for model in (ours, theirs):
        train(model.set_params(**changes), "numbers", 2)
    assert_same_training(ours, theirs, data("numbers")[0], 0.0)


def test_data_of_another_dtype_in_partial_fit():
    (x, y), (x32, _) = data("classes"), data("classes", np.float32)
    for first, then in ((x, x32), (x32, x)):
        ours, theirs = (
            model.partial_fit(first, y, classes=[0, 1, 2]).partial_fit(then, y) for model in pair("classes")
        )
        assert ours.coefs_[0].dtype == first.dtype
        assert distance(weights(ours), weights(theirs)) <= 12 * np.finfo(np.float32).eps


def test_model_without_its_optimizer_predicts_and_starts_again():
    x, _ = data("classes")
    ours, theirs = (train(model, "classes", 2) for model in pair("classes"))
    size = len(pickle.dumps(ours))
    for model in (ours, theirs):
        del model._optimizer
    ours = pickle.loads(pickle.dumps(ours))
    assert size - len(pickle.dumps(ours)) >= 2 * sum(array.nbytes for array in weights(ours))  # the states
    assert not hasattr(ours, "optimizer_")
    assert_same_training(train(ours, "classes", 2), train(theirs, "classes", 2), x, 1e-13)


def test_pickle_has_about_the_size_of_that_of_scikit_learn():
    sizes = [len(pickle.dumps(train(model, "classes", 1))) for model in pair("classes", hidden_layer_sizes=(300,))]
    assert sizes[0] <= 1.05 * sizes[1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clone_has_the_parameters_and_no_training(name):
    model = train(pair("classes")[0].set_params(**OPTIMIZERS[name]), "classes", 1)
    other = clone(model)
    assert other.get_params().keys() == model.get_params().keys() >= {"optimizer", "solver"}
    assert type(other.optimizer) is type(model.optimizer)
    assert not hasattr(other, "optimizer_")
    assert not hasattr(other, "coefs_")


def test_parameters_are_those_of_scikit_learn_and_the_optimizer():
    for ours, theirs in (pair("classes"), pair("numbers")):
        assert ours.get_params() == {**theirs.get_params(), "optimizer": None}
        assert type(ours)((3,), "tanh").get_params() == {**type(theirs)((3,), "tanh").get_params(), "optimizer": None}


def test_every_optimizer_trains():
    x, y = data("classes")
    for name in fastopt.optimizers.__all__:
        model = pair("classes", max_iter=60)[0].set_params(optimizer=getattr(fastopt, name)).fit(x, y)
        assert type(model.optimizer_) is getattr(fastopt, name)
        assert model.loss_curve_[-1] < 0.9 * model.loss_curve_[0]


def test_optimizer_replaces_the_formula_of_the_solver():
    x, y = data("numbers")
    momentum = partial(fastopt.Momentum, momentum=0.9, nesterov=True)
    ours, theirs = pair("numbers", solver="sgd")
    assert_same_training(clone(ours).set_params(solver="adam", optimizer=momentum).fit(x, y), theirs.fit(x, y), x, 0.0)


def test_groups_have_their_own_hyperparameters():
    model = train(pair("classes")[0].set_params(optimizer=decay_of_weights), "classes", 1)
    assert [group["weight_decay"] for group in model.optimizer_.param_groups] == [0.5, 0.0]
    coefs, intercepts = (group.state["exp_avg"] for group in model.optimizer_.param_groups)
    assert [array.shape for array in coefs] == [array.shape for array in model.coefs_]
    assert [array.shape for array in intercepts] == [array.shape for array in model.intercepts_]


def test_grid_search_in_worker_processes():
    x, y = data("classes")
    choices = {
        "optimizer": [None, fastopt.AdamW, partial(fastopt.SGD, momentum=0.9)],
        "learning_rate_init": [0.01, 0.1],
    }
    searches = [GridSearchCV(pair("classes")[0], choices, cv=2, n_jobs=jobs).fit(x, y) for jobs in (1, 2)]
    scores = [search.cv_results_["mean_test_score"].tolist() for search in searches]
    assert scores[0] == scores[1]
    assert len(set(scores[0])) > 1
    assert distance(*(weights(search.best_estimator_) for search in searches)) == 0
    theirs = GridSearchCV(pair("classes")[1], {"learning_rate_init": [0.01, 0.1]}, cv=2).fit(x, y)
    assert scores[0][::3] == theirs.cv_results_["mean_test_score"].tolist()  # learning_rate_init varies slowest


# Refusals -------------------------------------------------------------------------------------------------------------

OWN_RATE = partial(fastopt.AdamW, lr=0.1)
EXPECTED = "None, a class of fastopt or a function that makes one"
REFUSALS = [
    ({"optimizer": "adamw"}, TypeError, f"optimizer must be {EXPECTED}, got 'adamw'"),
    ({"optimizer": fastopt.SGD(np.zeros(1))}, TypeError, f"optimizer must be {EXPECTED}, got SGD(..."),
    (
        {"optimizer": fastopt.SGD, "solver": "lbfgs"},
        ValueError,
        "solver must be 'adam' or 'sgd' if there is an optimizer, got 'lbfgs'",
    ),
    (
        {"optimizer": OWN_RATE, "learning_rate": "adaptive"},
        ValueError,
        "learning_rate must be 'constant' if optimizer has an lr, got 'adaptive'",
    ),
    ({"solver": "sgd", "momentum": 1.0}, ValueError, "momentum must be a number in [0, 1), got 1.0"),
]
REFUSED_BY_FASTOPT = [  # when scikit-learn has made its arrays
    (
        {"optimizer": lambda params, **options: None},
        TypeError,
        "the result of optimizer must be a fastopt.Optimizer, got 'NoneType'",
    ),
    (
        {"optimizer": partial(fastopt.Adam, beta_1=0.5)},
        TypeError,
        "Adam has no option 'beta_1'; did you mean 'betas'?...",
    ),
]


def refused(model, error, message):
    x, y = data("classes")
    for call in (model.fit, partial(model.partial_fit, classes=np.unique(y)) if model.solver != "lbfgs" else model.fit):
        with pytest.raises(error, match="^" + ".*".join(map(re.escape, message.split("..."))) + "$"):
            call(x, y)


@pytest.mark.parametrize(("params", "error", "message"), REFUSALS)
def test_invalid_parameters_raise_and_change_nothing(params, error, message):
    model = train(pair("classes")[0], "classes", 1).set_params(**params)
    before = copy.deepcopy({name: value for name, value in vars(model).items() if name.endswith("_")})
    solver = model._optimizer
    refused(model, error, message)
    assert model._optimizer is solver
    after = {name: value for name, value in vars(model).items() if name.endswith("_")}
    assert pickle.dumps(after) == pickle.dumps(before)


@pytest.mark.parametrize(("params", "error", "message"), REFUSED_BY_FASTOPT)
def test_factory_that_returns_no_optimizer_raises(params, error, message):
    model = pair("classes")[0].set_params(**params)
    refused(model, error, message)
    train(model.set_params(optimizer=fastopt.SGD), "classes", 1)


def test_scikit_learn_that_keeps_its_optimizer_elsewhere_is_refused(monkeypatch):
    monkeypatch.setattr(fastopt.sklearn._WithOptimizer, "__setattr__", object.__setattr__)
    refused(pair("classes")[0], RuntimeError, "scikit-learn must be a version that fastopt supports, got 1...")
