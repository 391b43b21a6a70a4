"""The functions of ``fastopt.kernels`` do what the classes do, with the signatures of ``fastopt.reference``."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from cases import CASES, hard_numbers, same_bits, start_values

from fastopt import kernels, optimizers, reference


@pytest.mark.parametrize("real", [np.float32, np.float64], ids=lambda real: real.__name__)
@pytest.mark.parametrize("case", [case for case in CASES if not case.common], ids=str)
def test_function_has_the_bits_of_the_class(case, real):
    start, grad = start_values(1000, real), hard_numbers(1000, real)
    param = start.copy()
    optimizer = case.make(param)
    arrays = {"param": start.copy(), **{name: state.copy() for name, state in optimizer.state.items()}}
    function = getattr(kernels, case.cls.rule)
    hyperparameters = dict(optimizer.param_groups[0])
    for step in (1, 2, 3):
        hyperparameters["lr"] = optimizer.lr
        optimizer.step(grad)
        function(grad=grad, step=step, **arrays, **hyperparameters)
    assert same_bits(arrays["param"], param)
    for name, state in optimizer.state.items():
        assert same_bits(arrays[name], state)


@pytest.mark.parametrize("rule", sorted({getattr(optimizers, name).rule for name in optimizers.__all__}))
def test_function_has_the_signature_and_docstring_of_the_reference(rule):
    function = getattr(kernels, rule)
    assert inspect.signature(function) == inspect.signature(getattr(reference, rule))
    assert function.__name__ == rule
    assert inspect.getdoc(getattr(reference, rule)) in function.__doc__


@pytest.mark.parametrize("name", optimizers.__all__)
def test_reference_has_the_defaults_of_the_class(name):
    cls = getattr(optimizers, name)
    group = cls(np.zeros(0)).param_groups[0]
    parameters = inspect.signature(getattr(reference, cls.rule)).parameters
    for option, value in group.items():
        if "rule" in vars(cls):
            assert parameters[option].default == value


def test_scale_multiplies_the_gradient():
    param = np.zeros(2)
    kernels.sgd(param, np.ones(2), step=1, scale=0.25, lr=1.0, maximize=True)
    assert param.tolist() == [0.25, 0.25]


def test_arrays_are_passed_by_position_or_name():
    params = [np.zeros(2) for _ in range(3)]
    buffers = [np.ones(2) for _ in range(3)]
    kernels.momentum(params[0], np.ones(2), buffers[0], step=1, lr=1.0)
    kernels.momentum(params[1], grad=np.ones(2), momentum_buffer=buffers[1], step=1, lr=1.0)
    kernels.momentum(momentum_buffer=buffers[2], step=1, grad=np.ones(2), param=params[2], lr=1.0)
    assert params[0].tolist() == params[1].tolist() == params[2].tolist() == [-1.9, -1.9]
