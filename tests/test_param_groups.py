"""Promise 4 for numbers: a hyperparameter or a rate that can't be used is told, and no byte changes."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from test_refusals import leaves, snapshot

import fastopt

HYPERPARAMETERS = [
    (fastopt.SGD, "lr", [-1e-9, math.nan, math.inf, -math.inf]),
    (fastopt.SGD, "lr", ["0.1", None, 1j, [0.1], np.ones(1), np.complex128(1), np.array("x"), True]),
    (fastopt.SGD, "momentum", [-0.1, 1.0, math.nan, "x"]),
    (fastopt.SGD, "dampening", [-0.1, 1.1, math.nan]),
    (fastopt.SGD, "weight_decay", [-1.0, math.nan, math.inf, None]),
    (fastopt.SGD, "nesterov", [True, 1, "yes", None]),
    (fastopt.SGD, "maximize", [1, None]),
    (fastopt.SGD, "decoupled_weight_decay", [0]),
    (fastopt.Momentum, "form", ["pytorch", None, 1]),
    (fastopt.RMSprop, "alpha", [1.0, -0.5, math.nan]),
    (fastopt.RMSprop, "eps", [-1e-30, math.nan, math.inf]),
    (fastopt.RMSprop, "centered", [1, "x"]),
    (fastopt.RMSprop, "eps_inside_sqrt", [np.array(True)]),
    (fastopt.Adam, "betas", [(0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9), (0.9,), 0.9, None, (0.9, "x"), (0.9, 0.9, 0.9)]),
    (fastopt.Adam, "eps", [-1e-30, math.nan]),
    (fastopt.Adam, "amsgrad", [None, 2]),
    (fastopt.AdamW, "max_grad_norm", [0.0, -1.0, math.nan, "1"]),
    (fastopt.AdamW, "grad_scale", [0.0, -1.0, math.nan, math.inf, None]),
    (fastopt.AdamW, "zero_grads", [1, None]),
    (fastopt.AdamW, "ema_decay", [1.0, -0.1, math.nan, "x"]),
    (fastopt.AdamW, "nonfinite", ["ignore", None, True]),
]


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [(cls, name, value) for cls, name, values in HYPERPARAMETERS for value in values],
    ids=lambda x: getattr(x, "__name__", repr(x)),
)
def test_hyperparameters(cls, name, value):
    param = np.ones(4)
    before = snapshot(param)
    with pytest.raises((TypeError, ValueError), match=rf"^{name}(\[\d\])? (must be .*, got|is .*wants) "):
        cls(param, **{name: value})
    if name not in ("max_grad_norm", "grad_scale", "zero_grads", "ema_decay", "nonfinite"):
        with pytest.raises(
            (TypeError, ValueError), match=rf"^(params\[0\]\[')?{name}('\])?(\[\d\])? (must be .*, got|is .*wants) "
        ):
            cls([{"params": param, name: value}])
        group = cls(param).param_groups[0]
        kept = dict(group)
        with pytest.raises((TypeError, ValueError), match=rf"^{name}(\[\d\])? (must be .*, got|is .*wants) "):
            group[name] = value
        assert dict(group) == kept
    assert snapshot(param) == before


def test_nesterov_wants_momentum_without_dampening():
    with pytest.raises(ValueError, match=r"^nesterov is True with momentum 0.9 and dampening 0.1; wants momentum > 0"):
        fastopt.SGD(np.ones(1), momentum=0.9, dampening=0.1, nesterov=True)


def test_dampening_wants_momentum():
    with pytest.raises(
        ValueError, match=r"^dampening is 0.5 with momentum 0, where it does nothing; wants dampening 0"
    ):
        fastopt.SGD(np.ones(1), dampening=0.5)


def test_what_can_not_be_set_says_so():
    optimizer = fastopt.SGD(np.ones(2), momentum=0.5)
    for name in ("steps", "skipped", "lr", "max_grad_norm", "zero_grads", "ema_decay", "nonfinite", "ema", "state"):
        kept = getattr(optimizer, name)
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 3)
        assert getattr(optimizer, name) is kept or getattr(optimizer, name) == kept
    with pytest.raises(TypeError):
        optimizer.state["momentum_buffer"] = np.ones(2)
    with pytest.raises(TypeError):
        optimizer.param_groups[0] = {"lr": 1}
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"^SGD can't be copied or pickled.*state_dict\(\) of this"):
            copier(optimizer)


def test_unknown_options():
    with pytest.raises(TypeError, match=r"^Adam has no option 'momentum'; options are lr, betas, eps, .*nonfinite"):
        fastopt.Adam(np.ones(1), momentum=0.9)
    with pytest.raises(TypeError, match=r"^SGD, in params\[1\], has no option 'betas'; options are lr, momentum"):
        fastopt.SGD([{"params": np.ones(1)}, {"params": np.ones(1), "betas": (0.9, 0.99)}])
    with pytest.raises(TypeError, match=r"^SGD, in params\[0\], has no option 'max_grad_norm'; options are"):
        fastopt.SGD([{"params": np.ones(1), "max_grad_norm": 1.0}])
    with pytest.raises(TypeError, match=r"^SGD has no option 'beta'; options are"):
        fastopt.SGD(np.ones(1)).param_groups[0]["beta"] = 1
    group = fastopt.SGD(np.ones(1)).param_groups[0]
    with pytest.raises(TypeError, match=r"^lr can't be removed"):
        group.pop("lr")
    with pytest.raises(ValueError, match=r"^lr must be .*, got -1"):
        group.update(weight_decay=0.5, lr=-1)
    assert group["weight_decay"] == 0.0
    with pytest.raises(TypeError):
        group |= {"lr": -1}
    assert dict(group)["lr"] == 1e-3
    assert repr(group).startswith("{'lr': 0.001, ")
    with pytest.raises(TypeError, match=r"^params\[1\] is .*wants a group dict with 'params'"):
        fastopt.SGD([{"params": np.ones(1)}, {"lr": 1.0}])


def test_what_needs_other_states_can_not_change():
    optimizer = fastopt.Adam(np.ones(1))
    with pytest.raises(ValueError, match=r"^\{'amsgrad': True\} would need the states of 'amsgrad', not of 'adam'"):
        optimizer.param_groups[0]["amsgrad"] = True
    optimizer.param_groups[0]["lr"] = 0.5
    assert optimizer.lr == 0.5


@pytest.mark.parametrize("given", [math.nan, math.inf, -1.0, "0.1", None, 1j, [0.1], np.ones(2), True], ids=repr)
def test_a_schedule_that_gives_no_rate(given):
    param, grad = np.ones(4), np.ones(4)
    optimizer = fastopt.Adam(param, lr=lambda step: 0.1 if step < 2 else given, zero_grads=True)
    optimizer.step(grad)
    optimizer.step(grad)
    grad[:] = 3
    before = snapshot(param, grad, *leaves(optimizer.state))
    with pytest.raises(
        (TypeError, ValueError), match=r"^lr, as the function .* gives it for step 2, must be a finite number.*, got .*"
    ):
        optimizer.step(grad)
    assert snapshot(param, grad, *leaves(optimizer.state)) == before
    assert optimizer.steps == 2


def test_a_schedule_that_raises():
    def schedule(step):
        raise LookupError("no rate")

    param = np.ones(4)
    with pytest.raises(LookupError, match="no rate"):
        fastopt.Adam(param, lr=schedule).step(np.ones(4))
    assert (param == 1).all()


def test_a_coefficient_beyond_float32():
    param = np.ones(4, np.float32)
    with pytest.raises(ValueError, match=r"^the coefficient 'step_size'.* is 1e\+300; wants .* the range of float32"):
        fastopt.SGD(param, lr=1e300).step(np.ones(4, np.float32))
    assert (param == 1).all()
    fastopt.SGD(np.ones(4), lr=1e300).step(np.ones(4))
    with pytest.raises(ValueError, match=r"^the coefficient 'scale'.* is 1e-47; wants .* the range of float32"):
        fastopt.SGD(param, grad_scale=1e47).step(np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"^the coefficient 'scale'.* is 1.*e-47; wants .* the range of float32"):
        fastopt.SGD(param, max_grad_norm=1e-8).step(np.full(4, 3e38, np.float32))
    assert (param == 1).all()
    param = np.ones(4)
    with pytest.raises(ValueError, match=r"^the coefficient 'scale'.* is inf; wants .* the range of float64"):
        fastopt.SGD(param, grad_scale=5e-324).step(np.ones(4))
    assert (param == 1).all()
