"""Gradients, autograd, schedulers, closures, hooks, and the options that ``torch.optim`` does not have."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch.optim import lr_scheduler  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402
from torch_models import (  # noqa: E402
    CLASSES,
    NAMES,
    ONE_OF_EACH,
    PEERS,
    assert_params_agree,
    assert_params_equal,
    ids,
    parameters,
    set_gradients,
)

import fastopt.torch  # noqa: E402

# Gradients


def other_layout(param):
    return param.grad.contiguous().transpose(-1, -2).contiguous().transpose(-1, -2) if param.ndim > 1 else param.grad


def with_gaps(param):
    return torch.stack([param.grad, param.grad], -1)[..., 1]


def expanded(param):
    return torch.ones((), dtype=param.dtype).expand(param.shape)


def part_of_a_graph(param):
    return param.grad * torch.ones(1, requires_grad=True, dtype=param.dtype).squeeze()


@pytest.mark.parametrize("zero_grads", [False, True])
@pytest.mark.parametrize("make", [other_layout, with_gaps, expanded, part_of_a_graph], ids=lambda make: make.__name__)
def test_gradients_may_have_any_layout(make, zero_grads):
    results = []
    for cls, options in ((fastopt.torch.Adam, {"zero_grads": zero_grads}), (torch.optim.Adam, {})):
        params = parameters(torch.float64)
        optimizer = cls(params, **options)
        for step in range(3):
            set_gradients(params, step, {2} if step else ())
            for param in params[step:]:
                if param.grad is not None:
                    param.grad = make(param)
            optimizer.step()
            if "zero_grads" in options:
                assert any(p.grad.any() for p in params if p.grad is not None) == (not zero_grads)
        results.append(params)
    assert_params_agree(*results)


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="gradients have the dtype of their parameter")
def test_gradients_of_another_dtype():
    params = parameters()
    others = copy.deepcopy(params)
    for param in params:
        param.grad_dtype = torch.float64
    optimizer, other = fastopt.torch.Adam(params), fastopt.torch.Adam(others)
    set_gradients(others, 0)
    for param, its in zip(params, others, strict=True):
        param.grad = its.grad.double()
    optimizer.step()
    other.step()
    assert_params_equal(params, others)
    params[0].grad = None
    params[0].grad_dtype = torch.bfloat16
    params[0].grad = torch.ones_like(params[0], dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"grads\[0\]\[0\] must have dtype float32 or float64, got torch.bfloat16"):
        optimizer.step()


def test_no_gradients_at_all():
    params = parameters()
    before = copy.deepcopy(params)
    optimizer = fastopt.torch.Adam(params, max_grad_norm=1.0)
    optimizer.step()
    assert_params_equal(params, before)
    assert optimizer.grad_norm == 0


def test_gradients_are_accumulated_by_backward():
    torch.manual_seed(0)
    models, x = [torch.nn.Linear(5, 3)], torch.randn(16, 5)
    models.append(copy.deepcopy(models[0]))
    for model, cls in zip(models, (fastopt.torch.Adam, torch.optim.Adam), strict=True):
        optimizer = cls(model.parameters())
        for _ in range(5):
            for part in x.chunk(4):
                (model(part).square().mean() / 4).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    assert_params_agree(models[0].parameters(), models[1].parameters())


# Autograd


@pytest.mark.parametrize("cls", [fastopt.torch.SGD, torch.optim.SGD])
def test_backward_through_changed_parameters_raises(cls):
    w = torch.nn.Parameter(torch.ones(3))
    frozen = torch.nn.Parameter(torch.ones(3))
    optimizer = cls([w, frozen])
    w.grad = torch.ones(3)
    loss, other = (w * w).sum(), (frozen * frozen).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    other.backward()  # it had no gradient


def test_gradients_that_are_set_to_zero_are_modified_for_autograd():
    w = torch.nn.Parameter(torch.ones(3))
    w.grad = torch.ones(3)
    factor = torch.ones(3, requires_grad=True)
    loss = (factor * w.grad).sum()
    fastopt.torch.SGD([w], zero_grads=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_skipped_step_modifies_nothing_for_autograd():
    w = torch.nn.Parameter(torch.ones(3))
    w.grad = torch.full((3,), torch.nan)
    loss = (w * w).sum()
    fastopt.torch.SGD([w], nonfinite="skip").step()
    loss.backward()


# Schedulers, closures and hooks

SCHEDULERS = {
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=20),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=30),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.001, 0.05, step_size_up=4),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=2),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, [lambda i: 0.9**i, lambda i: 1 / (1 + i)]),
    "restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=7),
    "sequential": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5), lr_scheduler.ExponentialLR(optimizer, 0.9)],
        milestones=[5],
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # PyTorch 2.6, of its SequentialLR
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("name", "options"), [ONE_OF_EACH[0], ("Adam", {})], ids=["SGD", "Adam"])
def test_schedulers_set_the_hyperparameters(name, options, scheduler):
    results = []
    for make in (CLASSES[name], PEERS[name]):
        params, rates = parameters(torch.float64), []
        optimizer = make([{"params": params[:4]}, {"params": params[4:], "lr": 0.02}], **options)
        schedule = SCHEDULERS[scheduler](optimizer)
        for step in range(30):
            set_gradients(params, step)
            optimizer.step()
            schedule.step(*([1.0] if scheduler == "plateau" else []))
            rates.append([(group["lr"], group.get("momentum"), group.get("betas")) for group in optimizer.param_groups])
        results.append((params, rates))
    assert_params_agree(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert len({str(rate) for rate in results[0][1]}) > 3


def test_schedulers_change_a_tensor_in_place():
    params = parameters(torch.float64)
    others = copy.deepcopy(params)
    optimizer = fastopt.torch.Adam(params, lr=torch.tensor(0.125, dtype=torch.float64))
    other = fastopt.torch.Adam(others, lr=0.125)
    schedules = [lr_scheduler.StepLR(each, 2, gamma=0.5) for each in (optimizer, other)]
    for step in range(9):
        for each, its, schedule in zip((optimizer, other), (params, others), schedules, strict=True):
            set_gradients(its, step)
            each.step()
            schedule.step()
    assert_params_equal(params, others)
    assert optimizer.param_groups[0]["lr"].item() == other.param_groups[0]["lr"]


def test_closures_compute_the_gradients():
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = fastopt.torch.SGD([w], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) == 5.0
    assert w.tolist() == [0.5, 1.0]


def test_hooks_and_profiler():
    w = torch.nn.Parameter(torch.ones(2))
    optimizer, calls = fastopt.torch.Adam([w]), []
    optimizer.register_step_pre_hook(lambda own, args, kwargs: calls.append(("before", w[0].item())))
    optimizer.register_step_post_hook(lambda own, args, kwargs: calls.append(("after", w[0].item())))
    optimizer.register_state_dict_post_hook(lambda own, state: {**state, "more": 1})
    w.grad = torch.ones(2)
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    assert [name for name, _ in calls] == ["before", "after"]
    assert calls[0][1] == 1
    assert calls[1][1] == pytest.approx(0.999)
    assert optimizer.state_dict()["more"] == 1
    assert "Optimizer.step#Adam.step" in {event.name for event in profile.function_events}


# Options of fastopt


@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH, ids=ids(ONE_OF_EACH))
def test_clipping_is_that_of_clip_grad_norm(name, options):
    mine, theirs = parameters(torch.float64), parameters(torch.float64)
    optimizer, peer = CLASSES[name](mine, **options, max_grad_norm=20.0), PEERS[name](theirs, **options)
    for step in range(10):
        set_gradients(mine, step)
        set_gradients(theirs, step)
        before = [param.grad.clone() for param in mine]
        optimizer.step()
        norm = torch.nn.utils.clip_grad_norm_(theirs, 20.0)
        peer.step()
        assert optimizer.grad_norm == pytest.approx(norm.item(), rel=1e-14)
        assert_params_equal(before, [param.grad for param in mine])
    assert_params_agree(mine, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_zero_grads_replaces_zero_grad(name):
    models = [torch.nn.Linear(5, 3)]
    models.append(copy.deepcopy(models[0]))
    optimizers = [CLASSES[name](m.parameters(), zero_grads=zero) for m, zero in zip(models, (True, False), strict=True)]
    for _ in range(4):
        for model, optimizer in zip(models, optimizers, strict=True):
            model(torch.ones(5)).square().sum().backward()
            optimizer.step()
        optimizers[1].zero_grad()
        assert not any(param.grad.any() for param in models[0].parameters())
    assert_params_equal(models[0].parameters(), models[1].parameters())


def test_averages_are_those_of_averaged_model():
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Linear(8, 3)).double(), torch.randn(16, 5).double()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(model)  # the first call copies
    optimizer = fastopt.torch.Adam(model.parameters(), lr=0.1, ema_decay=0.9)
    for _ in range(10):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        averaged.update_parameters(model)
    averages = {name: optimizer.state[param]["ema"] for name, param in model.named_parameters()}
    assert_params_agree(averages.values(), averaged.module.parameters())
    torch.testing.assert_close(torch.func.functional_call(model, averages, (x,)), averaged(x), rtol=1e-12, atol=1e-12)
    peer = torch.optim.Adam(model.parameters())
    peer.load_state_dict(optimizer.state_dict())  # which has states that this class does not know
    peer.step()


def test_nonfinite_gradients():
    for policy in ("propagate", "skip", "raise"):
        params = parameters()
        before = copy.deepcopy(params)
        optimizer = fastopt.torch.SGD(params, lr=0.5, nonfinite=policy)
        set_gradients(params, 0)
        params[6].grad[1, 2, 3, 4] = torch.inf
        if policy == "raise":
            says = r"grads\[0\]\[6\] must be finite, got inf at index \(1, 2, 3, 4\)"
            with pytest.raises(FloatingPointError, match=says):
                optimizer.step()
        else:
            optimizer.step()
        assert optimizer.skipped == (policy == "skip")
        if policy == "propagate":
            assert params[6][1, 2, 3, 4] == -torch.inf
        else:
            assert_params_equal(params, before)
