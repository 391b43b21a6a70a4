"""What `fastopt.torch` raises for arguments, gradients and states that a step cannot use. Nothing is modified then."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from processes import run_python

torch = pytest.importorskip("torch")

from torch_models import assert_params_equal, loop, parameters  # noqa: E402

import fastopt.torch  # noqa: E402


@pytest.fixture
def params():
    return parameters()


FIRST = r"params\[0\]\[0\] must be "
DENSE = FIRST + "contiguous, with its axes in any order"
REFUSALS = [
    (lambda p: p[0], {}, TypeError, "iterable of Tensors"),
    (lambda p: [], {}, ValueError, "empty parameter list"),
    (lambda p: [np.ones(3)], {}, TypeError, "can only optimize Tensors"),
    (lambda p: [p[0] * 2], {}, ValueError, "non-leaf"),
    (lambda p: p, {"lr": -1}, ValueError, r"^lr must be a finite number >= 0, got -1"),
    (lambda p: p, {"lr": "fast"}, TypeError, r"^lr must be a finite number >= 0, got 'fast'"),
    (lambda p: p, {"lr": lambda step: 0.1}, TypeError, r"^lr must be a finite number >= 0, got <function"),
    (lambda p: p, {"lr": torch.ones(2)}, TypeError, r"^lr must be a finite number >= 0, got tensor"),
    (lambda p: p, {"betas": (0.9, 1.0)}, ValueError, r"^betas\[1\] must be a number in \[0, 1\), got 1.0"),
    (lambda p: p, {"eps": float("nan")}, ValueError, r"^eps must be a finite number >= 0, got nan"),
    (lambda p: p, {"amsgrad": 1}, ValueError, r"^amsgrad must be True or False, got 1"),
    (lambda p: p, {"capturable": True}, ValueError, r"^capturable must be False, got True"),
    (lambda p: p, {"differentiable": True}, ValueError, r"^differentiable must be False, got True"),
    (lambda p: p, {"max_grad_norm": 0}, ValueError, r"^max_grad_norm must be a number > 0, got 0"),
    (lambda p: p, {"ema_decay": 1}, ValueError, r"^ema_decay must be a number in \[0, 1\), got 1"),
    (lambda p: p, {"zero_grads": "yes"}, ValueError, r"^zero_grads must be True or False, got 'yes'"),
    (lambda p: p, {"nonfinite": "ignore"}, ValueError, r"^nonfinite must be 'propagate' or 'skip' or 'raise', got"),
    (lambda p: p, {"clip_norm": 1.0}, TypeError, r"Adam has no option 'clip_norm'; did you mean 'max_grad_norm'"),
    (lambda p: [{"params": p, "lr": -1}], {}, ValueError, r"^params\[0\]\['lr'\] must be a finite number >= 0, got -1"),
    (lambda p: [{"params": p, "capturable": True}], {}, ValueError, r"^params\[0\]\['capturable'\] must be False"),
    (lambda p: [p[0], p[1].detach().bfloat16()], {}, TypeError, r"params\[0\]\[1\] must have dtype float32 or float64"),
    (lambda p: [torch.ones(3, dtype=torch.cfloat)], {}, TypeError, "must have dtype .* torch.complex64"),
    (lambda p: [torch.ones(3, dtype=torch.int64)], {}, TypeError, r"params\[0\]\[0\] must have dtype .* torch.int64"),
    (lambda p: [torch.ones(3, device="meta")], {}, TypeError, FIRST + "a tensor on the CPU, got device 'meta'"),
    (lambda p: [torch.ones(3).to_sparse()], {}, TypeError, FIRST + "a dense tensor, got .*sparse_coo"),
    (lambda p: [torch.ones(4, 4)[:, ::2]], {}, ValueError, DENSE),
    (lambda p: [torch.ones(3).expand(4, 3)], {}, ValueError, DENSE),
    (lambda p: [p[0], p[0].detach()], {}, ValueError, r"params\[0\]\[0\] and params\[0\]\[1\] overlap in memory"),
    (lambda p: [{"params": p}, {"params": p[0].detach()}], {}, ValueError, r"and params\[1\]\[0\] overlap"),
    (lambda p: [{"params": p}, {"params": p[:1]}], {}, ValueError, "more than one parameter group"),
]


@pytest.mark.parametrize(("make", "options", "error", "says"), REFUSALS)
def test_constructor_raises(params, make, options, error, says):
    with pytest.raises(error, match=says):
        fastopt.torch.Adam(make(params), **options)


def test_constructor_raises_for_combinations(params):
    for options in ({"nesterov": True}, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, {"dampening": 0.1}):
        with pytest.raises(ValueError, match="must be"):
            fastopt.torch.SGD(params, **options)


def test_constructor_raises_for_tensors_of_inference_mode():
    with torch.inference_mode():
        tensor = torch.ones(3)
    with pytest.raises(TypeError, match=r"params\[0\]\[0\] must be a tensor that autograd tracks"):
        fastopt.torch.Adam([tensor])


def test_a_parameter_twice_in_a_group_warns_as_in_torch_and_raises(params):
    with (
        pytest.warns(UserWarning, match="duplicate parameters"),
        pytest.raises(ValueError, match=r"params\[0\]\[0\] and params\[0\]\[1\] overlap in memory"),
    ):
        fastopt.torch.Adam([params[0], params[0]])


@pytest.mark.parametrize(
    "group", [{"lr": -1}, {"params": torch.ones(2, device="meta")}, {"capturable": True}], ids=["lr", "params", "flag"]
)
def test_a_group_that_raises_is_not_added(params, group):
    optimizer = fastopt.torch.Adagrad(params[:4])
    with pytest.raises((TypeError, ValueError), match=r"params\[1\]"):
        optimizer.add_param_group({"params": params[4:], **group})
    assert len(optimizer.param_groups) == 1
    assert len(optimizer.state) == 4
    loop(optimizer, params[:4], range(2))


@pytest.mark.parametrize(
    ("state", "value", "says"),
    [
        ("exp_avg", torch.zeros(3), r"state\[0\]\[0\]\['exp_avg'\] must have shape \(70, 50\), got \(3,\)"),
        ("exp_avg", torch.zeros(70, 50, device="meta"), r"state\[0\]\[0\]\['exp_avg'\] must be a tensor on the CPU"),
        ("step", torch.tensor(-1.0), r"state\[0\]\[0\]\['step'\] must be a number of steps, got -1.0"),
        ("step", 1.5, r"state\[0\]\[0\]\['step'\] must be a number of steps, got 1.5"),
    ],
)
def test_states_that_raise_change_nothing(params, state, value, says):
    optimizer = fastopt.torch.Adam(params)
    loop(optimizer, params, range(2))
    before = copy.deepcopy(params)
    optimizer.state[params[0]][state] = value
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=says):
            optimizer.step()
    assert_params_equal(params, before)
    assert optimizer.state[params[0]][state] is value


def test_fastopt_does_not_import_torch():
    done = run_python("-c", "import sys, fastopt; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


def negated_lazily(param):
    return torch._neg_view(param.grad)


def sparse(param):
    return torch.ones_like(param).to_sparse()


REFUSED_GRADIENTS = [
    (sparse, TypeError, r"grads\[0\]\[0\] must be a dense tensor, got layout torch.sparse_coo"),
    (negated_lazily, RuntimeError, "negative bit"),
    (lambda param: param.detach(), ValueError, r"grads\[0\]\[0\] and params\[0\]\[0\] overlap in memory"),
]


@pytest.mark.parametrize(("make", "error", "says"), REFUSED_GRADIENTS)
def test_gradients_that_raise_change_nothing(make, error, says):
    params = parameters()
    optimizer = fastopt.torch.Adam(params)
    loop(optimizer, params, range(2))
    before = copy.deepcopy((params, optimizer.state_dict()["state"]))
    params[0].grad = make(params[0])
    with pytest.raises(error, match=says):
        optimizer.step()
    assert_params_equal(params, before[0])
    torch.testing.assert_close(optimizer.state_dict()["state"], before[1], rtol=0, atol=0)
