"""``state_dict`` and ``load_state_dict``: a loaded optimizer continues with the same bits.

Broken states are in ``test_refusals``.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from cases import CASES, hard_numbers, layouts, leaves, same_bits, start_values

import fastopt


@pytest.mark.parametrize("case", CASES, ids=str)
def test_loaded_optimizer_continues_with_the_same_bits(case):
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
    np.testing.assert_equal(saved, kept)  # steps after loading do not change what was loaded


NESTED = {
    "lists and mappings": lambda: [np.zeros(3), {"a": (np.zeros((2, 2)), [np.zeros(1)])}, []],
    "Flats": lambda: {"encoder": fastopt.Flat({"w": (2, 2), "b": 2}), "head": [np.zeros(3), fastopt.Flat({"w": 2})]},
}


def ones_like(params):
    if isinstance(params, fastopt.Flat):
        return fastopt.Flat({name: np.ones_like(view) for name, view in params.items()})
    if isinstance(params, dict):
        return {name: ones_like(item) for name, item in params.items()}
    if isinstance(params, (list, tuple)):
        return type(params)(map(ones_like, params))
    return np.ones_like(params)


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "groups"])
@pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)
def test_state_of_nested_containers_can_be_loaded(make, grouped):
    def built():
        params = make()
        return params, fastopt.AdamW([{"params": params}] if grouped else params, ema_decay=0.5, max_grad_norm=1.0)

    (params, optimizer), (others, other) = built(), built()
    grads = [ones_like(params)] if grouped else ones_like(params)
    optimizer.step(grads)
    other.load_state_dict(optimizer.state_dict())
    for array, copied in zip(leaves(others), leaves(params), strict=True):
        array[...] = copied
    for each in (optimizer, other):
        each.step(grads)
    assert all(map(same_bits, leaves(others), leaves(params)))
    assert all(map(same_bits, leaves(other.state), leaves(optimizer.state)))


@pytest.mark.parametrize("kind", layouts(40))
def test_state_dict_is_plain_and_its_numbers_are_json(kind):
    make, _ = layouts(40)[kind]
    optimizer = fastopt.Adam(make(np.ones(40)), betas=(0.5, 0.75))
    saved = optimizer.state_dict()

    def is_plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
        if isinstance(value, (list, tuple)):
            return all(map(is_plain, value))
        return type(value) in (int, float, bool, str, np.ndarray)

    assert is_plain(saved)
    numbers = {name: value for name, value in saved["param_groups"][0].items() if name != "state"}
    again = json.loads(json.dumps(numbers))
    optimizer.load_state_dict({**saved, "param_groups": [{**again, "state": saved["param_groups"][0]["state"]}]})
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.75)


@pytest.mark.parametrize("case", [case for case in CASES if not callable(case.hyper.get("lr"))], ids=str)
def test_state_dict_can_go_through_an_npz_file(case, tmp_path):
    """There, numbers, flags and strings become arrays without dimensions, and betas an array."""
    params = np.ones(3)
    optimizer, other = case.make(params), case.make(params.copy())
    optimizer.step(np.ones(3))
    saved = optimizer.state_dict()
    (group,) = saved.pop("param_groups")
    states, missed_steps = group.pop("state"), group.pop("missed_steps")  # mappings
    np.savez(tmp_path / "state.npz", **saved, **group, **{f"state/{name}": array for name, array in states.items()})
    with np.load(tmp_path / "state.npz") as found:
        again = {name: found[name] for name in group} | {"state": {name: found[f"state/{name}"] for name in states}}
        again["missed_steps"] = missed_steps
        other.load_state_dict({**{name: found[name] for name in saved}, "param_groups": [again]})
    assert repr(other.state_dict()) == repr(optimizer.state_dict())


def test_hyperparameters_are_loaded_but_not_schedules():
    one, other = fastopt.SGD(np.ones(2), lr=0.25, momentum=0.5), fastopt.SGD(np.ones(2), lr=0.5, momentum=0.75)
    other.load_state_dict(one.state_dict())
    assert (other.lr, other.param_groups[0]["momentum"]) == (0.25, 0.5)
    scheduled = fastopt.SGD(np.ones(2), lr=lambda step: 0.125, momentum=0.75)
    assert scheduled.state_dict()["param_groups"][0]["lr"] is None
    again = fastopt.SGD(np.ones(2), lr=lambda step: 0.375, momentum=0.75)
    again.load_state_dict(scheduled.state_dict())
    assert again.lr == 0.375


def test_loaded_hyperparameters_hold_in_the_next_step():
    params = [np.zeros(1), np.zeros(1)]
    one, other = fastopt.SGD(params[0], lr=1.0), fastopt.SGD(params[1], lr=2.0)
    one.step(np.ones(1))
    one.load_state_dict(other.state_dict())
    one.step(np.ones(1))
    assert params[0][0] == -3.0
    assert one.steps == 1


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


def test_counters_and_grad_scale_are_saved():
    one, other = fastopt.SGD(np.ones(2), nonfinite="skip"), fastopt.SGD(np.ones(2), grad_scale=2.0)
    one.grad_scale = 8
    one.step(np.ones(2))
    one.step(np.full(2, np.nan))
    other.load_state_dict(one.state_dict())
    assert (other.grad_scale, other.steps, other.skipped) == (8.0, 1, 1)


def test_states_keep_their_memory_when_loaded():
    optimizer = fastopt.Adam(np.ones(2))
    before = [state.ctypes.data for state in optimizer.state.values()]
    optimizer.load_state_dict(fastopt.Adam(np.ones(2)).state_dict())
    assert [state.ctypes.data for state in optimizer.state.values()] == before


# Resuming with other hyperparameters


def plateau_at(value):
    plateau = fastopt.schedules.Plateau(value, patience=0)
    plateau.update(1.0)
    plateau.update(1.0)  # a tenth of the value
    return plateau


RATES = {
    "number": lambda: 0.5,
    "schedule": lambda: fastopt.schedules.Cosine(0.25, decay_steps=10),
    "plateau": lambda: plateau_at(2.0),
}
EXPECTED = {  # (saved, own): the rate after loading: the file's number or state, or the optimizer's own rate
    ("number", "number"): 0.5,
    ("number", "schedule"): fastopt.schedules.Cosine(1.0, decay_steps=10)(3),
    ("number", "plateau"): 4.0,
    ("schedule", "number"): 8.0,
    ("schedule", "schedule"): fastopt.schedules.Cosine(1.0, decay_steps=10)(3),
    ("schedule", "plateau"): 4.0,
    ("plateau", "number"): 8.0,
    ("plateau", "schedule"): fastopt.schedules.Cosine(1.0, decay_steps=10)(3),
    ("plateau", "plateau"): 0.2,
}
OWN = {
    "number": lambda: 8.0,
    "schedule": lambda: fastopt.schedules.Cosine(1.0, decay_steps=10),
    "plateau": lambda: fastopt.schedules.Plateau(4.0),
}


@pytest.mark.parametrize("suffix", ["dict", ".npz", ".safetensors"])
@pytest.mark.parametrize(("saved", "own"), EXPECTED)
def test_own_schedule_wins_over_the_saved_rate(saved, own, suffix, tmp_path):
    first, second = np.ones(2), np.ones(2)
    optimizer = fastopt.Adam(first, lr=RATES[saved]())
    for _ in range(3):
        optimizer.step(np.ones(2))
    for keep in (False, True):
        other = fastopt.Adam(second, lr=OWN[own](), eps=1.0)
        if suffix == "dict":
            other.load_state_dict(optimizer.state_dict(), keep_hyperparameters=keep)
        else:
            fastopt.save(tmp_path / f"run{suffix}", optimizer=optimizer)
            fastopt.load(tmp_path / f"run{suffix}", optimizer=other, keep_hyperparameters=keep)
        mine = OWN[own]()
        assert other.lr == ((mine(3) if callable(mine) else mine) if keep else EXPECTED[saved, own])
        assert other.param_groups[0]["eps"] == (1.0 if keep else 1e-8)
        assert other.steps == 3
        assert same_bits(other.state["exp_avg"], optimizer.state["exp_avg"])


def test_kept_flags_and_functions_of_other_hyperparameters():
    saved = fastopt.SGD(np.ones(1), lr=1.0, momentum=0.5, weight_decay=lambda step: 0.5)
    own = fastopt.SGD(np.ones(1), lr=1.0, momentum=lambda step: 0.25, weight_decay=0.125, maximize=True)
    own.load_state_dict(saved.state_dict())
    group = own.param_groups[0]
    assert (group["momentum"](0), group["weight_decay"], group["maximize"]) == (0.25, 0.125, False)
    own = fastopt.SGD(np.ones(1), lr=1.0, momentum=0.75, maximize=True)
    own.load_state_dict(saved.state_dict(), keep_hyperparameters=True)
    assert (own.param_groups[0]["momentum"], own.param_groups[0]["maximize"]) == (0.75, True)


def test_betas_of_which_one_is_a_function_stay():
    saved = fastopt.Adam(np.ones(1), betas=(0.5, 0.75))
    own = fastopt.Adam(np.ones(1), betas=(lambda step: 0.25, 0.875))
    own.load_state_dict(saved.state_dict())
    assert own.param_groups[0]["betas"][1] == 0.875
    assert own.state_dict()["param_groups"][0]["betas"] is None
    saved.load_state_dict(own.state_dict())
    assert saved.param_groups[0]["betas"] == (0.5, 0.75)
