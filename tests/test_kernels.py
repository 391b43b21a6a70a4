"""The functions of ``fastopt.kernels`` do what the classes do, with the signatures of ``fastopt.reference``."""

from __future__ import annotations

import inspect
from threading import Thread

import numpy as np
import pytest
from cases import CASES, CHUNK, hard_numbers, same_bits, start_values

import fastopt
from fastopt import kernels, optimizers, reference


@pytest.mark.parametrize("size", [0, 1000, 3 * CHUNK + 5])
@pytest.mark.parametrize("real", [np.float32, np.float64], ids=lambda real: real.__name__)
@pytest.mark.parametrize("case", [case for case in CASES if not case.common], ids=str)
def test_function_has_the_bits_of_the_class(case, real, size):
    fastopt.set_num_threads(2)
    start, grad = start_values(size, real), hard_numbers(size, real)
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


@pytest.mark.parametrize("step", [1, 2, 3, 10, 1000, 123457, 2**31 + 1, 2**62 - 1])
def test_coefficients_have_the_bits_of_the_reference_at_any_step(step):
    calls = [
        ("adam", {"betas": (0.0, 1 - 1e-9)}, 2),
        ("adam", {"betas": (0.9, 0.999), "eps_hat": True}, 2),
        ("adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}, 1),
        ("sgd", {"momentum": 0.9, "dampening": 0.1}, 1),
    ]
    for rule, hyperparameters, states in calls:
        ours, wanted = ([np.linspace(1, 2, 5) for _ in range(2 + states)] for _ in range(2))
        getattr(kernels, rule)(*ours, step=step, lr=0.1, **hyperparameters)
        getattr(reference, rule)(*wanted, step=step, lr=0.1, **hyperparameters)
        assert all(map(same_bits, ours, wanted))


def test_arrays_are_passed_by_position_or_name():
    params = [np.zeros(2) for _ in range(3)]
    buffers = [np.ones(2) for _ in range(3)]
    kernels.momentum(params[0], np.ones(2), buffers[0], step=1, lr=1.0)
    kernels.momentum(params[1], grad=np.ones(2), momentum_buffer=buffers[1], step=1, lr=1.0)
    kernels.momentum(momentum_buffer=buffers[2], step=1, grad=np.ones(2), param=params[2], lr=1.0)
    assert params[0].tolist() == params[1].tolist() == params[2].tolist() == [-1.9, -1.9]


def test_axes_may_be_in_any_order():
    param, grad, buffer = (np.asfortranarray(np.arange(6.0).reshape(2, 3)) for _ in range(3))
    kernels.momentum(param, grad, buffer, step=1, lr=1.0, momentum=0.5)
    assert param.tolist() == [[0, -0.5, -1], [-1.5, -2, -2.5]]


# Checked hyperparameters are remembered ------------------------------------------------------------------------------


def test_hyperparameters_that_compare_equal_are_not_confused():
    """0.0 and -0.0 have other bits, 1 is not True, and False is not 0.0."""
    for momentum in (0.0, -0.0, 0.0, -0.0, 0):
        params, grad = [np.array([-0.0]) for _ in range(2)], np.array([-0.0])
        for module, param in zip((kernels, reference), params, strict=True):
            module.momentum(param, grad, np.ones(1), step=1, momentum=momentum, nesterov=True)
        assert same_bits(*params)
    arrays = [np.ones(1) for _ in range(4)]
    for good, bad, error in [
        ({"nesterov": True, "momentum": 0.0}, {"nesterov": 1, "momentum": 0.0}, ValueError),
        ({"nesterov": True, "momentum": 0.0}, {"nesterov": True, "momentum": False}, TypeError),
        ({"lr": 1.0, "scale": 1.0}, {"lr": True, "scale": 1.0}, TypeError),
        ({"lr": 1.0, "scale": 1.0}, {"lr": 1.0, "scale": True}, TypeError),
    ]:
        for _ in range(2):
            kernels.momentum(*arrays[:3], step=1, **good)
            with pytest.raises(error):
                kernels.momentum(*arrays[:3], step=1, **bad)
    kernels.adam(*arrays, step=1, betas=(0.0, 0.5))
    with pytest.raises(TypeError, match=r"^betas\[0\] must be a number in \[0, 1\), got False$"):
        kernels.adam(*arrays, step=1, betas=(False, 0.5))


def test_hyperparameters_that_change_in_place_are_read_in_each_call():
    betas, others = [0.5, 0.75], {name: np.array(0.25) for name in ("lr", "scale", "eps", "weight_decay")}
    mine, wanted = ([np.full(3, 0.5) for _ in range(4)] for _ in range(2))
    for step in (1, 2, 3):
        numbers = {name: float(value) for name, value in others.items()}
        kernels.adam(*mine, step=step, betas=betas, **others)
        reference.adam(*wanted, step=step, betas=tuple(betas), **numbers)
        assert all(map(same_bits, mine, wanted))
        betas[:] = [beta / 2 for beta in betas]
        for value in others.values():
            value[...] *= 0.75


def test_more_sets_of_hyperparameters_than_are_remembered():
    (mine, wanted), grad = ([np.ones(3), np.zeros(3)] for _ in range(2)), np.ones(3)
    for step in range(1, 5):
        for i in range(2 * kernels.KNOWN):
            hyperparameters = {"lr": 0.1 / step, "momentum": i / 20, "nesterov": i % 2 == 0}
            kernels.momentum(mine[0], grad, mine[1], step=step, **hyperparameters)
            reference.momentum(wanted[0], grad, wanted[1], step=step, **hyperparameters)
    assert all(map(same_bits, mine, wanted))


def test_threads_with_different_hyperparameters_do_not_mix():
    def train(module, seed):
        arrays, size = {}, 20_000 if seed % 2 else 10
        arrays["param"], arrays["grad"] = start_values(size, np.float32, seed), np.ones(size, np.float32)
        arrays |= {name: np.zeros(size, np.float32) for name in ("exp_avg", "exp_avg_sq")}
        for step in range(1, 101):
            module.adam(**arrays, step=step, lr=0.1 / (step + seed), scale=1 / (1 + seed), eps=seed / 1000)
        return arrays["param"]

    results = {}
    threads = [Thread(target=lambda seed=seed: results.update({seed: train(kernels, seed)})) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_bits(results[seed], train(reference, seed)) for seed in range(6))


def test_no_array_is_held_after_a_call():
    memory = [bytearray(32) for _ in range(3)]
    kernels.momentum(*(memoryview(own).cast("d") for own in memory), step=1)
    with pytest.raises(ValueError, match="overlap"):
        kernels.momentum(*(memoryview(memory[i]).cast("d") for i in (0, 1, 0)), step=1)
    for own in memory:
        own.extend(b"more")  # BufferError if it were held
