"""Parameter groups and hyperparameters: own values, changes between steps, functions of the step.

What is refused is in ``test_refusals``.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from cases import CASES, Reference, hard_numbers, same_bits, start_values

import fastopt


def test_groups_have_their_own_hyperparameters():
    params = fastopt.Flat({"w": np.ones(2), "b": np.ones(1)})
    optimizer = fastopt.AdamW(
        [{"params": params.select("w"), "weight_decay": 0.5, "lr": lambda step: 1.0}, {"params": params.select("b")}],
        lr=0.0,
        eps=1.0,
        amsgrad=True,
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 1e-2]
    zeros = params.zeros_like()
    optimizer.step([zeros.select("w"), zeros.select("b")])
    assert params.buffer.tolist() == [0.5, 0.5, 1]
    assert [set(state) for state in optimizer.state] == [{"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}] * 2
    assert optimizer.lr == 1.0


def test_groups_may_need_different_kernels():
    a, b = np.zeros(1), np.zeros(1)
    optimizer = fastopt.SGD([{"params": a, "momentum": 0.5}, {"params": b}], lr=1.0)
    for _ in range(2):
        optimizer.step([np.ones(1), np.ones(1)])
    assert (a[0], b[0]) == (-2.5, -2.0)
    assert [list(state) for state in optimizer.state] == [["momentum_buffer"], []]


def test_group_is_a_mapping_that_checks_its_values():
    group = fastopt.SGD(np.ones(1)).param_groups[0]
    assert list(group) == [
        "lr",
        "momentum",
        "dampening",
        "weight_decay",
        "nesterov",
        "maximize",
        "decoupled_weight_decay",
    ]
    assert len(group) == 7
    assert repr(group).startswith("{'lr': 0.001, ")
    group.update(lr=0.5, weight_decay=0.25)
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_changed_hyperparameters_hold_from_the_next_step():
    param = np.zeros(1)
    optimizer = fastopt.SGD(param, lr=1.0)
    optimizer.step(np.ones(1))
    optimizer.param_groups[0]["lr"] = 0.5
    assert optimizer.lr == 0.5
    optimizer.step(np.ones(1))
    optimizer.param_groups[0]["maximize"] = True
    optimizer.step(np.ones(1))
    assert param[0] == -1.0


@pytest.mark.parametrize("value", [0.25, 1, np.float32(0.5), np.array(0.5), np.int64(2)], ids=repr)
def test_lr_can_be_set(value):
    param = np.zeros(1)
    optimizer = fastopt.SGD(param, lr=lambda step: 8.0)
    optimizer.lr = value
    assert optimizer.lr == optimizer.param_groups[0]["lr"] == float(value)
    assert type(optimizer.lr) is float
    optimizer.step(np.ones(1))
    assert param[0] == -float(value)


def test_setting_lr_changes_all_groups():
    params = [np.zeros(1), np.zeros(1)]
    optimizer = fastopt.SGD([{"params": params[0], "lr": 1.0}, {"params": params[1], "lr": 2.0}])
    optimizer.lr = 0.5
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    optimizer.step([np.ones(1), np.ones(1)])
    assert [param[0] for param in params] == [-0.5, -0.5]


def test_lr_can_be_set_to_a_schedule():
    param = np.zeros(1)
    optimizer = fastopt.SGD(param, lr=1.0)
    optimizer.step(np.ones(1))
    optimizer.lr = lambda step: 0.25 * step
    assert optimizer.lr == 0.25
    optimizer.step(np.ones(1))
    assert param[0] == -1.25
    assert optimizer.lr == 0.5


def test_lr_may_be_a_function_of_the_step():
    seen = []

    def schedule(step):
        seen.append(step)
        return np.float32(2.0) ** -step

    param = np.zeros(1)
    optimizer = fastopt.SGD(param, lr=schedule)
    for expected in (-1.0, -1.5, -1.75):
        optimizer.step(np.ones(1))
        assert param[0] == expected
    assert seen == [0, 1, 2]
    assert optimizer.lr == 0.125
    for scalar in (np.array(0.5), np.int64(2), 3):
        fastopt.SGD(param, lr=lambda step, scalar=scalar: scalar).step(np.ones(1))


class OwnCall(fastopt.schedules.Schedule):
    """A schedule that counts from 1."""

    def at(self, step):
        return 0.5**step

    def __call__(self, step):
        return self.at(step + 1)


def python_functions(call):
    """Return the names of the Python functions that run during a call."""
    names = []
    sys.setprofile(lambda frame, event, _: names.append(frame.f_code.co_name) if event == "call" else None)
    try:
        call()
    finally:
        sys.setprofile(None)
    return names


@pytest.mark.parametrize(
    ("options", "functions"),
    [
        ({"max_grad_norm": 1.0, "ema_decay": 0.5}, []),
        ({"lr": fastopt.schedules.Constant(0.1)}, ["at"]),
        ({"ema_decay": fastopt.schedules.Constant(0.5), "lr": lambda step: 0.1}, ["<lambda>", "at"]),
        ({"lr": OwnCall()}, ["__call__", "at"]),
    ],
    ids=str,
)
def test_a_step_runs_no_python_but_functions_of_the_step(options, functions):
    """Python takes most of the time of a small step. The first step sets the hyperparameters."""
    params = fastopt.Flat({"w": 3})
    grads, optimizer = params.zeros_like(), fastopt.AdamW(params, **options)
    for _ in range(2):
        optimizer.step(grads)
        names = python_functions(lambda: optimizer.step(grads))
        assert names == ["<lambda>", "step", "flatten", *functions]
        optimizer.param_groups[0]["lr"] = options.get("lr", 0.25)


def test_schedule_with_its_own_call_is_called_by_it():
    param = np.zeros(1)
    optimizer = fastopt.SGD(param, lr=OwnCall())
    for expected in (-0.5, -0.75):
        optimizer.step(np.ones(1))
        assert param[0] == expected


def test_schedule_may_change_hyperparameters_while_it_is_called():
    """The change holds from the next step on, because this one has begun."""
    param = np.zeros(1)

    def momentum(step):
        optimizer.param_groups[0]["lr"] = 10.0
        return 0.5

    optimizer = fastopt.SGD(param, lr=1.0, momentum=momentum)
    optimizer.step(np.ones(1))
    assert param[0] == -1.0
    optimizer.step(np.ones(1))
    assert param[0] == -16.0


def test_rate_beyond_float32_is_valid_in_float64():
    param = np.ones(4)
    fastopt.SGD(param, lr=1e300).step(np.ones(4))
    assert (param == -1e300).all()


# Groups that come later


def grouped(a, b):
    return [{"w": a}, [b]]


@pytest.mark.parametrize("case", [case for case in CASES if case.common.get("nonfinite") != "raise"], ids=str)
def test_added_group_begins_its_own_steps(case):
    """The bits are those of the reference, whose new tensor has its own number of steps, and the old schedule."""
    old, new = start_values(300, np.float32), start_values(70, np.float32, seed=2)
    wanted = Reference(case, [old, new])
    optimizer, added = case.make({"w": old}), [new]
    for step in range(8):
        grads = [hard_numbers(300, np.float32, step), hard_numbers(70, np.float32, 50 + step)]
        if step == 3:
            optimizer.add_param_group({"params": added})
        wanted.step([grads[0].copy(), grads[1].copy() if step >= 3 else None])
        optimizer.step({"w": grads[0]} if step < 3 else grouped(*grads))
        assert wanted.grad_norm in (None, optimizer.grad_norm)
    assert optimizer.steps == 8
    assert same_bits(old, wanted.tensors[0]["param"])
    assert same_bits(new, wanted.tensors[1]["param"])
    for name in optimizer.state[0]:
        assert same_bits(optimizer.state[0][name]["w"], wanted.tensors[0][name])
        assert same_bits(optimizer.state[1][name][0], wanted.tensors[1][name])


def test_added_group_has_the_arguments_of_the_optimizer_and_its_own_values():
    a, b, c = np.zeros(1), np.zeros(1), fastopt.Flat({"x": 1})
    optimizer = fastopt.SGD(a, lr=1.0, momentum=0.5)
    optimizer.lr = 0.25  # the present value, not the argument
    optimizer.add_param_group({"params": b, "momentum": 0.0})
    optimizer.add_param_group({"params": c, "lr": 2.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 1.0, 2.0]
    optimizer.step([np.ones(1), np.ones(1), fastopt.Flat({"x": np.ones(1)})])
    assert (a[0], b[0], c["x"][0]) == (-0.25, -1.0, -2.0)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step([np.ones(1), None, None])
    assert (a[0], b[0], c["x"][0]) == (-1.75, -1.0, -2.0)


def test_group_may_be_added_between_the_parts_of_a_batch():
    """What was accumulated stays; the new group takes part if a later part contains it."""
    a, b = np.zeros(1), np.zeros(1)
    optimizer = fastopt.SGD(a, lr=1.0)
    optimizer.accumulate(np.ones(1))
    optimizer.add_param_group({"params": b})
    optimizer.accumulate([np.ones(1), np.full(1, 4.0)])
    optimizer.step()
    assert (a[0], b[0]) == (-1.0, -2.0)
    optimizer.accumulate([np.ones(1), None])
    optimizer.step()
    assert (a[0], b[0]) == (-2.0, -2.0)
    assert (optimizer.steps, optimizer.micro_steps) == (2, 3)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_added_groups_are_saved(suffix, tmp_path):
    def make():
        a, b = {"w": np.ones(3)}, np.ones(2)
        optimizer = fastopt.AdamW(a, lr=0.1, ema_decay=0.5)
        return a, b, optimizer

    def run(optimizer, begin, end):
        for step in range(begin, end):
            grad = {"w": np.arange(3.0) + step}
            optimizer.step(grad if len(optimizer.param_groups) == 1 else [grad, np.full(2, 1.0 + step)])

    a, b, optimizer = make()
    run(optimizer, 0, 3)
    optimizer.add_param_group({"params": b, "lr": 0.5})
    run(optimizer, 3, 5)
    fastopt.save(tmp_path / f"run{suffix}", params={"a": a, "b": b}, optimizer=optimizer)
    c, d, other = make()
    with pytest.raises(ValueError, match=r"param_groups'\] must have 1 groups, got 2$"):
        fastopt.load(tmp_path / f"run{suffix}", optimizer=other)
    other.add_param_group({"params": d})
    fastopt.load(tmp_path / f"run{suffix}", params={"a": c, "b": d}, optimizer=other)
    for each in (optimizer, other):
        run(each, 5, 8)
    assert same_bits(a["w"], c["w"])
    assert same_bits(b, d)
    assert other.param_groups[1]["lr"] == 0.5
    assert other.state_dict()["param_groups"][1]["missed_steps"] == {"": 3}


def test_states_of_an_added_group_are_mapped_to_files(tmp_path):
    optimizer = fastopt.Adam(np.ones(2), state_dir=tmp_path)
    optimizer.add_param_group({"params": {"w": np.ones(3)}})
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"exp_avg.npy", "exp_avg_sq.npy", "exp_avg[1]['w'].npy", "exp_avg_sq[1]['w'].npy"}
    with pytest.raises(ValueError, match=r"overlap in memory$"):
        optimizer.add_param_group({"params": optimizer.state[0]["exp_avg"]})
    if os.name == "posix":  # Windows does not delete a file that is mapped
        assert {file.name for file in tmp_path.iterdir()} == names
    optimizer.step([np.ones(2), {"w": np.ones(3)}])


def test_old_groups_still_change_the_optimizer():
    a, b = np.zeros(1), np.zeros(1)
    optimizer = fastopt.SGD(a, lr=1.0)
    group = optimizer.param_groups[0]
    optimizer.add_param_group({"params": b})
    group.update(lr=0.5, maximize=True)
    optimizer.step([np.ones(1), np.ones(1)])
    assert (a[0], b[0]) == (0.5, -1.0)
