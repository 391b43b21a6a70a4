"""The bare calls are the classes, and have the signatures of the reference."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from cases import CASES, hard_numbers, same_bits, start_values

from fastopt import kernels, optimizers, reference


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("case", [case for case in CASES if not case.common], ids=str)
def test_bare_calls_are_the_classes(case, real):
    start, grad = start_values(1000, real), hard_numbers(1000, real)
    param = start.copy()
    optimizer = case.make(param)
    mine = {"param": start.copy(), **{name: np.zeros(1000, real) for name in optimizer.state}}
    call = getattr(kernels, case.cls.rule)
    hyper = dict(optimizer.param_groups[0])
    for step in (1, 2, 3):
        hyper["lr"] = optimizer.lr
        optimizer.step(grad)
        call(grad=grad, step=step, **mine, **hyper)
    assert same_bits(mine["param"], param)
    for name, state in optimizer.state.items():
        assert same_bits(mine[name], state)


@pytest.mark.parametrize("rule", sorted({getattr(optimizers, name).rule for name in optimizers.__all__}))
def test_bare_calls_have_the_signature_of_the_reference(rule):
    call = getattr(kernels, rule)
    assert inspect.signature(call) == inspect.signature(getattr(reference, rule))
    assert call.__name__ == rule
    assert inspect.getdoc(getattr(reference, rule)) in call.__doc__


@pytest.mark.parametrize("name", optimizers.__all__)
def test_the_reference_has_the_defaults_of_the_class(name):
    cls = getattr(optimizers, name)
    group = cls(np.zeros(0)).param_groups[0]
    given = inspect.signature(getattr(reference, cls.rule)).parameters
    for option, value in group.items():
        if "rule" in vars(cls):
            assert given[option].default == value


def test_scale_multiplies_the_gradient():
    param = np.zeros(2)
    kernels.sgd(param, np.ones(2), step=1, scale=0.25, lr=1.0, maximize=True)
    assert param.tolist() == [0.25, 0.25]
