"""Dynamic loss scaling: PyTorch's rule, identical bits with and without a scale, the state."""

from __future__ import annotations

import json
import math

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
    assert scales(overflows, **options) == wanted


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


def test_resumed_run_has_the_same_scales_and_state_is_json():
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
        optimizer.load_state_dict(saved)
        scale.load_state_dict(state)
    assert found == wanted
