"""state_dict and load_state_dict: what is loaded goes on to the bit, what is broken changes nothing."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from cases import CASES, hard_numbers, layouts, same_bits, start_values

import fastopt


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loaded_optimizer_goes_on_to_the_bit(case):
    size = 100
    start, grad = start_values(size, np.float32), hard_numbers(size, np.float32)
    params = {"w": start.copy(), "b": start[:7].copy()}
    optimizer = case.make(params)
    for _ in range(3):
        optimizer.step({"w": grad.copy(), "b": grad[:7].copy()})
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    others = {name: param.copy() for name, param in params.items()}
    other = case.make(others)
    other.load_state_dict(saved)
    for _ in range(3):
        optimizer.step({"w": grad.copy(), "b": grad[:7].copy()})
        other.step({"w": grad.copy(), "b": grad[:7].copy()})
    assert other.steps == optimizer.steps == 6
    for name, param in params.items():
        assert same_bits(others[name], param)
        for state in optimizer.state:
            assert same_bits(other.state[state][name], optimizer.state[state][name])
            assert same_bits(
                saved["param_groups"][0]["state"][state][name], kept["param_groups"][0]["state"][state][name]
            )


@pytest.mark.parametrize("kind", layouts(40))
def test_a_state_dict_is_plain(kind):
    make, _ = layouts(40)[kind]
    optimizer = fastopt.Adam(make(np.ones(40)), betas=(0.5, 0.75))
    saved = optimizer.state_dict()

    def plain(thing):
        if isinstance(thing, dict):
            return all(isinstance(k, str) and plain(v) for k, v in thing.items())
        if isinstance(thing, (list, tuple)):
            return all(map(plain, thing))
        return type(thing) in (int, float, bool, str, np.ndarray)

    assert plain(saved)
    numbers = {name: value for name, value in saved["param_groups"][0].items() if name != "state"}
    again = json.loads(json.dumps(numbers))
    optimizer.load_state_dict({**saved, "param_groups": [{**again, "state": saved["param_groups"][0]["state"]}]})
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.75)


def test_hyperparameters_are_loaded_and_schedules_kept():
    one, other = fastopt.SGD(np.ones(2), lr=0.25, momentum=0.5), fastopt.SGD(np.ones(2), lr=0.5, momentum=0.75)
    other.load_state_dict(one.state_dict())
    assert (other.lr, other.param_groups[0]["momentum"]) == (0.25, 0.5)
    scheduled = fastopt.SGD(np.ones(2), lr=lambda step: 0.125, momentum=0.75)
    assert "lr" not in scheduled.state_dict()["param_groups"][0]
    again = fastopt.SGD(np.ones(2), lr=lambda step: 0.375, momentum=0.75)
    again.load_state_dict(scheduled.state_dict())
    assert again.lr == 0.375
    with pytest.raises(ValueError, match=r"\['param_groups'\]\[0\] must have the keys .*, got .*'lr'"):
        again.load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match=r"\['param_groups'\]\[0\] must have the keys .*'lr'"):
        one.load_state_dict(again.state_dict())


def test_states_may_be_loaded_from_each_other():
    optimizer = fastopt.Adam(np.ones(2))
    optimizer.step(np.ones(2))
    saved, (m, v) = optimizer.state_dict(), (state.copy() for state in optimizer.state.values())
    saved["param_groups"][0]["state"] = {
        "exp_avg": optimizer.state["exp_avg_sq"],
        "exp_avg_sq": optimizer.state["exp_avg"],
    }
    optimizer.load_state_dict(saved)
    assert same_bits(optimizer.state["exp_avg"], v)
    assert same_bits(optimizer.state["exp_avg_sq"], m)


def test_the_loss_scale_is_saved():
    one, other = fastopt.SGD(np.ones(2)), fastopt.SGD(np.ones(2), grad_scale=2.0)
    one.grad_scale = 8
    other.load_state_dict(one.state_dict())
    assert other.grad_scale == 8.0


def broken(saved):
    """Ways to break a state dict, and what is said of them."""
    group = saved["param_groups"][0]

    def with_group(**changes):
        return {**saved, "param_groups": [{**group, **changes}]}

    def with_state(**changes):
        return with_group(state={**group["state"], **changes})

    w, b = group["state"]["exp_avg"]["w"], group["state"]["exp_avg"]["b"]
    yield [], TypeError, "state_dict must be a mapping, got 'list'"
    yield {"steps": 1}, ValueError, r"state_dict must have the keys \['grad_scale', 'par.*, got \['steps'\]"
    yield {**saved, "steps": -1}, ValueError, r"state_dict\['steps'\] must be an int >= 0, got -1"
    yield (
        {**saved, "steps": 2**62},
        ValueError,
        r"state_dict\['steps'\] must be an int < 2\*\*62, got 461",
    )
    yield {**saved, "steps": 1.5}, TypeError, r"state_dict\['steps'\] must be an int >= 0, got 1.5"
    yield {**saved, "skipped": True}, TypeError, r"state_dict\['skipped'\] must be an int >= 0, got True"
    yield {**saved, "grad_scale": 0}, ValueError, r"state_dict\['grad_scale'\] must be a finite number > 0, got 0"
    yield {**saved, "param_groups": 3}, TypeError, r"state_dict\['param_groups'\] is a 'int'; wants a list"
    yield {**saved, "param_groups": []}, ValueError, r"state_dict\['param_groups'\] has 0 groups; wants 1"
    yield {**saved, "param_groups": [1]}, TypeError, r"state_dict\['param_groups'\]\[0\] must be a mapping, got 'int'"
    yield with_group(momentum=0.9), ValueError, r"\[0\] must have the keys .*, got .*'momentum'"
    yield (
        with_group(lr=-1.0),
        ValueError,
        r"state_dict\['param_groups'\]\[0\]\['lr'\] must be a finite number",
    )
    yield with_group(amsgrad=True), ValueError, r"'amsgrad': True.* would need the states of 'amsgrad', not of 'adam'"
    yield with_group(state=None), TypeError, r"\[0\]\['state'\] must be a mapping, got 'NoneType'"
    yield with_group(state={}), ValueError, r"\['state'\] must have the keys \['exp_avg', 'exp_avg_sq'\], got \[\]"
    yield with_state(exp_avg_sq=[w, b]), TypeError, r"\['state'\]\['exp_avg_sq'\] is a 'list'; wants a mapping with"
    yield with_state(exp_avg_sq={"w": w}), ValueError, r"\['exp_avg_sq'\] lacks \['b'\]"
    yield with_state(exp_avg_sq={"w": w, "b": b[:1]}), ValueError, r"\['exp_avg_sq'\]\['b'\] is float32 of shape \(1,\)"
    yield (
        with_state(exp_avg_sq={"w": w, "b": b.astype("f8")}),
        ValueError,
        r"\['b'\] is float64 of shape \(3,\); wants float32 of \(3,\)",
    )


def test_a_broken_state_dict_changes_nothing():
    params = {"w": np.ones((2, 2), np.float32), "b": np.ones(3, np.float32)}
    optimizer = fastopt.Adam(params)
    optimizer.step({name: np.ones_like(param) for name, param in params.items()})
    before = optimizer.state_dict()
    other = fastopt.Adam({name: param.copy() for name, param in params.items()}, lr=0.5)
    for _ in range(3):
        other.step({name: np.ones_like(param) for name, param in params.items()})
    count = 0
    for state_dict, error, says in broken(other.state_dict()):
        with pytest.raises(error, match=says):
            optimizer.load_state_dict(state_dict)
        after = optimizer.state_dict()
        np.testing.assert_equal(after, before)
        count += 1
    yield_masked = np.ma.array(np.ones(3, np.float32))
    broken_state = other.state_dict()
    broken_state["param_groups"][0]["state"]["exp_avg"]["b"] = yield_masked
    with pytest.raises(TypeError, match=r"\['exp_avg'\]\['b'\] is a masked array"):
        optimizer.load_state_dict(broken_state)
    assert count == 19
