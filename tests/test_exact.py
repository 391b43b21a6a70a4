"""A step has the bits of the NumPy reference, on every instruction set and number of threads."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from cases import CASES, REALS, SIZES, Reference, hard_numbers, same_bits, start_values

import fastopt
from fastopt import runtime
from fastopt.reference._common import FLUSH_PERIOD

STEPS = FLUSH_PERIOD + 2  # the states are flushed in one of them
SHIFT = 1013  # elements; each step uses another unaligned part of the same numbers
THREADS = [1, 2, 4]


@pytest.fixture(scope="module", params=REALS, ids=lambda real: real.__name__)
def numbers(request):
    """Gradients for all steps of the largest size."""
    return hard_numbers(max(SIZES) + STEPS * SHIFT, request.param)


@pytest.mark.parametrize(
    "sizes", [pytest.param(SIZES[:-1], id="small"), pytest.param(SIZES[-1:], id="large", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_have_the_bits_of_the_reference(case, sizes, numbers):
    for size in sizes:
        compare(case, start_values(size, numbers.dtype.type), [numbers[i * SHIFT :][:size] for i in range(STEPS)])


def compare(case, start, grads):
    """Compare all instruction sets and numbers of threads with the reference."""
    zeroed = case.common.get("zero_grads", False)
    wanted = Reference(case, [start])
    for grad in grads:
        wanted.step([grad.copy()])
    for isa, threads in product(runtime.available_isas(), THREADS):
        fastopt.set_isa(isa)
        fastopt.set_num_threads(threads)
        param = start.copy()
        optimizer = case.make(param)
        for grad in grads:
            mine = grad.copy()
            optimizer.step(mine)
        assert same_bits(mine, np.zeros_like(grad) if zeroed else grad)
        context = f"{start.size} elements, {isa}, {threads} threads"
        assert optimizer.steps == STEPS
        assert same_bits(param, wanted.tensors[0]["param"]), context
        for name, state in optimizer.state.items():
            assert same_bits(state, wanted.tensors[0][name]), f"{name}, {context}"
        if wanted.grad_norm is not None:
            assert optimizer.grad_norm == wanted.grad_norm, context


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_reach_the_extremes(case, numbers):
    """The test above can fail: gradients include zeros, denormals and huge numbers, and parameters move."""
    tiny = np.finfo(numbers.dtype).tiny
    size = 5000
    grad = numbers[:size]
    assert (grad == 0).any()
    assert (np.signbit(grad) & (grad == 0)).any()
    assert ((np.abs(grad) < tiny) & (grad != 0)).any()
    assert np.abs(grad).max() > 1e15
    start = start_values(size, numbers.dtype.type)
    wanted = Reference(case, [start])
    wanted.step([grad.copy()])
    assert (wanted.tensors[0]["param"] != start).mean() > 0.001


@pytest.mark.parametrize("case", CASES, ids=str)
def test_groups_of_tensors_of_both_types_have_the_bits_of_the_reference(case):
    """Tensors of float32 and float64 in two groups."""
    shapes = [(3, 5), (), (0,), (4097,), (70, 70), (1,), (16, 16)]
    starts = [start_values(int(np.prod(s)), REALS[i % 2], seed=i).reshape(s) for i, s in enumerate(shapes)]
    # All within the range of float32: one norm clips them together, and its factor must not vanish in float32.
    grads = [hard_numbers(s.size, np.float32, 9 + i).astype(s.dtype).reshape(s.shape) for i, s in enumerate(starts)]
    wanted = Reference(case, starts)
    for _ in range(3):
        wanted.step([grad.copy() for grad in grads])
    for threads in THREADS:
        fastopt.set_num_threads(threads)
        params = [start.copy() for start in starts]
        optimizer = case.make([{"params": params[:3]}, {"params": dict(zip("abcd", params[3:], strict=True))}])
        for _ in range(3):
            mine = [grad.copy() for grad in grads]
            optimizer.step([mine[:3], dict(zip("abcd", mine[3:], strict=True))])
        states = optimizer.state
        for i, tensor in enumerate(wanted.tensors):
            assert same_bits(params[i], tensor["param"])
            for name in states[0]:
                state = states[0][name][i] if i < 3 else states[1][name]["abcd"[i - 3]]
                assert same_bits(state, tensor[name])
        if wanted.grad_norm is not None:
            assert optimizer.grad_norm == wanted.grad_norm


@pytest.mark.parametrize("case", [case for case in CASES if "nonfinite" not in case.common], ids=str)
def test_nan_and_infinity_propagate_as_in_the_reference(case):
    values = np.array([np.nan, np.inf, -np.inf, 1.0, -0.0] * 9, np.float32)
    start = start_values(values.size, np.float32)
    wanted, param = Reference(case, [start]), start.copy()
    optimizer = case.make(param)
    for grad in (values, values[::-1].copy()):
        wanted.step([grad.copy()])
        optimizer.step(grad.copy())
    assert same_bits(param, wanted.tensors[0]["param"])
    for name, state in optimizer.state.items():
        assert same_bits(state, wanted.tensors[0][name])


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_small_values_are_flushed_as_in_the_reference(case, real):
    """Gradients and decaying parameters from denormal to one, and within a few ulp of the bounds."""
    rng = np.random.default_rng(0)
    least = int(np.log2(float(np.finfo(real).smallest_subnormal)))
    exponents = rng.integers(least, 1, 4000)
    bounds = rng.choice([-53, -95, -121] if real is np.float32 else [-501, -991, -1017], 1000)
    near = 1 + rng.integers(-2, 3, 1000) * float(np.finfo(real).eps)
    sizes = np.concatenate([np.ldexp(rng.uniform(0.5, 1, 4000), exponents), np.ldexp(near, bounds)]).astype(real)
    param = sizes[rng.permutation(5000)] * rng.choice([-1, 1], 5000).astype(real)
    optimizer, wanted = case.make(param), Reference(case, [param])
    for step in range(2 * FLUSH_PERIOD):
        grad = np.roll(sizes, step) if step % 3 else np.zeros_like(sizes)
        wanted.step([grad.copy()])
        optimizer.step(grad.copy())
    assert same_bits(param, wanted.tensors[0]["param"])
    for name, state in optimizer.state.items():
        assert same_bits(state, wanted.tensors[0][name]), name


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("case", [case for case in CASES if case.make(np.zeros(1)).state], ids=str)
def test_no_state_stays_denormal(case, real):
    """Thousands of steps with zero gradients would make every state denormal, where arithmetic is slow."""
    param = start_values(300, real)
    optimizer = case.make(param)
    for step in range(20):
        optimizer.step(np.ldexp(hard_numbers(300, real, step), -40 if real is np.float32 else -400))
    zeros = np.zeros_like(param)
    smallest = np.finfo(real).smallest_normal
    for _ in range(100):
        for _ in range(50):
            optimizer.step(zeros)
        for name, state in optimizer.state.items():
            assert ((state == 0) | (np.abs(state) >= smallest)).all(), name
