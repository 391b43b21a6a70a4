"""How long does scikit-learn's MLPClassifier take with its own optimizer, and with fastopt's?

A whole ``fit`` on images of digits, and one update of the parameters of such a network.
"""

from __future__ import annotations

from math import prod

import pytest
from peers import FASTOPT

CANDIDATES = [*FASTOPT, "scikit-learn"]
SHAPES = {"digits": [(64, 100), (100, 10), (100,), (10,)], "MNIST": [(784, 100), (100, 10), (100,), (10,)]}
EPOCHS = {"digits": 20, "MNIST": 5}
PARAMETERS = {name: sum(map(prod, shapes)) for name, shapes in SHAPES.items()}


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("dataset", SHAPES)
def test_fit(measure, dataset, solver, candidate):
    row = {"timed": f"fit, {EPOCHS[dataset]} epochs", "data": dataset, "solver": solver}
    arguments = dataset, solver, EPOCHS[dataset]
    measure(candidate, "sklearn_workloads:Fit", *arguments, row=row, elements=PARAMETERS[dataset])


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("dataset", SHAPES)
def test_update(measure, dataset, solver, candidate):
    row = {"timed": "update_params", "data": dataset, "solver": solver}
    arguments = SHAPES[dataset], solver
    measure(candidate, "sklearn_workloads:Update", *arguments, row=row, elements=PARAMETERS[dataset])
