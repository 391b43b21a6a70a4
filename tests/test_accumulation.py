"""Gradients of the parts of a batch: their sum, divided by their number inside the step."""

from __future__ import annotations

import numpy as np
import pytest
from cases import REALS, Foreign, same_bits

import fastopt

SHAPES = {"w": (301, 33), "b": (33,)}


def batch_parts(real, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(0, 1, shape).astype(real) for name, shape in SHAPES.items()} for _ in range(count)]


def model(real):
    return batch_parts(real, 1, seed=1)[0]


@pytest.mark.parametrize("real", REALS, ids=lambda real: real.__name__)
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.5, "ema_decay": 0.9}, {"grad_scale": 8.0}], ids=str)
def test_step_after_accumulate_uses_the_mean(real, options):
    """The bits are those of a step with the sum of the parts, whose ``grad_scale`` is the number of parts."""
    one, other = model(real), model(real)
    scale = options.get("grad_scale", 1.0)
    accumulating = fastopt.AdamW(one, **options)
    summing = fastopt.AdamW(other, **options)
    for seed, count in enumerate((3, 1, 3, 2)):
        parts = batch_parts(real, count, seed)
        for part in parts:
            accumulating.accumulate(part)
        accumulating.step()
        total = {name: parts[0][name].copy() for name in SHAPES}
        for part in parts[1:]:
            for name in SHAPES:
                total[name] += part[name]
        summing.grad_scale = scale * count
        summing.step(total)
        assert all(same_bits(one[name], other[name]) for name in SHAPES)
        assert accumulating.grad_norm == summing.grad_norm
        assert accumulating.steps == summing.steps
    whole = batch_parts(real, 1, 9)[0]
    accumulating.step(whole)  # without parts again
    summing.grad_scale = scale
    summing.step(whole)
    assert all(same_bits(one[name], other[name]) for name in SHAPES)


@pytest.mark.parametrize("kind", ["Flat", "list", "nested", "groups", "array"])
def test_accumulate_takes_every_structure(kind):
    a, b = np.ones(5, np.float32), np.ones((2, 3), np.float32)
    make = {
        "Flat": lambda: fastopt.Flat({"a": a, "b": b}),
        "list": lambda: [a.copy(), b.copy()],
        "nested": lambda: {"x": [a.copy(), {"y": (b.copy(),)}]},
        "groups": lambda: [{"params": [a.copy()]}, {"params": b.copy(), "lr": 1.0}],
        "array": a.copy,
    }[kind]
    optimizer = fastopt.SGD(make(), lr=1.0)
    grads = [[a], b] if kind == "groups" else make()
    for _ in range(4):
        optimizer.accumulate(grads)
    optimizer.step()
    assert all((array == 0).all() for array in optimizer._tree.arrays)


def test_zero_grads_zeroes_each_part():
    params, grads = np.ones(3), np.ones(3)
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True)
    for _ in range(2):
        grads += 1
        optimizer.accumulate(grads)
        assert (grads == 0).all()
    optimizer.step()
    assert params.tolist() == [-0.5] * 3


def test_parts_are_discarded_by_a_skipped_step():
    params = np.ones(3)
    optimizer = fastopt.SGD(params, lr=1.0, nonfinite="skip")
    optimizer.accumulate(np.ones(3))
    optimizer.accumulate(np.array([1.0, np.inf, 1.0]))
    optimizer.step()
    assert (optimizer.skipped, params.tolist()) == (1, [1] * 3)
    optimizer.step(np.ones(3))
    assert params.tolist() == [0] * 3


def test_parts_are_discarded_by_a_step_that_raises_for_nonfinite_gradients():
    params = {"w": np.ones(3)}
    optimizer = fastopt.SGD(params, lr=1.0, nonfinite="raise")
    optimizer.accumulate({"w": np.ones(3)})
    optimizer.accumulate({"w": np.array([1.0, 1.0, np.nan])})
    with pytest.raises(FloatingPointError, match=r"^grads\['w'\] must be finite, got nan at index \(2,\)$"):
        optimizer.step()
    optimizer.step({"w": np.ones(3)})
    assert params["w"].tolist() == [0] * 3


def test_parts_are_kept_by_a_step_that_raises_for_another_reason():
    params = np.ones(3)
    optimizer = fastopt.SGD(params, lr=lambda step: rate)
    optimizer.accumulate(np.ones(3))
    rate = -1.0
    with pytest.raises(ValueError, match=r"^lr "):
        optimizer.step()
    rate = 1.0
    optimizer.step()
    assert params.tolist() == [0] * 3


def test_parts_are_discarded_by_load_state_dict():
    params = np.ones(3)
    optimizer = fastopt.SGD(params, lr=1.0)
    state = optimizer.state_dict()
    optimizer.accumulate(np.ones(3))
    optimizer.load_state_dict(state)
    optimizer.step(np.ones(3))
    assert params.tolist() == [0] * 3


def test_refused_part_is_not_counted():
    params = np.ones(3)
    optimizer = fastopt.SGD(params, lr=1.0)
    optimizer.accumulate(np.ones(3))
    for bad in (np.ones(2), params, np.ones(3, np.float32), None):
        with pytest.raises((TypeError, ValueError)):
            optimizer.accumulate(bad)
    optimizer.step()
    assert params.tolist() == [0] * 3


def test_sums_have_the_shape_that_was_checked():
    """A parameter may report other memory later; the optimizer keeps using what it has checked."""
    param = Foreign(np.ones(5000))
    checked = param.array
    optimizer = fastopt.SGD(param, lr=1.0)
    param.array = np.ones(1)
    for _ in range(2):
        optimizer.accumulate(np.ones(5000))
    optimizer.step()
    assert (checked == 0).all()
