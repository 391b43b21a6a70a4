"""Gradients of the parts of a batch, added up and divided inside the step."""

from __future__ import annotations

import numpy as np
import pytest
from cases import REALS, same_bits

import fastopt

RNG = np.random.default_rng(0)
SHAPES = {"w": (301, 33), "b": (33,)}


def parts(real, count=3):
    return [{name: RNG.normal(0, 1, shape).astype(real) for name, shape in SHAPES.items()} for _ in range(count)]


def model(real):
    rng = np.random.default_rng(1)
    return {name: rng.normal(0, 1, shape).astype(real) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.5, "ema_decay": 0.9}, {"grad_scale": 8.0}])
def test_a_step_of_parts_is_a_step_of_their_sum_over_their_number(real, options):
    one, other = model(real), model(real)
    scale = options.get("grad_scale", 1.0)
    mine = fastopt.AdamW(one, **options)
    sums = fastopt.AdamW(other, **options)
    for count in (3, 1, 3, 2):
        some = parts(real, count)
        for part in some:
            mine.accumulate(part)
        mine.step()
        total = {name: some[0][name].copy() for name in SHAPES}
        for part in some[1:]:
            for name in SHAPES:
                total[name] += part[name]
        sums.grad_scale = scale * count
        sums.step(total)
        assert all(same_bits(one[name], other[name]) for name in SHAPES)
        assert mine.grad_norm == sums.grad_norm
        assert mine.steps == sums.steps
    whole = parts(real, 1)[0]
    mine.step(whole)  # and without parts again
    sums.grad_scale = scale
    sums.step(whole)
    assert all(same_bits(one[name], other[name]) for name in SHAPES)


@pytest.mark.parametrize("kind", ["flat", "list", "groups", "one"])
def test_every_kind_of_parameters(kind):
    arrays = [np.ones(5, np.float32), np.ones((2, 3), np.float32)]
    made = {
        "flat": lambda: fastopt.Flat({"a": arrays[0], "b": arrays[1]}),
        "list": lambda: [a.copy() for a in arrays],
        "groups": lambda: [{"params": [arrays[0].copy()]}, {"params": arrays[1].copy(), "lr": 1.0}],
        "one": arrays[0].copy,
    }[kind]
    params = made()
    optimizer = fastopt.SGD(params, lr=1.0)
    grads = {"groups": [[arrays[0]], arrays[1]]}.get(kind, made())
    for _ in range(4):
        optimizer.accumulate(grads)
    optimizer.step()
    assert all((array == 0).all() for array in optimizer._tree.arrays)


def test_zero_grads_leaves_the_parts_zero():
    params, grads = np.ones(3), np.ones(3)
    optimizer = fastopt.SGD(params, lr=1.0, zero_grads=True)
    for _ in range(2):
        grads += 1
        optimizer.accumulate(grads)
        assert (grads == 0).all()
    optimizer.step()
    assert params.tolist() == [-0.5] * 3


def test_a_part_that_is_not_finite():
    params = np.ones(3)
    optimizer = fastopt.SGD(params, lr=1.0, nonfinite="skip")
    optimizer.accumulate(np.ones(3))
    optimizer.accumulate(np.array([1.0, np.inf, 1.0]))
    optimizer.step()
    assert (optimizer.skipped, params.tolist()) == (1, [1] * 3)
    optimizer.step(np.ones(3))  # nothing of the bad batch is left
    assert params.tolist() == [0] * 3


@pytest.mark.parametrize("options", [{}, {"zero_grads": True}], ids=str)
def test_what_a_step_would_not_take_is_not_added_up_either(options):
    """Nor set to zero: parameters, states, averages, and with ``zero_grads`` gradients that share memory."""
    params = [np.ones(3), np.ones(3)]
    optimizer = fastopt.Momentum(params, lr=1.0, ema_decay=0.9, **options)
    optimizer.step([np.ones(3), np.ones(3)])
    buffers, shared = optimizer.param_groups[0].state, np.ones(5)
    wrong = [params, optimizer.ema, *([buffers[name] for name in buffers])]
    wrong += [[shared[:3], shared[2:]], [shared[:3], shared[:3]]] if options else []
    before = [np.array(array) for thing in wrong for array in thing]
    for thing in wrong:
        with pytest.raises(ValueError, match="overlap in memory"):
            optimizer.accumulate(thing)
    assert all(same_bits(a, b) for a, b in zip(before, [a for thing in wrong for a in thing], strict=True))
    with pytest.raises(TypeError, match="nothing was accumulated"):
        optimizer.step()


def test_refusals():
    params = model(np.float32)
    optimizer = fastopt.SGD(params)
    with pytest.raises(TypeError, match="nothing was accumulated"):
        optimizer.step()
    with pytest.raises(TypeError, match=r"grads\['b'\] must have dtype float32 as its parameter.*, got float64"):
        optimizer.accumulate({"w": params["w"], "b": np.zeros(33)})
    with pytest.raises(TypeError, match="nothing was accumulated"):
        optimizer.step()  # the refused part left nothing
    grads = model(np.float32)
    optimizer.accumulate(grads)
    with pytest.raises(ValueError, match="grads are given, but 1 parts were accumulated"):
        optimizer.step(grads)
    with pytest.raises(RuntimeError, match="1 parts were accumulated"):
        optimizer.state_dict()
    optimizer.step()
    state = optimizer.state_dict()
    optimizer.accumulate(grads)
    optimizer.load_state_dict(state)
    with pytest.raises(TypeError, match="nothing was accumulated"):
        optimizer.step()
