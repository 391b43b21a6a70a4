"""Parameter groups and hyperparameters: own values, changes between steps, functions of the step.

What is refused is in ``test_refusals``.
"""

from __future__ import annotations

import numpy as np
import pytest

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
