"""Dynamic loss scaling: PyTorch's rule, identical bits with and without a scale, the state."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
from cases import same_bits

import fastopt
from fastopt import DynamicLossScale

RNG = np.random.default_rng(0)


def make(params, **options):
    return fastopt.Adam(params, lr=0.1, nonfinite="skip", **options)


def scales(overflows, **options):
    """Return the scale after each step, some of which overflow."""
    params = np.ones(3)
    optimizer = make(params)
    scale, found = DynamicLossScale(optimizer, **options), []
    for overflow in overflows:
        optimizer.step(np.full(3, math.inf if overflow else 1.0))
        scale.update()
        found.append(scale.scale)
    return found


OPTIONS = [
    {},
    {"growth_interval": 2, "init_scale": 1000.25, "growth_factor": 1.5, "backoff_factor": 0.1},
    {"growth_interval": 1, "init_scale": 1e-20, "growth_factor": 1.5, "backoff_factor": 0.9},
    {"growth_interval": 3},
    {"growth_interval": 1, "init_scale": 8.0},
    {"growth_interval": 5, "growth_factor": 4.0, "backoff_factor": 0.25},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scale_matches_pytorch(options):
    torch = pytest.importorskip("torch")
    overflows = RNG.random(200) < 0.2
    scaler = torch.amp.GradScaler("cpu", **{"growth_interval": 2000, **options})
    weight, wanted = torch.zeros(3, requires_grad=True), []
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for overflow in overflows:
        scaler.scale(weight.sum())  # otherwise the scale is not initialized
        weight.grad = torch.full((3,), math.inf if overflow else 1.0)
        scaler.step(optimizer)
        scaler.update()
        wanted.append(scaler.get_scale())
    np.testing.assert_allclose(scales(overflows, **options), wanted, rtol=1e-5)  # PyTorch's scale is a float32


def test_scale_stays_within_its_bounds():
    assert max(scales([False] * 300, growth_interval=1)) == 2.0**127
    assert min(scales([True] * 300)) == 2.0**-126


def test_skipped_steps_change_nothing_and_others_match_unscaled_steps():
    params, plain = RNG.normal(0, 1, (2, 1000)).astype(np.float32)
    plain[:] = params
    optimizer, other = make(params, ema_decay=0.9, max_grad_norm=1.0), make(plain, ema_decay=0.9, max_grad_norm=1.0)
    scale = DynamicLossScale(optimizer, init_scale=2.0**20, growth_interval=3)
    for _ in range(30):
        grads = RNG.normal(0, 1, 1000).astype(np.float16)
        with np.errstate(over="ignore"):
            half = (grads.astype(np.float32) * np.float32(scale.scale)).astype(np.float16)
        before = [params.copy(), *(state.copy() for state in optimizer.state.values())]
        optimizer.step(half.astype(np.float32))
        scale.update()
        if np.isfinite(half).all():
            other.step(grads.astype(np.float32))
        else:
            now = [params, *optimizer.state.values()]
            assert all(same_bits(a, b) for a, b in zip(before, now, strict=True))
    assert same_bits(params, plain)
    assert 5 < optimizer.skipped < 25
    assert optimizer.steps == other.steps == 30 - optimizer.skipped


def step(loss_scale, overflow):
    """Do a step that overflows or not, and update the scale."""
    loss_scale.optimizer.step(np.full(3, math.inf if overflow else 1.0))
    loss_scale.update()


def test_steps_are_counted_from_a_loaded_state():
    optimizer = make(np.ones(3))
    loss_scale = DynamicLossScale(optimizer, init_scale=8.0, growth_interval=3)
    states = [optimizer.state_dict()]
    for overflow in (True, False, False):
        step(loss_scale, overflow)
        states.append(optimizer.state_dict())
    loss_scale.load_state_dict({"scale": 8.0, "good_steps": 0})
    optimizer.load_state_dict(states[0])  # with fewer skipped steps
    step(loss_scale, True)
    assert (loss_scale.scale, loss_scale.good_steps) == (4.0, 0)
    optimizer.load_state_dict(states[0])
    optimizer.load_state_dict(states[3])  # with more
    step(loss_scale, False)
    assert (loss_scale.scale, loss_scale.good_steps) == (4.0, 1)
    optimizer.load_state_dict(states[0])  # with fewer steps
    step(loss_scale, False)
    assert (loss_scale.scale, loss_scale.good_steps) == (8.0, 2)
    step(loss_scale, False)
    assert (loss_scale.scale, loss_scale.good_steps) == (16.0, 0)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_find_lr_sets_back_the_scale(error):
    loss_scale = DynamicLossScale(make(np.ones(3)), growth_interval=4)
    step(loss_scale, True)
    step(loss_scale, False)
    before = loss_scale.state_dict()
    assert before == {"scale": 2.0**15, "good_steps": 1}

    def trial_step(i):
        step(loss_scale, i == 2)
        if i == 15 and error:
            raise error
        return 1.0

    with pytest.raises(error) if error else nullcontext():
        fastopt.find_lr(trial_step, loss_scale.optimizer, steps=20)
    assert loss_scale.state_dict() == before
    for _ in range(3):
        step(loss_scale, False)
    assert loss_scale.scale == 2.0**16
    step(loss_scale, True)
    assert loss_scale.scale == 2.0**15


def test_update_that_raises_is_not_lost():
    loss_scale = DynamicLossScale(make(np.ones(3)), init_scale=8.0)
    loss_scale.optimizer.step(np.full(3, math.inf))
    with loss_scale.optimizer._plan, pytest.raises(RuntimeError, match="in use"):
        loss_scale.update()
    assert loss_scale.scale == 8.0
    loss_scale.update()
    assert loss_scale.scale == 4.0


def test_optimizer_does_not_keep_its_loss_scales():
    optimizer = make(np.ones(3))
    DynamicLossScale(optimizer)
    assert not optimizer._loss_scales


@pytest.mark.parametrize("optimizer_first", [True, False])
def test_resumed_run_has_the_same_scales_and_state_is_json(optimizer_first):
    overflows = RNG.random(100) < 0.1
    wanted = scales(overflows, growth_interval=4)
    optimizer = make(np.ones(3))
    scale, found = DynamicLossScale(optimizer, growth_interval=4), []
    for overflow in overflows:
        optimizer.step(np.full(3, math.nan if overflow else 1.0))
        scale.update()
        found.append(scale.scale)
        saved, state = optimizer.state_dict(), json.loads(json.dumps(scale.state_dict()))
        optimizer = make(np.ones(3))
        scale = DynamicLossScale(optimizer, growth_interval=4)
        if optimizer_first:
            optimizer.load_state_dict(saved)
        scale.load_state_dict(state)
        if not optimizer_first:
            optimizer.load_state_dict(saved)
    assert found == wanted
